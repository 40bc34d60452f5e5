"""The template of node-local-dns, filled as node-cache fills it."""

from pathlib import Path

import pytest

from resolver.errors import ConfigError
from resolver.settings.loading import load
from resolver.settings.model import ListenAddress, ProcessOptions
from resolver.settings.placeholders import Fillings, fill, has_placeholders
from tests.settings.support import RESOLV_CONF, FakeMachine

SHIPPED = Path(__file__).parents[2] / "deploy/corefiles/node-local-dns"

NODE = Fillings(
    local_ips=("169.254.20.10", "10.96.0.10"),
    cluster_dns="10.96.0.11",
    prometheus_address=":9253",
    cluster_remedy="remedy",
)
OWN_UPSTREAMS = NODE._replace(upstream_servers=("8.8.8.8:53", "8.8.4.4:53"))

TCP_BLOCK = "a\n    forward . __PILLAR__UPSTREAM__SERVERS__ {\n            force_tcp\n    }\nb\n"
OTHER_INDENT = "a\n  forward . __PILLAR__UPSTREAM__SERVERS__ {\n    force_tcp\n  }\nb\n"

#        template, fillings, Corefile
FILLED = [
    pytest.param("bind __PILLAR__LOCAL__DNS__", NODE, "bind 169.254.20.10 10.96.0.10", id="local addresses"),
    pytest.param("health __PILLAR__LOCAL__DNS__:8080", NODE, "health 169.254.20.10:8080", id="one with a port"),
    pytest.param(
        "health __PILLAR__LOCAL__DNS__:8080",
        NODE._replace(local_ips=("fd00::10",)),
        "health [fd00::10]:8080",
        id="IPv6 with a port",
    ),
    pytest.param("bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__", NODE,
                 "bind 169.254.20.10 10.96.0.10 ", id="the server's address is among the local ones"),
    pytest.param("forward . __PILLAR__CLUSTER__DNS__", NODE, "forward . 10.96.0.11", id="cluster DNS"),
    pytest.param("forward . __PILLAR__UPSTREAM__SERVERS__", NODE, "forward . /etc/resolv.conf", id="resolv.conf"),
    pytest.param("forward . __PILLAR__UPSTREAM__SERVERS__", OWN_UPSTREAMS,
                 "forward . 8.8.8.8:53 8.8.4.4:53", id="own upstreams"),
    pytest.param(TCP_BLOCK, NODE, TCP_BLOCK.replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf"),
                 id="force_tcp stays with resolv.conf"),
    pytest.param(TCP_BLOCK, OWN_UPSTREAMS, "a\n    forward . 8.8.8.8:53 8.8.4.4:53\n\n\nb\n",
                 id="force_tcp goes with own upstreams; lines below keep their numbers"),
    pytest.param(OTHER_INDENT, OWN_UPSTREAMS,
                 OTHER_INDENT.replace("__PILLAR__UPSTREAM__SERVERS__", "8.8.8.8:53 8.8.4.4:53"),
                 id="force_tcp stays where a blank differs"),
    pytest.param("__PILLAR__DNS__DOMAIN__:53 {", NODE, "cluster.local:53 {", id="domain"),
    pytest.param("prometheus __PROMETHEUS__ENDPOINT__", NODE, "prometheus :9253", id="metrics endpoint"),
    pytest.param("forward . 10.0.0.2", Fillings(), "forward . 10.0.0.2", id="no template"),
    pytest.param("# __PILLAR__CLUSTER__DNS__\nlog __PILLAR__DNS__SERVER__", Fillings(), "# \nlog ",
                 id="unknown addresses do not matter in comments"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "fillings", "corefile"), FILLED)
def test_placeholders_are_filled(template: str, fillings: Fillings, corefile: str) -> None:
    assert fill(template.encode(), "Corefile.base", fillings) == corefile.encode()


def test_an_unknown_cluster_dns_is_an_error_at_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^Corefile\.base:2: __PILLAR__CLUSTER__DNS__ has no value; remedy$"):
        fill(b"log\nforward . __PILLAR__CLUSTER__DNS__", "Corefile.base", NODE._replace(cluster_dns=""))


