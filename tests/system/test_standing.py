"""The standing nat table: its text, and questions to a link-local address with and without us."""

import itertools
import socket
from collections.abc import Iterator

import pytest

from resolver.errors import CommandFailed
from resolver.system.nft import Rules
from resolver.system.options import Interception, NodeOptions
from resolver.system.standing import NAME, StandingNat, endpoint, table
from tests.system.network import (
    CLUSTER4,
    CLUSTER6,
    KUBE4,
    KUBE6,
    KUBE_DNS,
    LOCAL4,
    LOCAL6,
    US,
    Network,
    first_in_path,
    needs_root,
)

OURS = (LOCAL4, LOCAL6)
MEMBERS = (KUBE4, f"[{KUBE6}]:53")

ENDPOINTS = [
    pytest.param("10.0.0.1", ("10.0.0.1", 53), id="an address"),
    pytest.param("10.0.0.1:1053", ("10.0.0.1", 1053), id="with a port"),
    pytest.param("FD00:0::1", ("fd00::1", 53), id="IPv6"),
    pytest.param("[fd00::1]", ("fd00::1", 53), id="IPv6 in brackets"),
    pytest.param("[fd00::1]:1053", ("fd00::1", 1053), id="IPv6 with a port"),
]


@pytest.mark.parametrize(("text", "expected"), ENDPOINTS)
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text) == expected


@pytest.mark.parametrize(
    "text", ["", "kube-dns", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:x", "10.0.0.1 ; flush ruleset"]
)
def test_what_is_no_endpoint_never_becomes_a_rule(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # ipaddress says it in its own words
        table(NodeOptions(OURS), [text])


def test_service_addresses_are_left_to_kube_proxy() -> None:
    text = table(NodeOptions((LOCAL4, CLUSTER4, LOCAL6, CLUSTER6)), MEMBERS)
    assert CLUSTER4 not in text
    assert LOCAL4 in text
    assert CLUSTER6 in text, "no IPv6 address is link-local, so all of them are meant"


def test_a_family_without_members_is_left_alone() -> None:
    assert LOCAL6 not in table(NodeOptions(OURS), [KUBE4])
    assert "dnat" not in table(NodeOptions((LOCAL6,)), [KUBE4])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network")) as network:
        network.add_addresses(*OURS)
        # Every node has these addresses: an answer that is sent to one does not come back here.
        network.configure(network.kube, [f"route add unreachable {address}" for address in OURS])
        network.serve_us(*OURS)
        network.serve("other", network.kube, KUBE4, KUBE6, port=1053)
        yield network


@pytest.fixture
def node(made: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    made.clean()
    first_in_path(made, monkeypatch)
    return made


async def heard(node: Network) -> set[str]:
    spaces, kinds = (node.pod, node.node), (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    return {await node.who(*one) for one in itertools.product(spaces, OURS, kinds)}


@needs_root
@pytest.mark.parametrize("interception", ["notrack", "tracked"])
async def test_it_stands_in_for_us_and_only_while_we_are_not_there(
    node: Network, interception: Interception
) -> None:
    options = NodeOptions(OURS, interception=interception, standing_nat=MEMBERS)
    standing = StandingNat(options)
    assert await standing.update(options.standing_nat)
    assert await heard(node) == {KUBE_DNS}

    rules = Rules(options, on_failure=lambda failure: pytest.fail(str(failure)))
    await rules.start()
    rules.beat(dict.fromkeys(OURS, options.alive_s))
    assert await rules.check()
    assert await heard(node) == {US}
    await rules.close()
    assert await heard(node) == {KUBE_DNS}


@needs_root
async def test_members_change_at_once_and_questions_spread(node: Network) -> None:
    standing = StandingNat(NodeOptions(OURS))
    assert await standing.update(MEMBERS)
    assert not await standing.update(tuple(reversed(MEMBERS)))
    assert not await standing.update(()), "the last known members stay"
    assert await heard(node) == {KUBE_DNS}

    assert await standing.update((f"{KUBE4}:1053", f"[{KUBE6}]:1053"))
    assert await heard(node) == {"other"}

    assert await standing.update((KUBE4, f"{KUBE4}:1053"))
    asked = [await node.who(node.pod, LOCAL4) for _ in range(24)]
    assert set(asked) == {KUBE_DNS, "other"}


@needs_root
async def test_it_is_put_back_and_goes_only_when_asked(node: Network) -> None:
    standing = StandingNat(NodeOptions(OURS))
    assert await standing.check(), "without members there is nothing to miss"
    await standing.update(MEMBERS)
    before = node.run("nft", "list", "table", "inet", NAME)
    assert await standing.check()
    node.run("nft", "delete", "table", "inet", NAME)
    assert not await standing.check()
    assert node.run("nft", "list", "table", "inet", NAME) == before
    await StandingNat(NodeOptions(OURS)).update(MEMBERS)
    assert node.run("nft", "list", "table", "inet", NAME) == before, "another generation writes the same"

    await standing.remove()
    assert NAME not in node.run("nft", "list", "tables")
    await standing.remove()


async def test_a_member_that_is_none_is_told() -> None:
    with pytest.raises(CommandFailed, match="no such endpoint"):
        await StandingNat(NodeOptions(OURS)).update(["kube-dns"])
