"""Interception in network namespaces, with packets: who answers, what conntrack sees, and what outlives whom.

The child itself, what ends it and what it does when it is not well, is in `test_nft_child`.
"""

import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from resolver.system.nft import Rules
from resolver.system.notrack import CLOSED_S
from resolver.system.options import ALIVE_S, NodeOptions
from tests.system.network import (
    CLUSTER4,
    CLUSTER6,
    KUBE_DNS,
    LOCAL4,
    LOCAL6,
    LONG_S,
    US,
    Network,
    first_in_path,
    needs_root,
    until,
)

pytestmark = needs_root

UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
OURS = (LOCAL4, CLUSTER4, LOCAL6, CLUSTER6)
DESERTED = ("10.96.0.20", "fd00:96::20")  # where nobody of ours listens
OPTIONS = NodeOptions(local_ips=OURS, alive_s=LONG_S)
TRACKED = replace(OPTIONS, interception="tracked")
BOTH = [pytest.param(OPTIONS, id="notrack"), pytest.param(TRACKED, id="tracked")]
SERVICE = [pytest.param(CLUSTER4, id="IPv4"), pytest.param(CLUSTER6, id="IPv6")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network")) as network:
        network.add_addresses(*OURS, *DESERTED)
        network.serve_us(*OURS)
        network.serve(US, network.node, LOCAL4, port=8080)
        network.kube_proxy()
        yield network


@pytest.fixture
def node(made: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    made.run("conntrack", "-F")
    first_in_path(made, monkeypatch)
    return made


@asynccontextmanager
async def rules_of(options: NodeOptions) -> AsyncIterator[Rules]:
    rules = Rules(options, on_failure=lambda failure: pytest.fail(str(failure)))
    await rules.start()
    try:
        yield rules
    finally:
        await rules.close()


async def beaten(rules: Rules) -> None:
    """Beat once, and wait until nft has done it."""
    assert rules.beat(dict.fromkeys(rules.options.local_ips, rules.options.alive_s))
    assert await rules.check()
    assert rules.armed


@pytest.mark.parametrize("options", BOTH)
async def test_questions_for_the_service_reach_us_and_go_back_to_kube_dns(
    node: Network, options: NodeOptions
) -> None:
    everyone = [
        (space, to, kind) for space in (node.pod, node.node) for to in (CLUSTER4, CLUSTER6) for kind in (UDP, TCP)
    ]

    async def heard() -> set[str]:
        return {await node.who(*one) for one in everyone}

    assert await heard() == {KUBE_DNS}
    async with rules_of(options) as rules:
        assert rules.owned
        assert await heard() == {KUBE_DNS}, "nobody comes to us before the first beat"
        await beaten(rules)
        node.run("conntrack", "-F")
        assert await heard() == {US}
        assert await node.who(node.pod, LOCAL4) == await node.who(node.pod, LOCAL6) == US
        if options.interception == "notrack":
            assert node.conntrack() == ""
        await rules.disarm()
        assert not rules.armed
        assert await heard() == {KUBE_DNS}
        await beaten(rules)
        assert await heard() == {US}
    assert await heard() == {KUBE_DNS}
    assert "node_resolver" not in node.run("nft", "list", "tables")


def left_s(node: Network, table: str, name: str, element: str) -> list[float]:
    """How long those elements of a set are still in whose text ends so. nft says 1m, 59s996ms, 12ms."""
    listed = node.run("nft", "list", "set", "inet", table, name)
    found = re.findall(rf"{re.escape(element)} expires (?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?", listed)
    return [int(m or 0) * 60 + int(s or 0) + int(ms or 0) / 1000 for m, s, ms in found]


async def test_a_beat_begins_the_time_anew(node: Network) -> None:
    async with rules_of(OPTIONS) as rules:
        await beaten(rules)

        async def some_are_gone() -> bool:
            return left_s(node, rules.name, "alive6", CLUSTER6) < [LONG_S - 1]

        await until(some_are_gone)
        before_s = left_s(node, rules.name, "alive6", CLUSTER6)
        await beaten(rules)
        assert left_s(node, rules.name, "alive6", CLUSTER6) > before_s


@pytest.mark.parametrize("options", BOTH)
async def test_who_does_not_beat_is_asked_no_more(node: Network, options: NodeOptions) -> None:
    async with rules_of(replace(options, alive_s=ALIVE_S)) as rules:
        await beaten(rules)
        assert await node.who(node.pod, CLUSTER4) == US

        async def kube_dns_is_asked() -> bool:
            # Not just "we are not": one question that nobody answers in time on a busy machine is no end yet.
            return await node.who(node.pod, CLUSTER4) == KUBE_DNS

        await until(kube_dns_is_asked)
        assert await node.who(node.pod, CLUSTER4) == KUBE_DNS


@pytest.mark.parametrize("address", SERVICE)
async def test_a_socket_is_not_pinned_to_us(node: Network, address: str) -> None:
    """One that asks again from the same port, as glibc does, finds kube-dns, and us again."""
    async with rules_of(OPTIONS) as rules:
        await beaten(rules)
        with node.client(node.pod, address) as client:
            assert await client.ask() == US
            await rules.disarm()
            assert await client.ask() == KUBE_DNS
            await beaten(rules)
            assert await client.ask() == US


async def test_an_answer_under_way_when_we_stop_pins_nobody(node: Network) -> None:
    """Tracked, it would begin an entry whose reply is the client's next question, which then never saw kube-dns."""
    async with rules_of(OPTIONS) as rules:
        await beaten(rules)
        with node.client(node.pod, CLUSTER4) as client:
            answer = await node.late_answer(client.tell())
            await rules.disarm()
            answer()
            assert await client.hear() == US
            assert node.conntrack() == ""
            assert await client.ask() == KUBE_DNS


@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("address", SERVICE)
async def test_connections_are_served_by_whoever_has_them(
    node: Network, address: str, options: NodeOptions
) -> None:
    for space in (node.pod, node.node):
        async with rules_of(options) as rules:
            with node.client(space, address, TCP) as theirs, node.client(space, address, TCP) as ours:
                assert await theirs.ask() == KUBE_DNS
                await beaten(rules)
                assert await theirs.ask() == KUBE_DNS, "a connection with kube-dns stays there"
                assert await ours.ask() == US
                assert await theirs.ask() == KUBE_DNS
                await rules.disarm()
                assert await ours.ask() == US, "a connection with us stays ours"
                assert await node.who(space, address, TCP) == KUBE_DNS
                assert await ours.ask() == US


async def test_closed_connections_are_soon_forgotten(node: Network) -> None:
    async with rules_of(OPTIONS) as rules:
        await beaten(rules)
        with node.client(node.pod, CLUSTER4, TCP) as client:
            assert await client.ask() == US
            (known_s,) = left_s(node, rules.name, "connections4", CLUSTER4)
            assert known_s > CLOSED_S

        async def soon() -> bool:  # our FIN follows the client's, a moment later
            return all(each_s <= CLOSED_S for each_s in left_s(node, rules.name, "connections4", CLUSTER4))

        await until(soon)


@pytest.mark.parametrize("options", BOTH)
async def test_a_closed_port_of_ours_says_nothing(node: Network, options: NodeOptions) -> None:
    """A glibc with one nameserver gives up at once when it is told; a lost packet it repeats."""
    for address in (LOCAL4, LOCAL6):
        with node.client(node.pod, address, port=5399) as client:
            assert await client.ask() == "ConnectionRefusedError"
    async with rules_of(options):
        for address in (LOCAL4, LOCAL6):
            with node.client(node.pod, address, port=5399) as client:
                assert await client.ask(0.1) == ""


async def test_where_nobody_listens_kube_dns_is_asked(node: Network) -> None:
    """Sockets are closed before the table is gone: what is asked in between must not be lost."""
    node.kube_proxy(v4=DESERTED[0], v6=DESERTED[1])
    async with rules_of(NodeOptions(DESERTED)) as rules:
        await beaten(rules)
        for address in DESERTED:
            assert {await node.who(node.pod, address, kind) for kind in (UDP, TCP)} == {KUBE_DNS}


async def test_health_is_asked_without_conntrack_too(node: Network) -> None:
    async with rules_of(OPTIONS):
        assert await node.who(node.node, LOCAL4, TCP, port=8080) == US
        assert "dport=8080" not in node.run("conntrack", "-L")


async def test_a_tracked_question_is_soon_forgotten(node: Network) -> None:
    async with rules_of(TRACKED) as rules:
        await beaten(rules)
        for address in (CLUSTER4, CLUSTER6):
            assert await node.who(node.pod, address) == US
        left_s = [int(line.split()[2]) for line in node.conntrack().splitlines()]
        assert len(left_s) == 2
        assert max(left_s) <= 2


@pytest.mark.parametrize("command", [("flush", "ruleset"), ("delete", "table"), ("flush", "table")])
async def test_nobody_else_can_take_the_table_away(node: Network, command: tuple[str, ...]) -> None:
    async with rules_of(OPTIONS) as rules:
        await beaten(rules)
        if command == ("flush", "ruleset"):
            node.run("nft", "flush", "ruleset")
            node.kube_proxy()
            assert rules.name in node.run("nft", "list", "tables")
        else:
            assert node.fails("nft", *command, "inet", rules.name)
        assert await rules.check()
        assert await node.who(node.pod, CLUSTER4) == US
        await beaten(rules)


async def test_two_generations_live_side_by_side(node: Network) -> None:
    async with rules_of(OPTIONS) as old:
        await beaten(old)
        async with rules_of(OPTIONS) as new:
            assert new.name != old.name
            await beaten(new)
            await old.close()
            assert await node.who(node.pod, CLUSTER4) == US
        assert await node.who(node.pod, CLUSTER4) == KUBE_DNS


@pytest.mark.parametrize("interception", ["notrack", "tracked"])
async def test_as_many_addresses_as_may_be(node: Network, interception: str) -> None:
    many = tuple(str(ip_address(f"fd00:1111:2222:3333:4444:5555:6666:{number:x}")) for number in range(7000, 7016))
    options = replace(OPTIONS if interception == "notrack" else TRACKED, local_ips=many)
    async with rules_of(options) as rules:
        await beaten(rules)
        assert all(address in node.run("nft", "list", "set", "inet", rules.name, "alive6") for address in many)