def test_unknown_local_addresses_are_an_error_at_their_line() -> None:
    with pytest.raises(ConfigError, match=r"^Corefile\.base:1: __PILLAR__LOCAL__DNS__ has no value; .*-localip$"):
        fill(b"bind __PILLAR__LOCAL__DNS__", "Corefile.base", NODE._replace(local_ips=()))


def test_templates_are_known() -> None:
    assert has_placeholders(b"__PILLAR__X")
    assert has_placeholders(b"__PROMETHEUS__ENDPOINT__")
    assert not has_placeholders(b". {\n}")


def node(files: dict[str, bytes], environ: dict[str, str]) -> FakeMachine:
    return FakeMachine({**RESOLV_CONF, **files}, environ)


PROCESS = ProcessOptions(
    conf="/etc/Corefile", local_ips=("169.254.20.10", "10.96.0.10"), upstream_service="kube-dns-upstream"
)
BASE = "/etc/coredns/Corefile.base"


def test_the_shipped_corefile_of_node_local_dns_loads_unchanged() -> None:
    machine = node({BASE: SHIPPED.read_bytes()}, {"KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.0.11"})
    settings = load(PROCESS, machine)
    cluster, in_addr, ip6, everything = settings.blocks
    listen = (ListenAddress("169.254.20.10", 53), ListenAddress("10.96.0.10", 53))
    assert all(block.listen == listen for block in settings.blocks)
    assert [block.zones for block in settings.blocks] == [
        ("cluster.local.",),
        ("in-addr.arpa.",),
        ("ip6.arpa.",),
        (".",),
    ]
    assert cluster.cache is not None
    assert (cluster.cache.success_max_ttl_s, cluster.cache.denial_max_ttl_s) == (30, 5)
    assert cluster.health is not None
    assert cluster.health.address == "169.254.20.10:8080"
    for block in (cluster, in_addr, ip6):
        (forward,) = block.forwards
        assert forward.force_tcp
        assert [target.host for target in forward.targets] == ["10.96.0.11"]
        assert forward.fallback == ()
    (forward,) = everything.forwards
    assert [target.host for target in forward.targets] == ["/etc/resolv.conf"]
    assert [target.host for target in forward.fallback] == ["10.96.0.11"]
    assert all(block.prometheus and block.reload and block.errors and block.loop for block in settings.blocks)
    assert settings.corefile_path == BASE
    assert settings.watched_paths == (BASE,)
    assert settings.warnings == ()


def test_the_template_that_an_operators_sed_has_filled_is_the_same() -> None:
    text = SHIPPED.read_bytes()
    for placeholder, value in (
        (b"__PILLAR__DNS__DOMAIN__", b"cluster.local"),
        (b"__PILLAR__LOCAL__DNS__", b"169.254.20.10"),
        (b"__PILLAR__DNS__SERVER__", b"10.96.0.10"),
    ):
        text = text.replace(placeholder, value)
    environ = {"KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.0.11"}
    filled = load(PROCESS, node({BASE: text}, environ))
    assert filled.blocks == load(PROCESS, node({BASE: SHIPPED.read_bytes()}, environ)).blocks
    assert filled.digest == load(PROCESS, node({BASE: SHIPPED.read_bytes()}, environ)).digest


@pytest.mark.parametrize(
    ("environ", "state"),
    [({}, "is not set"), ({"KUBE_DNS_UPSTREAM_SERVICE_HOST": "None"}, "holds 'None', no IP address")],
)
def test_a_missing_service_names_the_variable_and_the_remedy(environ: dict[str, str], state: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PROCESS, node({BASE: SHIPPED.read_bytes()}, environ))
    line = SHIPPED.read_text().splitlines().index("    forward . __PILLAR__CLUSTER__DNS__ {") + 1
    assert str(caught.value) == (
        f"{BASE}:{line}: __PILLAR__CLUSTER__DNS__ has no value; the environment variable"
        f" KUBE_DNS_UPSTREAM_SERVICE_HOST {state}: create the Service kube-dns-upstream before this pod starts,"
        " or name another one with -upstreamsvc"
    )
