"""`forward`: every option, its default, its bounds; upstreams as words; the cluster's fallback."""

from dataclasses import replace
from typing import Any

import pytest

from resolver.forward.options import ForwardOptions, Target, TlsOptions
from resolver.settings.directives.forward import ATTEMPTS_MAX
from resolver.settings.model import ProcessOptions
from tests.settings.directives.cases import assert_refused, bad
from tests.settings.support import RESOLV_CONF, FakeMachine, block_of, refusal_of, settings_of

FILES = {**RESOLV_CONF, "upstreams.conf": b"nameserver 10.9.9.9\n", "empty.conf": b"# nothing yet\n"}
PEMS = dict.fromkeys(("c.pem", "k.pem", "ca.pem"), b"")


def address(host: str, port: int = 53, text: str = "") -> Target:
    return Target("address", host, port, text=text or host)


#        TO, the target
TARGETS = [
    ("10.0.0.2", address("10.0.0.2")),
    ("10.0.0.2:5353", address("10.0.0.2", 5353, "10.0.0.2:5353")),
    ("dns://10.0.0.2", address("10.0.0.2", 53, "dns://10.0.0.2")),
    ("2001:DB8::1", address("2001:db8::1", 53, "2001:DB8::1")),
    ("[2001:db8::1]:5353", address("2001:db8::1", 5353, "[2001:db8::1]:5353")),
    ("[2001:db8::1]", address("2001:db8::1", 53, "[2001:db8::1]")),
    ("fe80::1%eth0", address("fe80::1%eth0")),
    ("tls://9.9.9.9", Target("address", "9.9.9.9", 853, True, "", "tls://9.9.9.9")),
    ("TLS://9.9.9.9:8853", Target("address", "9.9.9.9", 8853, True, "", "TLS://9.9.9.9:8853")),
    (
        "tls://9.9.9.9%dns.quad9.net",
        Target("address", "9.9.9.9", 853, True, "dns.quad9.net", "tls://9.9.9.9%dns.quad9.net"),
    ),
    (
        "tls://9.9.9.9%dns.quad9.net:10853",
        Target("address", "9.9.9.9", 10853, True, "dns.quad9.net", "tls://9.9.9.9%dns.quad9.net:10853"),
    ),
    (
        "tls://[2620:fe::fe%dns.quad9.net]:853",
        Target("address", "2620:fe::fe", 853, True, "dns.quad9.net", "tls://[2620:fe::fe%dns.quad9.net]:853"),
    ),
    ("/etc/resolv.conf", Target("file", "/etc/resolv.conf", 53, text="/etc/resolv.conf")),
    ("upstreams.conf", Target("file", "upstreams.conf", 53, text="upstreams.conf")),
    ("kube-dns.kube-system.svc", Target("name", "kube-dns.kube-system.svc.", 53, text="kube-dns.kube-system.svc")),
    ("Kube-DNS:5353", Target("name", "kube-dns.", 5353, text="Kube-DNS:5353")),
    ("tls://dns.example", Target("name", "dns.example.", 853, True, "", "tls://dns.example")),
]


@pytest.mark.parametrize(("word", "target"), TARGETS)
def test_upstreams(word: str, target: Target) -> None:
    (forward,) = block_of(f"forward . {word}", FakeMachine(FILES)).forwards
    assert forward.targets == (target,)


def test_an_upstream_that_stands_twice_counts_once() -> None:
    (forward,) = block_of("forward . 10.0.0.2 10.0.0.3 10.0.0.2").forwards
    assert forward.targets == (address("10.0.0.2"), address("10.0.0.3"))


def test_host_names_are_resolved_through_the_machines_resolvers_unless_the_block_says_otherwise() -> None:
    assert block_of("forward . kube-dns").forwards[0].resolver_targets == ()
    (forward,) = block_of("forward . kube-dns {\nresolver 10.0.0.9 10.0.0.8:5353\n}").forwards
    assert [(target.host, target.port) for target in forward.resolver_targets] == [
        ("10.0.0.9", 53),
        ("10.0.0.8", 5353),
    ]


