"""The kube-dns ConfigMap as node-cache reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import ConfigError, ConfigMapError
from resolver.settings import configmap
from resolver.settings.configmap import KubeDns
from resolver.settings.loading import load
from resolver.settings.model import ListenAddress, ProcessOptions
from tests.settings.support import RESOLV_CONF, FakeMachine, attempt

#        keys, what they say
GOOD = [
    pytest.param({}, KubeDns(), id="nothing"),
    pytest.param({"stubDomains": "{}", "upstreamNameservers": "[]"}, KubeDns(), id="empty"),
    pytest.param({"stubDomains": "null", "upstreamNameservers": " \n"}, KubeDns(), id="null and blank"),
    pytest.param(
        {"stubDomains": '{"b.local": ["1.2.3.4"], "acme.local": ["1.2.3.4:5353", "ns.acme.local"]}'},
        KubeDns((("acme.local", ("1.2.3.4:5353", "ns.acme.local")), ("b.local", ("1.2.3.4",)))),
        id="stub domains in order of their names",
    ),
    pytest.param(
        {"stubDomains": '{"a.b": ["tls://9.9.9.9", "2001:db8::1"]}'},
        KubeDns((("a.b", ("tls://9.9.9.9", "2001:db8::1")),)),
        id="over TLS, over IPv6",
    ),
    pytest.param(
        {"upstreamNameservers": '["8.8.8.8", "8.8.4.4:5353", "2001:db8::1"]'},
        KubeDns((), ("8.8.8.8:53", "8.8.4.4:5353", "[2001:db8::1]:53")),
        id="upstreams",
    ),
    pytest.param(
        {"federations": "east=east.example.com, west=w.example.com"}, KubeDns(), id="federations mean nothing"
    ),
]


@pytest.mark.parametrize(("content", "found"), GOOD)
def test_good(content: dict[str, str], found: KubeDns) -> None:
    files = {f"/etc/kube-dns/{key}": text for key, text in content.items()} or {"/etc/kube-dns/": ""}
    assert configmap.read("/etc/kube-dns/", FakeMachine(files)) == found


#        key, content, what is said
BAD = [
    ("stubDomains", '{"a.b": ["1.2.3.4"]', "not JSON"),
    ("stubDomains", "\xff", "not JSON"),
    ("stubDomains", "[" * 100_000, "not JSON"),
    ("stubDomains", '["a.b"]', "not a map of domains"),
    ("stubDomains", '{"a_b": ["1.2.3.4"]}', 'invalid domain name "a_b"'),
    ("stubDomains", '{"A.b": ["1.2.3.4"]}', "invalid domain name"),
    ("stubDomains", '{"": ["1.2.3.4"]}', "invalid domain name"),
    ("stubDomains", '{"a.b": "1.2.3.4"}', "has no list of nameservers"),
    ("stubDomains", '{"a.b": [1]}', "has no list of nameservers"),
    ("stubDomains", '{"a.b": []}', "has 0 nameservers"),
    ("stubDomains", '{"a.b": ["1.2.3.4:x"]}', "invalid nameserver"),
    ("stubDomains", '{"a.b": ["1.2.3.4 {"]}', "invalid nameserver"),
    ("stubDomains", '{"a.b": ["1.2.3.4\\n}\\nforward"]}', "invalid nameserver"),
    ("stubDomains", '{"a.b": ["grpc://1.2.3.4"]}', "cannot be asked over grpc"),
    ("stubDomains", '{"a.b": ["/no/such"]}', "there is no file"),
    ("upstreamNameservers", "{}", "not a list of nameservers"),
    ("upstreamNameservers", '["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]', "4 nameservers, at most 3"),
    ("upstreamNameservers", '["dns.google"]', "not an IP address"),
    ("upstreamNameservers", '["8.8.8.8:0"]', "invalid nameserver"),
    ("upstreamNameservers", '["8.8.8.8:99999"]', "not a port"),
    ("federations", "east", "is no federation"),
    ("federations", "e_a=x", "is no federation"),
]


@pytest.mark.parametrize(("key", "content", "problem"), BAD, ids=[row[1][:30] for row in BAD])
def test_bad(key: str, content: str, problem: str) -> None:
    machine = FakeMachine({f"/cm/{key}": content.encode("latin-1")})
    with pytest.raises(ConfigError) as caught:
        configmap.read("/cm", machine)
    assert caught.value.file == f"/cm/{key}"
    assert problem in caught.value.problem


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        configmap.read("/no", FakeMachine())


def test_a_file_that_cannot_be_read() -> None:
    machine = FakeMachine({"/cm/stubDomains": "{}"}, unreadable=frozenset({"/cm/stubDomains"}))
    with pytest.raises(ConfigError, match=r"^/cm/stubDomains: cannot be read: Permission denied$"):
        configmap.read("/cm", machine)


def test_a_nameserver_goes_into_the_corefile_as_one_word() -> None:
    machine = FakeMachine({"/cm/stubDomains": '{"a.b": ["/my file"]}', "/my file": "nameserver 10.0.0.1"})
    with pytest.raises(ConfigError, match="invalid nameserver"):
        configmap.read("/cm", machine)


def test_a_stub_domain_becomes_the_block_of_node_cache() -> None:
    stubs = KubeDns((("acme.local", ("1.2.3.4", "1.2.3.5:5353")),))
    assert configmap.stub_blocks(stubs, ("169.254.20.10", "10.96.0.10"), 53).decode() == (
        "acme.local:53 {\n    errors\n    cache 30\n    bind 169.254.20.10 10.96.0.10\n"
        "    forward . 1.2.3.4 1.2.3.5:5353\n}\n"
    )


BASE = b". {\n    bind __PILLAR__LOCAL__DNS__\n    forward . __PILLAR__UPSTREAM__SERVERS__\n}\n"
NODE = ProcessOptions(base_corefile="/base", local_ips=("169.254.20.10",))


def test_stub_domains_and_upstreams_are_served_beside_the_template() -> None:
    files: dict[str, bytes | str] = {
        "/base": BASE,
        "/etc/kube-dns/stubDomains": '{"acme.local": ["1.2.3.4"]}',
        "/etc/kube-dns/upstreamNameservers": '["8.8.8.8"]',
    }
    settings = load(NODE, FakeMachine(files))
    everything, stub = settings.blocks
    assert [target.text for target in everything.forwards[0].targets] == ["8.8.8.8:53"]
    assert (stub.zones, stub.listen) == (("acme.local.",), (ListenAddress("169.254.20.10", 53),))
    assert [target.text for target in stub.forwards[0].targets] == ["1.2.3.4"]
    assert stub.cache is not None
    assert stub.cache.success_max_ttl_s == 30
    assert stub.errors is not None
    assert (stub.prometheus, stub.health, stub.reload) == (None, None, None)
    assert settings.watched_paths == ("/base", "/etc/kube-dns")


def test_a_stub_domain_that_the_template_serves_already_is_refused() -> None:
    files: dict[str, bytes | str] = {
        **RESOLV_CONF,
        "/base": BASE + b"acme.local {\n    bind 169.254.20.10\n}\n",
        "/etc/kube-dns/stubDomains": '{"acme.local": ["1.2.3.4"]}',
    }
    with pytest.raises(ConfigError, match=r"already defined at /base:5"):
        load(NODE, FakeMachine(files))


def test_a_broken_configmap_is_left_out_at_start_and_refused_at_a_reload() -> None:
    machine = FakeMachine({**RESOLV_CONF, "/base": BASE, "/etc/kube-dns/stubDomains": "{"})
    settings = load(NODE, machine)
    assert len(settings.blocks) == 1
    assert "the kube-dns ConfigMap is left out" in settings.warnings[0]
    assert settings.without_configmap
    assert "/etc/kube-dns" in settings.watched_paths
    with pytest.raises(ConfigMapError, match=r"^/etc/kube-dns/stubDomains:1: not JSON"):
        load(NODE, machine, starting=False)


LEAVES = st.sampled_from(['"a.b"', '"1.2.3.4"', '"\\ud800"', "1", "null"])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(inner, max_size=2).map(lambda items: "{" + ",".join(f'"a.b": {item}' for item in items) + "}"),
    ),
)
KEYS = st.sampled_from(["stubDomains", "upstreamNameservers", "federations"])


@given(content=st.dictionaries(KEYS, st.one_of(st.binary(max_size=60), JSON.map(str.encode))))
def test_any_content_is_a_configmap_or_a_config_error(content: dict[str, bytes]) -> None:
    found = attempt(lambda: configmap.parse(content, "/cm", FakeMachine()))
    assert found is None or configmap.stub_blocks(found, ("10.0.0.1",), 53).isascii()
