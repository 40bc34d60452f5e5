"""The short directives: bind, debug, errors, health, log, loop, prometheus, ready, reload."""

from typing import Any

import pytest

from resolver.report.options import COMMON_FORMAT, ConsolidateRule, ErrorsOptions, LogOptions
from resolver.settings.model import ReloadOptions
from resolver.status.options import HealthOptions, PrometheusOptions, ReadyOptions
from tests.settings.directives.cases import assert_refused, bad
from tests.settings.support import RESOLV_CONF, FakeMachine, block_of, settings_of

INTERFACES = {"lo": ("127.0.0.1", "::1"), "eth0": ("192.0.2.7", "fe80::1%eth0"), "down0": ()}

#        lines, where the block listens
BIND = [
    ("", [""]),
    ("bind 10.0.0.1", ["10.0.0.1"]),
    ("bind 10.0.0.1 ::1", ["10.0.0.1", "::1"]),
    ("bind 10.0.0.1\nbind 10.0.0.2", ["10.0.0.1", "10.0.0.2"]),
    ("bind 10.0.0.1 10.0.0.1\nbind 10.0.0.1", ["10.0.0.1"]),
    ("bind 0:0::1", ["::1"]),
    ("bind 0.0.0.0", ["0.0.0.0"]),
    ("bind eth0", ["192.0.2.7", "fe80::1%eth0"]),
    ("bind eth0 lo {\nexcept 127.0.0.1 fe80::1%eth0\n}", ["192.0.2.7", "::1"]),
    ("bind eth0 10.0.0.1 {\nexcept eth0\n}", ["10.0.0.1"]),
]


@pytest.mark.parametrize(("lines", "hosts"), BIND)
def test_bind(lines: str, hosts: list[str]) -> None:
    block = block_of(lines + "\nlog", FakeMachine(RESOLV_CONF, interfaces=INTERFACES))
    assert [address.host for address in block.listen] == hosts
    assert {address.port for address in block.listen} == {53}


#        word of the block, lines, what it becomes
GOOD: list[tuple[str, str, Any]] = [
    ("debug", "", False),
    ("debug", "debug", True),
    ("loop", "", False),
    ("loop", "loop", True),
    ("errors", "", None),
    ("errors", "errors", ErrorsOptions()),
    ("errors", "errors stdout", ErrorsOptions()),
    ("errors", "errors {\nstacktrace\n}", ErrorsOptions(stacktrace=True)),
    (
        "errors",
        'errors {\nconsolidate 5m ".* timed out$" warning\nconsolidate 30s "^Failed .+"\n}',
        ErrorsOptions(
            consolidate=(
                ConsolidateRule(300.0, ".* timed out$", "warning"),
                ConsolidateRule(30.0, "^Failed .+", "error"),
            )
        ),
    ),
    (
        "errors",
        "errors {\nconsolidate 1s x show_first\n}",
        ErrorsOptions(consolidate=(ConsolidateRule(1.0, "x", "error", True),)),
    ),
    (
        "errors",
        "errors {\nconsolidate 1s x debug show_first\nstacktrace\n}",
        ErrorsOptions(True, (ConsolidateRule(1.0, "x", "debug", True),)),
    ),
    ("log", "", ()),
    ("log", "log", (LogOptions(),)),
    ("log", "log Example.org", (LogOptions(names=("example.org.",)),)),
    ("log", "log a b", (LogOptions(names=("a.", "b.")),)),
    ("log", 'log . "{remote} {name}"', (LogOptions(format="{remote} {name}"),)),
    ("log", "log a {combined}", (LogOptions(names=("a.",), format="{combined}"),)),
    ("log", 'log "{name}"', (LogOptions(format="{name}"),)),
    ("log", "log {\nclass denial error\n}", (LogOptions(classes=frozenset({"denial", "error"})),)),
    (
        "log",
        "log {\nclass denial\nclass success\n}",
        (LogOptions(classes=frozenset({"success"})),),
    ),
    ("log", "log a\nlog b", (LogOptions(names=("a.",)), LogOptions(names=("b.",)))),
    ("health", "", None),
    ("health", "health", HealthOptions(":8080", 0.0)),
    ("health", "health 169.254.20.10:8080", HealthOptions("169.254.20.10:8080")),
    ("health", "health [::1]:8080", HealthOptions("[::1]:8080")),
    ("health", "health {\nlameduck 5s\n}", HealthOptions(lameduck_s=5.0)),
    ("health", "health :8081 {\nlameduck 0s\n}", HealthOptions(":8081")),
    ("ready", "", None),
    ("ready", "ready", ReadyOptions(":8181", "until-ready")),
    ("ready", "ready localhost:8091", ReadyOptions("localhost:8091")),
    ("ready", "ready {\nmonitor continuously\n}", ReadyOptions(monitor="continuously")),
    ("prometheus", "", None),
    ("prometheus", "prometheus", PrometheusOptions("localhost:9153")),
    ("prometheus", "prometheus :9253", PrometheusOptions(":9253")),
    ("prometheus", "prometheus {\nruntime_metrics\n}", PrometheusOptions(runtime_metrics=True)),
    ("reload", "", None),
    ("reload", "reload", ReloadOptions(30.0, 15.0)),
    ("reload", "reload 10s", ReloadOptions(10.0, 5.0)),
    ("reload", "reload 2s 1s", ReloadOptions(2.0, 1.0)),
    ("reload", "reload 10s 0s", ReloadOptions(10.0, 0.0)),
    ("reload", "reload 10s 1m", ReloadOptions(10.0, 5.0)),
    ("reload", "reload 0s", ReloadOptions(0.0, 0.0)),
    ("reload", "reload 1m", ReloadOptions(60.0, 15.0)),
]