#        lines of the block, the fields that differ from the defaults
GOOD = [
    ("except a b.c", {"except_zones": ("a.", "b.c.")}),
    ("except 10.0.0.0/23", {"except_zones": ("0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa.")}),
    ("force_tcp", {"force_tcp": True}),
    ("prefer_udp", {"prefer_udp": True}),
    ("force_tcp\nprefer_udp", {"force_tcp": True, "prefer_udp": True}),
    ("expire 1s", {"expire_s": 1.0}),
    ("expire 0s", {"expire_s": 0.0}),
    ("max_age 1m", {"max_age_s": 60.0}),
    ("max_age 0s", {}),
    ("max_age 5s\nexpire 5s", {"max_age_s": 5.0, "expire_s": 5.0}),
    ("max_idle_conns 4", {"max_idle_conns": 4}),
    ("max_fails 0", {"max_fails": 0}),
    ("max_connect_attempts 3", {"max_connect_attempts": 3}),
    ("max_connect_attempts 0", {"max_connect_attempts": ATTEMPTS_MAX}),
    ("max_connect_attempts 4294967295", {"max_connect_attempts": ATTEMPTS_MAX}),
    ("tls", {}),
    ("tls ca.pem", {"tls": TlsOptions(ca_path="ca.pem")}),
    ("tls c.pem k.pem", {"tls": TlsOptions(certificate_path="c.pem", key_path="k.pem")}),
    ("tls c.pem k.pem ca.pem", {"tls": TlsOptions("c.pem", "k.pem", "ca.pem")}),
    ("tls_servername DNS.example.", {"tls": TlsOptions(server_name="dns.example")}),
    (
        "tls_servername dns.example\ntls ca.pem",
        {"tls": TlsOptions(ca_path="ca.pem", server_name="dns.example")},
    ),
    ("policy random", {}),
    ("policy round_robin", {"policy": "round_robin"}),
    ("policy sequential", {"policy": "sequential"}),
    ("health_check 0s", {"health_check_s": 0.01}),
    ("health_check 5s no_rec", {"health_check_s": 5.0, "health_check_no_rec": True}),
    ("health_check 1s domain Example.org", {"health_check_s": 1.0, "health_check_domain": "example.org."}),
    (
        "health_check 1s no_rec domain a",
        {"health_check_s": 1.0, "health_check_no_rec": True, "health_check_domain": "a."},
    ),
    ("max_concurrent 1000", {"max_concurrent": 1000}),
    ("next NXDOMAIN", {"next_rcodes": frozenset({3})}),
    ("next noerror ServFail", {"next_rcodes": frozenset({0, 2})}),
    ("next_on_nodata", {"next_on_nodata": True}),
    ("failover SERVFAIL REFUSED", {"failover_rcodes": frozenset({2, 5})}),
    ("failfast_all_unhealthy_upstreams", {"failfast": True}),
    ("read_timeout 5s", {"read_timeout_s": 5.0}),
    ("source_address 10.0.0.7", {"source_address": "10.0.0.7"}),
    ("fallback 10.96.0.11", {"fallback": (address("10.96.0.11"),)}),
    ("fallback 10.96.0.11:5353", {"fallback": (address("10.96.0.11", 5353, "10.96.0.11:5353"),)}),
    ("fallback off", {}),
    ("deadline 1s", {"deadline_s": 1.0}),
    ("deadline 6s", {"deadline_s": 6.0, "deadline_slow_s": 6.0}),
    ("deadline 1s 3s", {"deadline_s": 1.0, "deadline_slow_s": 3.0}),
]


@pytest.mark.parametrize(("lines", "fields"), GOOD)
def test_good(lines: str, fields: dict[str, Any]) -> None:
    (forward,) = block_of(f"forward . 10.0.0.2 {{\n{lines}\n}}", FakeMachine({**RESOLV_CONF, **PEMS})).forwards
    assert forward == replace(ForwardOptions(targets=(address("10.0.0.2"),)), **fields)


