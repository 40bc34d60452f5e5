"""The query log: one line for each question and its answer, as the `log` directive says (CoreDNS plugin/log).

A format is compiled once, to a function of a `QueryRecord`; what a line costs after that is its placeholders.
Names are in presentation form, lower case, so that no byte of a name can end or forge a line. How many lines a
second reach standard output is bounded in `logs`.

Where CoreDNS's documents and its code differ we follow the documents: NXDOMAIN is a denial also when a CNAME
stands in front of it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from resolver import logs
from resolver.errors import Malformed
from resolver.report.options import COMBINED_FORMAT, COMMON_FORMAT, LogOptions
from resolver.report.series import RCODE_NAMES, TYPE_NAMES, ListenerLabels
from resolver.wire import names
from resolver.wire.header import HEADER, HEADER_BYTES, NXDOMAIN, OPCODE_MASK, RCODE_MASK, TYPE_SOA
from resolver.wire.question import Question
from resolver.wire.ttls import skip_name

EMPTY = "-"
"""What stands for a value that is not there (CoreDNS pkg/replacer EmptyValue)."""

MORE_TYPE_NAMES = {
    13: "HINFO", 17: "RP", 29: "LOC", 35: "NAPTR", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 44: "SSHFP",
    51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC",
    63: "ZONEMD", 99: "SPF", 256: "URI", 257: "CAA",
}  # fmt: skip
CLASS_NAMES = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
FLAG_NAMES = (
    (0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0040, "z"),
    (0x0020, "ad"), (0x0010, "cd"),
)  # fmt: skip


class QueryRecord(NamedTuple):
    """One question and its answer, as they crossed the socket.

    client   `10.0.0.7:41832`, `[fd00::7]:41832`.
    local    The address that was asked, with brackets if it is IPv6; empty where a wildcard hides it.
    proto    `udp` or `tcp`.
    answer   The whole message as it was sent.
    """

    client: str
    local: str
    proto: str
    question: Question
    answer: bytes
    duration_s: float


Formatter = Callable[[QueryRecord], str]


def type_name(qtype: int) -> str:
    """Return `A`, or `TYPE65280` for what has no name here (RFC 3597 section 5)."""
    return TYPE_NAMES.get(qtype) or MORE_TYPE_NAMES.get(qtype) or f"TYPE{qtype}"


def class_name(qclass: int) -> str:
    """Return `IN`, or `CLASS32` (RFC 3597 section 5)."""
    return CLASS_NAMES.get(qclass) or f"CLASS{qclass}"


def rcode_of(record: QueryRecord) -> str:
    """Return the rcode in the header; an extended one (BADVERS) never gets here."""
    return RCODE_NAMES[record.answer[3] & RCODE_MASK]


def flags_of(record: QueryRecord) -> str:
    """Return the answer's flags as `qr,rd,ra`."""
    flags = int.from_bytes(record.answer[2:4], "big")
    return ",".join(name for bit, name in FLAG_NAMES if flags & bit)


def buffer_size(record: QueryRecord) -> int:
    """Return what the client can take: its EDNS size, at least 512, or 65535 over TCP."""
    return 65535 if record.proto == "tcp" else max(512, record.question.edns_size)


def duration_text(duration_s: float) -> str:
    """Return `0.000120082s`: no exponent, no needless zeros."""
    digits = f"{duration_s:.9f}".rstrip("0").rstrip(".")
    return digits + "s"


def answer_type(answer: bytes) -> str:
    """Return CoreDNS's `{/log/type}` of a message: NOERROR, NODATA, NXDOMAIN, SERVERERROR or OTHERERROR."""
    _, flags, questions, answers, authorities, _ = HEADER.unpack_from(answer)
    rcode = flags & RCODE_MASK
    if rcode == NXDOMAIN:
        return "NXDOMAIN"
    if rcode:
        return "SERVERERROR" if rcode in {2, 4} else "OTHERERROR"
    return "NODATA" if not answers and authorities and _has_soa(answer, questions, authorities) else "NOERROR"


_CLASS_OF_TYPE = {"NOERROR": "success", "NODATA": "denial", "NXDOMAIN": "denial"}


def answer_class(answer: bytes) -> str:
    """Return `success`, `denial` or `error`."""
    return _CLASS_OF_TYPE.get(answer_type(answer), "error")


def _has_soa(answer: bytes, questions: int, authorities: int) -> bool:
    """Tell whether the authority section of a message without answers has an SOA record."""
    position = HEADER_BYTES
    try:
        for _ in range(questions):
            position = skip_name(answer, position) + 4
        for _ in range(authorities):
            position = skip_name(answer, position)
            if int.from_bytes(answer[position : position + 2], "big") == TYPE_SOA:
                return True
            position += 10 + int.from_bytes(answer[position + 8 : position + 10], "big")
    except (Malformed, IndexError):
        pass  # cut short on purpose: truncated for this client
    return False


