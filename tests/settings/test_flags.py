"""The command line: every flag of node-cache in all forms of Go, ours, and their errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import ConfigError
from resolver.settings import flags
from resolver.settings.model import ProcessOptions
from tests.settings.support import attempt

NODE = ["-localip", "169.254.20.10,10.96.0.10"]

#        arguments, the fields that differ from the defaults
GOOD: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["-conf", "/etc/Corefile"], {"conf": "/etc/Corefile"}),
    (["-conf=/etc/Corefile"], {"conf": "/etc/Corefile"}),
    (["--conf", "/etc/Corefile"], {"conf": "/etc/Corefile"}),
    (["--conf=/etc/Corefile"], {"conf": "/etc/Corefile"}),
    (["-conf", "a", "-conf", "b"], {"conf": "b"}),
    (["-conf", "-x"], {"conf": "-x"}),
    (["-conf="], {}),
    (["-conf=a=b"], {"conf": "a=b"}),
    (["-corefile", "/x"], {"conf": "/x"}),
    (["-corefile", "/x", "-conf", "/y"], {"conf": "/y"}),
    (["-dns.port", "5300"], {"dns_port": 5300}),
    (["-p", "5300"], {"dns_port": 5300}),
    (["-dns.port=0"], {"dns_port": 0}),
    (["-pidfile", "/tmp/node-cache.pid"], {"pidfile": "/tmp/node-cache.pid"}),
    (["-quiet"], {"quiet": True}),
    (["-quiet=true"], {"quiet": True}),
    (["-quiet=T"], {"quiet": True}),
    (["-quiet=0"], {}),
    (["-metrics-listen-address", "127.0.0.1:9353"], {"metrics_listen_address": "127.0.0.1:9353"}),
    (["-metrics-listen-address=:9353"], {"metrics_listen_address": ":9353"}),
    (["-prometheus-listen-address", "[::1]:9253"], {"prometheus_listen_address": "[::1]:9253"}),
    (["-basecorefile", "/base"], {"base_corefile": "/base"}),
    (["-kubednscm", "/etc/kube-dns"], {"kubedns_config_dir": "/etc/kube-dns"}),
    (["-upstreamsvc", "kube-dns-upstream"], {"upstream_service": "kube-dns-upstream"}),
    (["-health-port", "8081"], {"health_port": 8081}),
    (["-skipteardown"], {"skip_teardown": True}),
    (["-skipteardown=true"], {"skip_teardown": True}),
    (["-reloadwithsignal"], {"reload_with_signal": True}),
    (["-interfacename", "dns0"], {"interface_name": "dns0"}),
    (["-syncinterval", "60"], {}),
    (["-syncinterval", "30s"], {"sync_interval_s": 30.0}),
    (["-syncinterval=90"], {"sync_interval_s": 90.0}),
    (["-syncinterval=1h30m"], {"sync_interval_s": 5400.0}),
    (["-syncinterval=120ns"], {"sync_interval_s": 120.0}),
    (["-setupinterface=false", "-setupiptables=false"], {}),
    (NODE, {"local_ips": ("169.254.20.10", "10.96.0.10"), "setup_interface": True, "setup_iptables": True}),
    (
        [*NODE, "-setupinterface=false", "-setupiptables=false"],
        {"local_ips": ("169.254.20.10", "10.96.0.10")},
    ),
    (
        [*NODE, "-setupiptables=false"],
        {"local_ips": ("169.254.20.10", "10.96.0.10"), "setup_interface": True},
    ),
    (
        ["-setupinterface", "-setupiptables", "-localip=fd00::10,FD00::10, 10.0.0.1"],
        {"local_ips": ("fd00::10", "10.0.0.1"), "setup_interface": True, "setup_iptables": True},
    ),
    (["-interception=tracked"], {"interception": "tracked"}),
    (
        [*NODE, "-setupiptables=false", "-setupinterface=false", "-standing-nat", "10.244.0.5,[fd00::5]:5353"],
        {"local_ips": ("169.254.20.10", "10.96.0.10"), "standing_nat": ("10.244.0.5", "[fd00::5]:5353")},
    ),
    (
        [*NODE, "-setupiptables=false", "-setupinterface=false", "-standing-nat", "upstreams"],
        {"local_ips": ("169.254.20.10", "10.96.0.10"), "standing_nat": ("upstreams",)},
    ),
    (["-cache-memory", "64MiB"], {}),
    (["-cache-memory", "100Mi"], {"cache_memory_bytes": 100 * 2**20}),
    (["-cache-memory=10000000"], {"cache_memory_bytes": 10_000_000}),
    (["-log-format", "json"], {"log_format": "json"}),
    (["-probe-socket", "/run/probe"], {"probe_socket": "/run/probe"}),
    (["-lane", "python"], {"lane": "python"}),
    (["-lane=auto"], {}),
    (["-lane", "compiled"], {"lane": "compiled"}),
    # the arguments of the DaemonSet of node-local-dns
    (
        ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile", "-upstreamsvc", "kube-dns-upstream",
         "-pidfile", "/tmp/node-cache.pid"],
        {
            "local_ips": ("169.254.20.10", "10.96.0.10"),
            "conf": "/etc/Corefile",
            "upstream_service": "kube-dns-upstream",
            "pidfile": "/tmp/node-cache.pid",
            "setup_interface": True,
            "setup_iptables": True,
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "fields"), GOOD, ids=[" ".join(row[0]) or "nothing" for row in GOOD])
def test_good(argv: list[str], fields: dict[str, Any]) -> None:
    parsed = flags.parse(argv)
    assert parsed.process == ProcessOptions(given=parsed.process.given, **fields)
    assert parsed.words == ()
    assert parsed.asked == ""


#        arguments, what is said
BAD = [
    (["-conf"], "-conf needs a value; accepted: -conf FILE"),
    (["-cnof", "x"], 'unknown flag "-cnof", did you mean -conf?'),
    (["-conf", "a\0b"], "-conf: a NUL byte"),
    (["-zzzzzz"], 'unknown flag "-zzzzzz"; accepted: see resolver -help'),
    (["---conf", "x"], 'unknown flag "---conf"'),
    (["-dns.port", "dns"], '-dns.port: "dns" is not a port'),
    (["-p", "65536"], "is not a port"),
    (["-quiet=maybe"], 'neither true nor false; accepted: -quiet or -quiet=false'),
    (["-localip", ""], "-localip: \"\" is not an IP address"),
    (["-localip", "10.0.0.1,"], "is not an IP address"),
    (["-localip", "kube-dns"], "is not an IP address"),
    (["-localip", ",".join(f"10.0.0.{n}" for n in range(17))], "17 addresses, at most 16"),
    (["-syncinterval", "0"], "is not within 1s and 24h"),
    (["-syncinterval", "500ms"], "is not within 1s and 24h"),
    (["-syncinterval", "25h"], "is not within 1s and 24h"),
    (["-syncinterval", "often"], "is not a duration"),
    (["-metrics-listen-address", "9353"], "is not an address"),
    (["-prometheus-listen-address", "localhost"], "is not an address"),
    (["-upstreamsvc", "a/b"], "is not the name of a Service"),
    (["-upstreamsvc="], "is not the name of a Service"),
    (["-interfacename", "a" * 16], "is not a name of an interface"),
    (["-interfacename", "a/b"], "is not a name of an interface"),
    (["-health-port", "x"], "is not a port"),
    (["-cache-memory", "lots"], "is not a size"),
    (["-cache-memory", "1000"], "too little for a cache, at least 1MiB"),
    (["-probe-socket="], "is not a path of 1 to 107 bytes"),
    (["-probe-socket", "/" + "é" * 54], "is not a path of 1 to 107 bytes"),
    (["-log-format", "xml"], "is not one of text, json"),
    (["-lane", "fast"], "is not one of auto, python, compiled"),
    (["-setupinterface"], "-setupinterface needs the addresses"),
    (["-setupiptables=true"], "-setupiptables needs the addresses"),
    (["-interception", "dnat"], "is not one of notrack, tracked"),
    (["-standing-nat", "10.244.0.5"], "-standing-nat needs the addresses"),
    ([*NODE, "-standing-nat", "kube-dns"], "is not an IP address"),
    ([*NODE, "-standing-nat", ",".join(f"10.0.0.{n}" for n in range(65))], "65 addresses, at most 64"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "problem"), BAD, ids=[ascii(" ".join(row[0]))[:40] for row in BAD])
def test_bad(argv: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags.parse(argv)
    assert str(caught.value).startswith("command line: ")
    assert problem in str(caught.value)


def test_words_that_are_no_flags_are_kept() -> None:
    assert flags.parse(["a", "-quiet", "b", "--", "-c", "-"]).words == ("a", "b", "-c", "-")


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["-h"], "help"),
        (["-help"], "help"),
        (["--help"], "help"),
        (["-version"], "version"),
        (["-plugins"], "plugins"),
        (["-version=false"], ""),
        (["-quiet", "-version", "-h"], "version"),
    ],
)
def test_flags_that_only_print(argv: list[str], asked: str) -> None:
    assert flags.parse(argv).asked == asked


@pytest.mark.parametrize(
    ("argv", "warning"),
    [
        (["-corefile", "/x"], "-corefile /x is taken as -conf (node-cache ignores it)"),
        (["-corefile", "/x", "-conf", "/y"], "-corefile /x is ignored, -conf /y wins"),
    ],
)
def test_what_is_taken_otherwise_than_written_is_one_line_of_warning(argv: list[str], warning: str) -> None:
    (line,) = flags.parse(argv).warnings
    assert line.startswith(warning)
    assert "\n" not in line


@pytest.mark.parametrize(
    "argv",
    [
        [],
        NODE,
        ["-corefile", "/x", "-conf", "/x"],
        [*NODE, "-setupinterface=false", "-setupiptables=false"],
        ["-setupinterface=false"],
    ],
)
def test_nothing_to_warn_of(argv: list[str]) -> None:
    assert flags.parse(argv).warnings == ()


def test_a_laptop_start_does_nothing_to_the_machine() -> None:
    process = flags.parse([]).process
    assert not process.setup_interface
    assert not process.setup_iptables


def test_help_is_one_screen_with_every_flag() -> None:
    text = flags.help_text()
    for flag in flags.FLAGS:
        assert f"-{flag.name} " in text.replace("\n", " ") or flag.name in {"p", "h"}
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 125


@given(argv=st.lists(st.one_of(st.text(max_size=20), st.sampled_from([f"-{flag.name}" for flag in flags.FLAGS]))))
def test_any_command_line_is_options_or_a_config_error(argv: list[str]) -> None:
    attempt(lambda: flags.parse(argv))