BAD = [
    bad("forward", 1, "forward takes at least 2 arguments"),
    bad("forward .", 1, "forward takes at least 2 arguments"),
    bad("forward . " + " ".join(f"10.0.0.{n}" for n in range(1, 17)), 1, '"10.0.0.16" is one argument too many'),
    bad("forward a..b 10.0.0.2", 1, "not a domain name"),
    bad("forward . 10.0.0.256", 1, "neither an address nor a file nor a host name"),
    bad("forward . 10.0.0.2:x", 1, "not a port"),
    bad('forward . ""', 1, "is no upstream"),
    bad("forward . /no/such/file", 1, "there is no file"),
    bad("forward . bad_name!", 1, "neither an address"),
    bad("forward . https://10.0.0.2", 1, "DNS over HTTPS to upstreams comes with a later release"),
    bad("forward . grpc://10.0.0.2", 1, "cannot be asked over grpc"),
    bad("forward . tls://9.9.9.9%bad!name", 1, "not a TLS server name"),
    bad("forward . [::1", 1, "write [IPv6]:PORT"),
    bad("forward . tls://9.9.9.9%a.example {\ntls_servername b.example\n}", 1, "tls_servername sets another"),
    bad("forward . 10.0.0.2 {\nexcept\n}", 2, "except takes at least an argument"),
    bad("forward . 10.0.0.2 {\nforce_tcp yes\n}", 2, "one argument too many"),
    bad("forward . 10.0.0.2 {\nexpire 10\n}", 2, "not a duration"),
    bad("forward . 10.0.0.2 {\nexpire -1s\n}", 2, "is negative"),
    bad("forward . 10.0.0.2 {\nmax_age 5s\n}", 2, "max_age 5s is shorter than expire 10s"),
    bad("forward . 10.0.0.2 {\nmax_idle_conns -1\n}", 2, "too small"),
    bad("forward . 10.0.0.2 {\nmax_fails 4294967296\n}", 2, "too large"),
    bad("forward . 10.0.0.2 {\nmax_connect_attempts x\n}", 2, "not a whole number"),
    bad("forward . 10.0.0.2 {\ntls a b c d\n}", 2, "one argument too many"),
    bad("forward . 10.0.0.2 {\ntls /no/such.pem\n}", 2, 'there is no file "/no/such.pem"'),
    bad("forward . 10.0.0.2 {\ntls_servername\n}", 2, "takes an argument"),
    bad("forward . 10.0.0.2 {\npolicy fastest\n}", 2, "policy fastest comes with a later release"),
    bad("forward . 10.0.0.2 {\npolicy best\n}", 2, "is not known here"),
    bad("forward . 10.0.0.2 {\nhealth_check\n}", 2, "at least an argument"),
    bad("forward . 10.0.0.2 {\nhealth_check -1s\n}", 2, "is negative"),
    bad("forward . 10.0.0.2 {\nhealth_check 1s domain\n}", 2, '"domain" does not belong here'),
    bad("forward . 10.0.0.2 {\nhealth_check 1s recurse\n}", 2, '"recurse" does not belong here'),
    bad("forward . 10.0.0.2 {\nmax_concurrent -1\n}", 2, "too small"),
    bad("forward . 10.0.0.2 {\nnext\n}", 2, "at least an argument"),
    bad("forward . 10.0.0.2 {\nnext NXDOMAINE\n}", 2, "not a response code for next"),
    bad("forward . 10.0.0.2 {\nfailover NOERROR\n}", 2, "not a response code for failover"),
    bad("forward . 10.0.0.2 {\nread_timeout 0s\n}", 2, "too short"),
    bad("forward . 10.0.0.2 {\nsource_address localhost\n}", 2, "not an IP address"),
    bad("forward . 10.0.0.2 {\nresolver dns.example\n}", 2, "not an IP address"),
    bad("forward . 10.0.0.2 {\ndoh_method GET\n}", 2, "doh_method comes with a later release"),
    bad("forward . 10.0.0.2 {\nhedge auto\n}", 2, "hedge comes with a later release"),
    bad("forward . 10.0.0.2 {\nfallback\n}", 2, "at least an argument"),
    bad("forward . 10.0.0.2 {\nfallback kube-dns\n}", 2, "not an IP address"),
    bad("forward . 10.0.0.2 {\ndeadline 50ms\n}", 2, "too short, at least 100ms"),
    bad("forward . 10.0.0.2 {\ndeadline 1m\n}", 2, "too long, at most 30s"),
    bad("forward . 10.0.0.2 {\ndeadline 2s 1s\n}", 2, "too short, at least 2s"),
    bad("forward . 10.0.0.2 {\nprefer_upd\n}", 2, 'did you mean "prefer_udp"?'),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD)
def test_bad(text: str, line: int, problem: str) -> None:
    assert_refused(text, line, problem)


def test_several_forwards_keep_their_order() -> None:
    block = block_of("forward a 10.0.0.2 {\nnext NXDOMAIN\n}\nforward . 10.0.0.3")
    assert [forward.from_zone for forward in block.forwards] == ["a.", "."]


def test_a_network_off_the_octet_is_forwarded_in_part_as_in_coredns_and_says_so() -> None:
    settings = settings_of(". {\nforward 10.0.0.0/23 10.0.0.2\n}")
    assert settings.blocks[0].forwards[0].from_zone == "0.0.10.in-addr.arpa."
    assert settings.warnings == (
        "Corefile:2: forward: 10.0.0.0/23 is 2 zones, only 0.0.10.in-addr.arpa. is forwarded (as in CoreDNS);"
        " write one forward for each",
    )


CLUSTER = {"KUBE_DNS_SERVICE_HOST": "10.96.0.11"}

#        lines, environment, fallback
FALLBACKS = [
    pytest.param("forward . 10.0.0.2", CLUSTER, ["10.96.0.11"], id="in a cluster: its DNS"),
    pytest.param("forward . 10.0.0.2", {}, [], id="elsewhere: none"),
    pytest.param("forward . 10.0.0.2", {"KUBE_DNS_SERVICE_HOST": "None"}, [], id="headless Service: none"),
    pytest.param("forward . 10.96.0.11", CLUSTER, [], id="not again whom we ask anyway"),
    pytest.param("forward . tls://10.96.0.11", CLUSTER, ["10.96.0.11"], id="over TLS is another way"),
    pytest.param("forward . 10.0.0.2 {\nfallback off\n}", CLUSTER, [], id="off"),
    pytest.param("forward . 10.0.0.2 {\nfallback 10.0.0.9\n}", CLUSTER, ["10.0.0.9"], id="named"),
    pytest.param("bind 10.96.0.11\nforward . 10.0.0.2", CLUSTER, [], id="never ourselves"),
]