_PLACEHOLDERS: dict[str, Formatter] = {
    "{type}": lambda record: type_name(record.question.qtype),
    "{name}": lambda record: names.to_text(record.question.name),
    "{class}": lambda record: class_name(record.question.qclass),
    "{proto}": lambda record: record.proto,
    "{size}": lambda record: str(record.question.size_bytes),
    "{remote}": lambda record: record.client.rpartition(":")[0],
    "{port}": lambda record: record.client.rpartition(":")[2],
    "{local}": lambda record: record.local or EMPTY,
    "{>id}": lambda record: str(int.from_bytes(record.question.query_id, "big")),
    "{>opcode}": lambda record: str((record.question.flags & OPCODE_MASK) >> 11),
    "{>do}": lambda record: "true" if record.question.do else "false",
    "{>bufsize}": lambda record: str(buffer_size(record)),
    "{rcode}": rcode_of,
    "{>rflags}": flags_of,
    "{rsize}": lambda record: str(len(record.answer)),
    "{duration}": lambda record: duration_text(record.duration_s),
    "{/log/class}": lambda record: answer_class(record.answer),
    "{/log/type}": lambda record: answer_type(record.answer),
}


def compile_format(text: str) -> Formatter:
    """Return a function that fills in `text`. Unknown `{words}` stay as they are, unknown `{/labels}` are `-`."""
    text = text.replace("{common}", COMMON_FORMAT).replace("{combined}", COMBINED_FORMAT)
    parts: list[str | Formatter] = []
    literal = ""
    while "}" in text:
        # From the closing brace back to the last opening one, so that `{ {name} }` works, as in CoreDNS.
        end = text.index("}") + 1
        start = text.rfind("{", 0, end)
        word = text[start:end] if start >= 0 else ""
        fill = _PLACEHOLDERS.get(word)
        if fill is None and not word.startswith("{/"):
            literal += text[:end]
        else:
            parts.append(literal + text[:start])
            parts.append(EMPTY if fill is None else fill)
            literal = ""
        text = text[end:]
    parts.append(literal + text)
    frozen = tuple(part for part in parts if part)
    return lambda record: "".join(part if isinstance(part, str) else part(record) for part in frozen)


def json_fields(record: QueryRecord) -> dict[str, object]:
    """Return what a JSON line has beside `msg`."""
    question = record.question
    host, _, port = record.client.rpartition(":")
    return {
        "client_ip": host.strip("[]"),
        "client_port": int(port) if port.isdigit() else None,
        "proto": record.proto,
        "id": int.from_bytes(question.query_id, "big"),
        "opcode": (question.flags & OPCODE_MASK) >> 11,
        "qname": names.to_text(question.name),
        "qtype": type_name(question.qtype),
        "qclass": class_name(question.qclass),
        "do": question.do,
        "bufsize": buffer_size(record),
        "request_size_bytes": question.size_bytes,
        "rcode": rcode_of(record),
        "flags": flags_of(record),
        "response_size_bytes": len(record.answer),
        "duration_seconds": round(record.duration_s, 9),
    }


class Listener(Protocol):
    """Where a question came in; see `accept.listener`."""

    labels: ListenerLabels

    def client_text(self, client: object) -> str:
        """Return `10.0.0.7:41832`."""


class _Rule(NamedTuple):
    zones: tuple[bytes, ...]
    format: Formatter
    classes: frozenset[str]


class QueryLog:
    """All `log` directives of one server block; the first whose names match decides."""

    def __init__(self, directives: Sequence[LogOptions]) -> None:
        self._rules = [
            _Rule(
                tuple(names.from_text(name.lower()) for name in options.names),
                compile_format(options.format),
                frozenset[str](options.classes),
            )
            for options in directives
        ]

    def answered(
        self, listener: Listener, client: object, question: Question, response: bytes, duration_s: float
    ) -> None:
        """Log one answer, if a rule wants it."""
        name = question.name
        for rule in self._rules:
            if any(names.is_below(name, zone) for zone in rule.zones):
                break
        else:
            return
        if "all" not in rule.classes and answer_class(response) not in rule.classes:
            return
        client_text = listener.client_text(client) if client is not None else f"{EMPTY}:{EMPTY}"
        local = listener.labels.server.removeprefix("dns://").rpartition(":")[0]
        record = QueryRecord(client_text, local, listener.labels.proto, question, response, duration_s)
        logs.query(rule.format(record), json_fields(record) if logs.current().log_format == "json" else {})
