"""`resolver check`: what it prints, and that it opens nothing."""

import io
from dataclasses import fields
from pathlib import Path

import pytest

from resolver.cache.options import CacheOptions
from resolver.errors import ConfigError
from resolver.forward.options import ForwardOptions
from resolver.settings.model import ProcessOptions
from resolver.tools import check
from tests.settings.support import RESOLV_CONF, FakeMachine

SHIPPED = Path(__file__).parents[2] / "deploy/corefiles"
COREFILE = """
example.org:5300 example.net:5300 {
    bind 127.0.0.1 ::1
    cache 30 {
        serve_stale 1h verify 500ms
        disable denial
    }
    errors {
        consolidate 5m ".* timed out" warning
    }
    log
    loop
    forward . 10.0.0.2 tls://9.9.9.9%dns.quad9.net /etc/resolv.conf {
        failover SERVFAIL REFUSED
        deadline 1s 3s
    }
    reload 10s
}
. {
    log a
    log b
}
"""


def checked(
    argv: list[str], files: dict[str, bytes | str] | None = None, environ: dict[str, str] | None = None
) -> str:
    out = io.StringIO()
    assert check.main(argv, out, FakeMachine({**RESOLV_CONF, **(files or {})}, environ)) == 0
    return out.getvalue()


def values_of(text: str) -> list[tuple[str, ...]]:
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines()]


#        a line of the output
LINES = [
    ("Corefile:", "good"),
    ("server", "block 1 (Corefile:2)"),
    ("zones", "example.org. example.net."),
    ("listen", "127.0.0.1:5300 [::1]:5300"),
    ("loop", "yes"),
    ("debug", "no"),
    ("success_max_ttl", "30s"),
    ("success_capacity", "9984"),
    ("stale", "1h"),
    ("stale_mode", "verify"),
    ("stale_verify_timeout", "500ms"),
    ("disable_denial", "all"),
    ("disable_success", "no"),
    ("consolidate", "period=5m pattern=.* timed out level=warning show_first=no"),
    ("forward", ". to 10.0.0.2 tls://9.9.9.9%dns.quad9.net /etc/resolv.conf (file, watched)"),
    ("failover_rcodes", "SERVFAIL REFUSED"),
    ("deadline", "1s"),
    ("deadline_slow", "3s"),
    ("jitter", "5s"),
    ("server", "block 2 (Corefile:19)"),
    ("listen", "*:53"),
    ("names", "a."),
    ("names", "b."),
    ("cache_memory", "64MiB"),
]


@pytest.mark.parametrize("line", LINES, ids=[" ".join(line)[:40] for line in LINES])
def test_what_holds_is_printed(line: tuple[str, str]) -> None:
    assert line in values_of(checked(["Corefile"], {"Corefile": COREFILE}))


def test_every_option_is_printed() -> None:
    words = {line[0] for line in values_of(checked(["Corefile"], {"Corefile": COREFILE})) if line}
    for options in (CacheOptions, ForwardOptions):
        for field in fields(options):
            if field.name not in {"from_zone", "targets"}:
                assert field.name.removesuffix("_s") in words
    hidden = {"given", "stdin_text", "conf"}
    assert {
        field.name.removesuffix("_s").removesuffix("_bytes") for field in fields(ProcessOptions)
    } - hidden <= words


def test_flags_count() -> None:
    text = checked(["-dns.port=5300", "Corefile", "-cache-memory", "7MiB"], {"Corefile": ". {\nlog\n}"})
    assert ("listen", "*:5300") in values_of(text)
    assert ("cache_memory", "7MiB") in values_of(text)


def test_a_template_is_checked_with_examples_and_says_so() -> None:
    text = checked(["Corefile"], {"Corefile": (SHIPPED / "node-local-dns").read_text()})
    assert ("listen", "169.254.20.10:53") in values_of(text)
    assert "warning: without -localip, __PILLAR__LOCAL__DNS__ is checked as 169.254.20.10\n" in text
    assert "warning: outside a cluster, __PILLAR__CLUSTER__DNS__ is checked as 192.0.2.53\n" in text


def test_a_template_is_checked_with_what_is_known() -> None:
    text = checked(
        ["Corefile", "-localip", "169.254.20.11", "-setupinterface=false", "-setupiptables=false"],
        {"Corefile": (SHIPPED / "node-local-dns").read_text()},
        {"KUBE_DNS_SERVICE_HOST": "10.96.0.11"},
    )
    assert ("listen", "169.254.20.11:53") in values_of(text)
    assert ("forward", ". to 10.96.0.11") in values_of(text)
    assert "warning" not in text


def test_the_file_wins_over_a_template_that_is_there() -> None:
    text = checked(["Corefile"], {"Corefile": ". {\nlog\n}", "/etc/coredns/Corefile.base": "broken {"})
    assert text.startswith("Corefile: good\n")


def test_warnings_come_last() -> None:
    text = checked(["Corefile"], {"Corefile": ". {\nlog a{$NO}\n}"}, {})
    assert text.endswith("warning: Corefile:2: environment variable NO is not set, nothing stands in its place\n")


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "one file is expected, not 0; accepted: resolver check FILE [flags]"),
        (["a", "b"], "one file is expected, not 2"),
        (["/no"], "/no: no such file"),
        (["-zzz", "a"], "unknown flag"),
    ],
)
def test_errors(argv: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(argv)
    assert problem in str(caught.value)


def test_help_is_help() -> None:
    assert "resolver check FILE" in checked(["-h"])