@pytest.mark.parametrize(("text", "environ", "fallback"), FALLBACKS)
def test_the_clusters_dns_is_the_fallback(text: str, environ: dict[str, str], fallback: list[str]) -> None:
    (forward,) = block_of(text, FakeMachine(RESOLV_CONF, environ)).forwards
    assert [target.host for target in forward.fallback] == fallback


#        Corefile, line
OURSELVES = [
    pytest.param(". {\nbind 10.0.0.1\nforward . 10.0.0.2 10.0.0.1\n}", 3, id="an address of bind"),
    pytest.param(".:5300 {\nbind 127.0.0.1\nforward . 127.0.0.1:5300\n}", 3, id="its port too"),
    pytest.param("a {\nbind 10.0.0.1\n}\n. {\nbind 10.0.0.2\nforward . 10.0.0.1\n}", 6, id="of another block"),
    pytest.param(". {\nforward . 127.0.0.53\n}", 2, id="any loopback address, when we listen on all"),
    pytest.param(". {\nforward . 192.0.2.7\n}", 2, id="the machine's address, when we listen on all"),
    pytest.param(". {\nforward . 0.0.0.0\n}", 2, id="0.0.0.0 is this machine"),
    pytest.param(". {\nbind 10.0.0.1\nforward . 10.0.0.2 {\nfallback 10.0.0.1\n}\n}", 4, id="as a fallback"),
    pytest.param(". {\nbind 10.0.0.1\nforward . x.y {\nresolver 10.0.0.1\n}\n}", 4, id="as a resolver"),
    pytest.param(". {\nbind 10.0.0.1\nforward . ::ffff:10.0.0.1\n}", 3, id="in another spelling"),
]


@pytest.mark.parametrize(("text", "line"), OURSELVES)
def test_we_are_never_our_own_upstream(text: str, line: int) -> None:
    machine = FakeMachine(RESOLV_CONF, interfaces={"lo": ("127.0.0.1",), "eth0": ("192.0.2.7",)})
    refusal = refusal_of(text, machine)
    assert refusal.startswith(f"{line}: ")
    assert "is this resolver itself" in refusal


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(".:5300 {\nforward . 127.0.0.1\n}", id="another port"),
        pytest.param(". {\nbind 127.0.0.1\nforward . 127.0.0.53\n}", id="another loopback address"),
        pytest.param(". {\nbind 10.0.0.1\nforward . 192.0.2.7\n}", id="an address where we do not listen"),
    ],
)
def test_others_on_this_machine_may_be_asked(text: str) -> None:
    machine = FakeMachine(RESOLV_CONF, interfaces={"lo": ("127.0.0.1",), "eth0": ("192.0.2.7",)})
    assert settings_of(text, machine).blocks[0].forwards


def test_the_addresses_of_localip_are_ours_too() -> None:
    process = ProcessOptions(local_ips=("10.96.0.10",))
    assert "is this resolver itself" in refusal_of(". {\nbind 127.0.0.1\nforward . 10.96.0.10\n}", None, process)


def test_a_resolv_conf_with_only_ourselves_is_refused() -> None:
    machine = FakeMachine({"/etc/resolv.conf": "nameserver 127.0.0.1\n"})
    assert refusal_of(". {\nforward . /etc/resolv.conf\n}", machine) == (
        "2: every nameserver in /etc/resolv.conf is this resolver itself (127.0.0.1);"
        " accepted: a file that names other servers"
    )


def test_ourselves_among_others_in_a_resolv_conf_is_left_out_with_a_warning() -> None:
    machine = FakeMachine({"/etc/resolv.conf": "nameserver 127.0.0.1\nnameserver 10.0.0.53\n"})
    assert settings_of(". {\nforward . /etc/resolv.conf\n}", machine).warnings == (
        "Corefile:2: forward: /etc/resolv.conf: nameserver 127.0.0.1 is this resolver itself and is left out",
    )


def test_an_empty_resolv_conf_is_a_warning_because_it_is_watched() -> None:
    assert settings_of(". {\nforward . empty.conf\n}", FakeMachine(FILES)).warnings == (
        "Corefile:2: forward: empty.conf: has no nameserver yet; it is watched",
    )


def test_a_resolv_conf_that_cannot_be_read_is_refused() -> None:
    machine = FakeMachine(RESOLV_CONF, unreadable=frozenset({"/etc/resolv.conf"}))
    assert "cannot be read: Permission denied" in refusal_of(". {\nforward . /etc/resolv.conf\n}", machine)
