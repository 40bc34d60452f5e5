"""The holder of the rules is replaced while packets and connections go on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resolver.clock import Timers
from resolver.errors import CommandFailed
from resolver.system import lasting
from resolver.system.lasting import OVERLAP_S, LastingRules
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions
from tests.support.jumping import JumpingClock
from tests.system.network import CLUSTER4, CLUSTER6, US, Network, needs_root, network

pytestmark = needs_root

OURS = (CLUSTER4, CLUSTER6)
OPTIONS = NodeOptions(OURS)
LIVES = dict.fromkeys(OURS, 3.0)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setattr(lasting, "RENEW_AFTER_BEATS", 3)
    for made in network(tmp_path, monkeypatch):
        made.add_addresses(*OURS)
        made.kube_proxy()
        made.serve_us(*OURS)
        yield made


class Bench:
    def __init__(self, node: Network) -> None:
        self.clock = JumpingClock()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.failures: list[CommandFailed] = []
        self.made: list[Rules] = []
        self.refuse = False
        self.node = node
        self.rules = LastingRules(OPTIONS, self.timers, on_failure=self.failures.append, make=self._make)

    def _make(self, options: NodeOptions, on_failure: Any) -> Rules:
        made = Rules(options, on_failure=on_failure, program="no-such-nft" if self.refuse else "nft")
        self.made.append(made)
        return made

    def tables(self) -> int:
        return self.node.run("nft", "list", "tables").count("node_resolver")

    async def until_renewed(self) -> None:
        """Beat until another child holds the rules."""
        before = self.rules.name
        for _ in range(3):
            assert self.rules.beat(LIVES)
        async with asyncio.timeout(10):
            while self.rules.name == before:
                await self.timers.sleep(0.01)
        assert self.rules.beat(LIVES)
        assert await self.rules.check()


@asynccontextmanager
async def bench(node: Network) -> AsyncIterator[Bench]:
    made = Bench(node)
    await made.rules.start()
    try:
        yield made
    finally:
        await made.rules.close()
        async with asyncio.timeout(10):
            while made.tables():  # a child that is killed takes a moment to end
                await made.timers.sleep(0.01)
        made.timers.close()
        assert not any(one.alive for one in made.made)


async def test_packets_and_connections_go_on_through_a_renewal(node: Network) -> None:
    async with bench(node) as here:
        assert here.rules.beat(LIVES)
        assert await here.rules.check()
        with node.client(node.pod, CLUSTER4, socket.SOCK_STREAM) as connection:
            assert await connection.ask() == US
            await here.until_renewed()
            assert here.tables() == 2, "both, until the new one knows every connection"
            assert await connection.ask() == US
            here.clock.jump(OVERLAP_S)
            async with asyncio.timeout(10):
                while here.tables() == 2:
                    await here.timers.sleep(0.01)
            assert await connection.ask() == US
            assert [await node.who(node.pod, address) for address in OURS] == [US, US]
        assert here.failures == []


async def test_a_renewal_that_fails_leaves_the_old_rules(node: Network) -> None:
    async with bench(node) as here:
        here.refuse = True
        for _ in range(3):
            assert here.rules.beat(LIVES)
        async with asyncio.timeout(10):
            while here.rules._renewing is not None:
                await here.timers.sleep(0.01)
        assert here.rules.alive
        assert await node.who(node.pod, CLUSTER4) == US
        here.refuse = False
        await here.until_renewed()
        assert here.failures == []


async def test_the_end_of_the_old_holder_is_no_failure_and_that_of_the_new_one_is(node: Network) -> None:
    async with bench(node) as here:
        await here.until_renewed()
        for number, rules in enumerate(here.made):
            assert rules._child is not None
            rules._child.fail(CommandFailed("nft", "failed", "killed"))
            assert len(here.failures) == number


async def test_who_stops_in_the_middle_of_a_renewal_leaves_nothing(node: Network) -> None:
    async with bench(node) as here:
        for _ in range(3):
            assert here.rules.beat(LIVES)
        await asyncio.sleep(0)
        await here.rules.disarm()
    async with bench(node) as here:
        await here.until_renewed()
        await here.rules.disarm()
        assert await node.who(node.pod, CLUSTER4) != US
