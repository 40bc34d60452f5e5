"""What a line of the query log says, by CoreDNS's own examples."""

import json
import os
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import logs
from resolver.report.options import COMBINED_FORMAT, COMMON_FORMAT, LogClass, LogOptions
from resolver.report.querylog import QueryLog, QueryRecord, answer_class, answer_type, compile_format
from resolver.report.series import ListenerLabels
from resolver.wire import names
from resolver.wire.question import Question

SOA = b"\0\0\x06\0\x01\0\0\0\x1e\0\x16\0\0" + bytes(20)
NS = b"\0\0\x02\0\x01\0\0\0\x1e\0\x01\0"


def question(
    name: str = "example.org.",
    qtype: int = 1,
    qclass: int = 1,
    *,
    edns_size: int = 4096,
    do: bool = False,
    flags: int = 0x0100,
) -> Question:
    wire = names.from_text(name)
    tail = struct.pack(">HH", qtype, qclass)
    return Question(wire + tail + b"\0", wire + tail, qtype, qclass, b"\x71\x50", flags, edns_size, do, 41, None)


def message(flags: int, answers: Sequence[bytes] = (), authority: Sequence[bytes] = ()) -> bytes:
    asked = question().asked
    counts = struct.pack(">HHHHH", flags, 1, len(answers), len(authority), 0)
    return b"\x71\x50" + counts + asked + b"".join((*answers, *authority))


A = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xc0\0\2\1"
ANSWER = message(0x81A0, [A])


def record(
    client: str = "[::1]:50759", proto: str = "udp", asked: Question | None = None, answer: bytes = ANSWER
) -> QueryRecord:
    return QueryRecord(client, "127.0.0.1", proto, asked or question(), answer, 0.037990251)


LINES = [
    pytest.param(
        COMMON_FORMAT,
        record(),
        '[::1]:50759 - 29008 "A IN example.org. udp 41 false 4096" NOERROR qr,rd,ra,ad 45 0.037990251s',
        id="CoreDNS's example",
    ),
    pytest.param(
        "{common}",
        record(proto="tcp", client="10.0.0.7:1"),
        '10.0.0.7:1 - 29008 "A IN example.org. tcp 41 false 65535" NOERROR qr,rd,ra,ad 45 0.037990251s',
        id="over TCP the buffer is 65535",
    ),
    pytest.param("{combined}", record(), compile_format(COMMON_FORMAT)(record()) + ' "0"', id="combined"),
    pytest.param("{>bufsize}", record(asked=question(edns_size=0)), "512", id="no EDNS: 512"),
    pytest.param("{>do} {>opcode}", record(asked=question(do=True, flags=0x2000)), "true 4", id="do, opcode"),
    pytest.param("{remote} {port} {local}", record(), "[::1] 50759 127.0.0.1", id="addresses"),
    pytest.param("{local}", record()._replace(local=""), "-", id="a wildcard hides the address"),
    pytest.param(
        "{type} {class}", record(asked=question(qtype=65280, qclass=32)), "TYPE65280 CLASS32", id="RFC 3597"
    ),
    pytest.param("{type}", record(asked=question(qtype=257)), "CAA", id="type without a metric label"),
    pytest.param(
        "{name}", record(asked=question("a\\010\\034\\.b.example.")), 'a\\010\\"\\.b.example.', id="escapes"
    ),
    pytest.param("{rcode} {>rflags}", record(answer=message(0x8583)), "NXDOMAIN qr,aa,rd,ra", id="flags"),
    pytest.param("{/log/type} {/log/class}", record(), "NOERROR success", id="metadata of log"),
    pytest.param("{/kubernetes/pod} {unknown} {", record(), "- {unknown} {", id="unknown words stay"),
    pytest.param("{ {proto} } {}", record(), "{ udp } {}", id="braces around"),
    pytest.param("} {proto}", record(), "} udp", id="a lone closing brace"),
    pytest.param("", record(), "", id="nothing"),
    pytest.param("{duration}", record()._replace(duration_s=0.0), "0s", id="no time at all"),
    pytest.param("{duration}", record()._replace(duration_s=2e-7), "0.0000002s", id="no exponent"),
    pytest.param("{duration}", record()._replace(duration_s=30.0), "30s", id="whole seconds"),
]


@pytest.mark.parametrize(("text", "asked", "line"), LINES)
def test_formats(text: str, asked: QueryRecord, line: str) -> None:
    assert compile_format(text)(asked) == line


def test_combined_is_common_and_the_opcode() -> None:
    assert COMBINED_FORMAT == COMMON_FORMAT + ' "{>opcode}"'


