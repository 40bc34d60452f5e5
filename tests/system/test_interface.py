"""Our device and its addresses: a table of listings, and real devices in a network namespace."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resolver.errors import CommandFailed
from resolver.system.interface import ALIAS, Interface, Missing, missing_of
from resolver.system.options import NodeOptions
from tests.system.network import CLUSTER4, LOCAL4, LOCAL6, US, Network, needs_root, network

DEVICE = "nodelocaldns"
OURS = (LOCAL4, CLUSTER4, LOCAL6)


def listing(**devices: list[str]) -> str:
    found: list[dict[str, Any]] = [
        {"ifname": name, "addr_info": [{"local": address, "prefixlen": 32} for address in addresses]}
        for name, addresses in devices.items()
    ]
    return json.dumps([{}, *found])


#        devices with addresses, wanted, what is missing
LISTINGS = [
    pytest.param({"lo": ["127.0.0.1"]}, OURS, Missing(DEVICE, OURS), id="nothing is there"),
    pytest.param({DEVICE: []}, OURS, Missing("", OURS), id="a device without addresses"),
    pytest.param({DEVICE: [LOCAL4, LOCAL6]}, OURS, Missing("", (CLUSTER4,)), id="one address was deleted"),
    pytest.param({DEVICE: list(OURS)}, OURS, Missing(), id="all is there"),
    pytest.param({"kube-ipvs0": list(OURS)}, OURS, Missing(), id="on another device"),
    pytest.param({DEVICE: ["fd00:20:0:0:0:0:0:10"]}, ("fd00:20::10",), Missing(), id="another spelling"),
    pytest.param({"lo": []}, ("127.0.0.53", "::1"), Missing(), id="loopback addresses are always there"),
    pytest.param({"lo": []}, (), Missing(), id="nothing is wanted"),
]


@pytest.mark.parametrize(("devices", "wanted", "missing"), LISTINGS)
def test_what_is_missing(devices: dict[str, list[str]], wanted: tuple[str, ...], missing: Missing) -> None:
    assert missing_of(listing(**devices), DEVICE, wanted) == missing
    assert bool(missing) == bool(missing.addresses)


@pytest.mark.parametrize("text", ['Object "-j" is unknown', "{}[", '[{"ifindex": 1}]', "[1]"])
def test_another_listing_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json says it in its own words
        missing_of(text, DEVICE, OURS)


def test_no_output_is_no_device() -> None:
    assert missing_of("", DEVICE, OURS) == Missing(DEVICE, OURS)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    yield from network(tmp_path, monkeypatch)


def without(node: Network, *kinds: str) -> None:
    """Let the kernel have no devices of these kinds."""
    real = (node.programs / "ip").read_text().splitlines()[1]
    cases = "".join(
        f'case "$*" in *"type {kind}") echo "Error: Unknown device type." >&2; exit 2;; esac\n' for kind in kinds
    )
    node.wrap("ip", cases + real)


def addresses(node: Network, device: str = DEVICE) -> set[str]:
    shown = json.loads(node.run("ip", "-j", "addr", "show", "dev", device))
    return {f"{one['local']}/{one['prefixlen']}" for one in shown[0]["addr_info"] if one["scope"] != "link"}


@needs_root
@pytest.mark.parametrize("kinds", [(), ("dummy",), ("dummy", "bridge")])
async def test_addresses_of_both_families_come_answer_come_back_and_go(
    node: Network, kinds: tuple[str, ...]
) -> None:
    without(node, *kinds)
    interface = Interface(NodeOptions(OURS))
    before = addresses(node, "lo")

    assert await interface.ensure() == Missing(DEVICE, OURS)
    assert interface.device == ("lo" if len(kinds) == 2 else DEVICE)
    ours = {f"{LOCAL4}/32", f"{CLUSTER4}/32", f"{LOCAL6}/128"}
    assert addresses(node, interface.device) == (before if interface.device == "lo" else set()) | ours
    node.serve_us(*OURS)
    for address in OURS:
        assert await node.who(node.pod, address) == await node.who(node.node, address, socket.SOCK_STREAM) == US
    assert not await interface.ensure()

    node.run("ip", "addr", "del", f"{LOCAL6}/128", "dev", interface.device)
    assert await interface.ensure() == Missing("", (LOCAL6,))
    if interface.device == DEVICE:
        node.run("ip", "link", "del", DEVICE)
        assert await interface.ensure() == Missing(DEVICE, OURS)

    await interface.remove()
    assert node.fails("ip", "link", "show", DEVICE)
    assert addresses(node, "lo") == before
    await interface.remove()


@needs_root
async def test_what_others_made_stays(node: Network) -> None:
    node.run("ip", "link", "add", DEVICE, "type", "bridge")
    node.run("ip", "addr", "add", f"{LOCAL4}/32", "dev", DEVICE)
    interface = Interface(NodeOptions(OURS))
    assert await interface.ensure() == Missing("", (CLUSTER4, LOCAL6))
    await interface.remove()
    assert addresses(node) == {f"{LOCAL4}/32"}


@needs_root
async def test_a_generation_knows_the_device_of_another(node: Network) -> None:
    assert await Interface(NodeOptions(OURS)).ensure()
    second = Interface(NodeOptions(OURS))
    assert not await second.ensure()
    assert ALIAS in node.run("ip", "link", "show", DEVICE)
    await second.remove()
    assert node.fails("ip", "link", "show", DEVICE)


@needs_root
async def test_an_address_that_cannot_be_does_not_keep_the_others_away(node: Network) -> None:
    node.run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    interface = Interface(NodeOptions(("fd00::1", LOCAL4)))
    with pytest.raises(CommandFailed, match="IPv6 is disabled"):
        await interface.ensure()
    assert addresses(node) == {f"{LOCAL4}/32"}


async def test_without_ip_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("resolver.system.commands._SEARCH", str(tmp_path))
    with pytest.raises(CommandFailed, match="ip: not found; install Debian's package iproute2") as caught:
        await Interface(NodeOptions(OURS)).ensure()
    assert caught.value.kind == "missing"