@pytest.mark.parametrize(("word", "lines", "expected"), GOOD)
def test_good(word: str, lines: str, expected: object) -> None:
    assert getattr(block_of(lines + "\ncache"), word) == expected


BAD = [
    bad("bind", 1, "bind takes at least an argument"),
    bad("bind nosuch0", 1, "no IP address and no interface (there are: down0, eth0, lo)"),
    bad("bind down0", 1, "leaves no address"),
    bad("bind lo {\nexcept lo\n}", 1, "leaves no address"),
    bad("bind 10.0.0.1 {\nexcept\n}", 2, "except takes at least an argument"),
    bad("bind 10.0.0.1 {\nexcept 10.0.0\n}", 2, "no IP address and no interface"),
    bad("bind 10.0.0.1 {\nonly lo\n}", 2, 'bind has no option "only"'),
    bad("bind 10.0.0.1:53", 1, "no IP address"),
    bad("debug all", 1, "one argument too many"),
    bad("debug {\n}", 1, "takes no block"),
    bad("debug\ndebug", 2, "stands twice"),
    bad("loop 1", 1, "one argument too many"),
    bad("loop\nloop", 2, "stands twice"),
    bad("errors stderr", 1, "standard output only"),
    bad("errors stdout stdout", 1, "one argument too many"),
    bad("errors {\nconsolidate 5m\n}", 2, "at least 2 arguments"),
    bad("errors {\nconsolidate 5 x\n}", 2, "not a duration"),
    bad("errors {\nconsolidate 0s x\n}", 2, "too short"),
    bad("errors {\nconsolidate 5m (\n}", 2, "regular expression"),
    bad("errors {\nconsolidate 5m " + "x" * 10_001 + "\n}", 2, "at most 10000"),
    bad("errors {\nconsolidate 5m x fatal\n}", 2, '"fatal" does not belong here'),
    bad("errors {\nconsolidate 5m x show_first warning\n}", 2, '"show_first" does not belong here'),
    bad("errors {\nconsolidate 5m x error warning\n}", 2, '"warning" does not belong here'),
    bad("errors {\nstack_trace\n}", 2, 'did you mean "stacktrace"?'),
    bad("errors\nerrors", 2, "stands twice"),
    bad("log a..b", 1, "not a domain name"),
    bad("log {\nclass\n}", 2, "at least an argument"),
    bad("log {\nclass nxdomain\n}", 2, "not a class of answers"),
    bad("log {\nformat x\n}", 2, 'log has no option "format"'),
    bad("health 8080", 1, "not an address"),
    bad("health :http", 1, "not a port"),
    bad("health :8080 :8081", 1, "one argument too many"),
    bad("health {\nlameduck\n}", 2, "takes an argument"),
    bad("health {\nlameduck 5\n}", 2, "not a duration"),
    bad("health {\nlameduck 2h\n}", 2, "too long, at most 1h"),
    bad("health\nhealth", 2, "stands twice"),
    bad("ready 8181", 1, "not an address"),
    bad("ready {\nmonitor always\n}", 2, "is not known here"),
    bad("ready\nready", 2, "stands twice"),
    bad("prometheus 9153", 1, "not an address"),
    bad("prometheus {\ntls web.yml\n}", 2, "metrics over TLS are not offered"),
    bad("prometheus\nprometheus", 2, "stands twice"),
    bad("reload 1s", 1, "too short, at least 2s"),
    bad("reload 10s 500ms", 1, "too short, at least 1s"),
    bad("reload -10s", 1, "is negative"),
    bad("reload 10s 5s 1s", 1, "one argument too many"),
    bad("reload {\n}", 1, "takes no block"),
    bad("reload\nreload", 2, "stands twice"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD)
def test_bad(text: str, line: int, problem: str) -> None:
    assert_refused(text, line, problem, FakeMachine(RESOLV_CONF, interfaces=INTERFACES))


def test_the_default_format_is_corednss() -> None:
    assert COMMON_FORMAT.startswith('{remote}:{port} - {>id} "{type}')
    assert block_of("log").log[0].format == COMMON_FORMAT


def test_import_takes_options_from_a_snippet() -> None:
    settings = settings_of("(options) {\nlameduck 5s\n}\n. {\nhealth {\nimport options\n}\n}")
    assert settings.blocks[0].health == HealthOptions(lameduck_s=5.0)