CLASSES = [
    pytest.param(message(0x8180, [A]), "NOERROR", "success", id="an answer"),
    pytest.param(message(0x8180, (), [SOA]), "NODATA", "denial", id="NODATA"),
    pytest.param(message(0x8180, (), [NS, SOA]), "NODATA", "denial", id="NODATA, SOA not first"),
    pytest.param(message(0x8180, (), [NS]), "NOERROR", "success", id="a referral"),
    pytest.param(message(0x8180), "NOERROR", "success", id="empty"),
    pytest.param(message(0x8183, (), [SOA]), "NXDOMAIN", "denial", id="NXDOMAIN"),
    pytest.param(message(0x8183, [A], [SOA]), "NXDOMAIN", "denial", id="NXDOMAIN behind a CNAME"),
    pytest.param(message(0x8182), "SERVERERROR", "error", id="SERVFAIL"),
    pytest.param(message(0x8184), "SERVERERROR", "error", id="NOTIMP"),
    pytest.param(message(0x8185), "OTHERERROR", "error", id="REFUSED"),
]


@pytest.mark.parametrize(("answer", "kind", "log_class"), CLASSES)
def test_classes(answer: bytes, kind: str, log_class: str) -> None:
    assert (answer_type(answer), answer_class(answer)) == (kind, log_class)


@given(st.binary(max_size=80), st.integers(0, 65535))
def test_classes_of_any_bytes(rest: bytes, authorities: int) -> None:
    header = struct.pack(">HHHHHH", 1, 0x8180, 1, 0, authorities, 0)
    assert answer_class(header + rest) in {"success", "denial"}


@given(st.text(alphabet="{}>/ a-z{type}{name}", max_size=60))
def test_any_format_compiles_and_fills(text: str) -> None:
    assert isinstance(compile_format(text)(record()), str)


class Listener:
    labels = ListenerLabels("dns://[fd00::1]:53", "udp", "2")

    def client_text(self, client: object) -> str:
        return str(client)


class Lines(logs.Log):
    """Lines are kept for the test."""

    def __init__(self, log_format: logs.Format = "text") -> None:
        super().__init__(log_format=log_format)
        self.said: list[tuple[str, logs.Fields]] = []

    def line(
        self,
        level: logs.Level,
        text: str,
        *,
        plugin: str = "",
        detail: str = "",
        channel: str = "",
        fields: logs.Fields,
    ) -> None:
        assert (level, plugin, detail, channel) == ("info", "", "", "query")
        self.said.append((text, fields))


def said(directives: Sequence[LogOptions], name: str, answer: bytes = ANSWER, log: Lines | None = None) -> Lines:
    log = log or Lines()
    before = logs.use(log)
    try:
        QueryLog(directives).answered(Listener(), "[fd00::7]:4", question(name), answer, 0.5)
    finally:
        logs.use(before)
    return log


def options(classes: Sequence[LogClass] = ("all",), *zones: str, text: str = "{name}") -> LogOptions:
    return LogOptions(names=zones or (".",), format=text, classes=frozenset(classes))


RULES = [
    pytest.param([options()], "a.example.", ANSWER, ["a.example."], id="all names"),
    pytest.param([options(["all"], "Example.")], "b.example.", ANSWER, ["b.example."], id="names fold case"),
    pytest.param([options(["all"], "other.")], "b.example.", ANSWER, [], id="other names"),
    pytest.param([options(["all"], "ample.")], "b.example.", ANSWER, [], id="a label is whole or not at all"),
    pytest.param([options(["denial"])], "a.", ANSWER, [], id="class not wanted"),
    pytest.param([options(["denial", "error"])], "a.", message(0x8182), ["a."], id="class wanted"),
    pytest.param([options(["denial", "all"])], "a.", ANSWER, ["a."], id="all beside others is all"),
    pytest.param(
        [options(["error"], "b."), options(text="second")], "a.b.", ANSWER, [], id="the first match decides"
    ),
    pytest.param([options(["all"], "b."), options(text="second")], "c.", ANSWER, ["second"], id="second rule"),
]


@pytest.mark.parametrize(("directives", "name", "answer", "lines"), RULES)
def test_rules(directives: Sequence[LogOptions], name: str, answer: bytes, lines: list[str]) -> None:
    log = said(directives, name, answer)
    assert [text for text, _ in log.said] == lines
    assert all(not fields for _, fields in log.said), "fields cost time, and text has no use for them"


def test_json_has_typed_fields() -> None:
    ((text, fields),) = said([options()], "a.example.", log=Lines("json")).said
    assert text == "a.example."
    assert json.loads(json.dumps(fields)) == {
        "client_ip": "fd00::7", "client_port": 4, "proto": "udp", "id": 29008, "opcode": 0,
        "qname": "a.example.", "qtype": "A", "qclass": "IN", "do": False, "bufsize": 4096,
        "request_size_bytes": 41, "rcode": "NOERROR", "flags": "qr,rd,ra,ad", "response_size_bytes": 45,
        "duration_seconds": 0.5,
    }  # fmt: skip


def test_a_name_cannot_forge_a_line() -> None:
    ((text, _),) = said([options()], "a\\010[ERROR]\\032x.example.").said
    assert text.isprintable()
    assert text == "a\\010[ERROR]\\032x.example."


@given(st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=3))
def test_any_name_is_one_printable_word(labels: list[bytes]) -> None:
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    asked = question()._replace(key=wire + os.urandom(5))
    text = compile_format("{name}")(record(asked=asked))
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
