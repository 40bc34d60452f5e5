"""Every step at which the other side of a hand-over may stop, go or talk nonsense, and what it may cost."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resolver.succession import HOLD_UP_S
from tests.succession.peers import NEW_STEPS, OLD_STEPS, New, Old, Then
from tests.support import node, scripted
from tests.support.addresses import free_port, loopback
from tests.support.jumping import JumpingClock
from tests.support.scripted import Reply

IN_ALL_S = HOLD_UP_S + 0.75
"""With everything else that a start does, on a machine that is busy."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the address of a Unix socket has 107 bytes, and peers know no way round."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def config(upstream: scripted.Upstream) -> str:
    return f"cache 300\nforward . {upstream.host}:{upstream.port}"


def replying(upstream: scripted.Upstream) -> None:
    upstream.default = Reply(records=("k0.example. 30 IN A 192.0.2.7",))


async def until(server: node.Node, happened: Callable[[], bool]) -> None:
    """Let turns pass until it has happened; the suite's limit ends what never does."""
    while not happened():
        await server.settle()


@pytest.mark.parametrize("then", ["silent", "closes", "garbage", "trickles"])
@pytest.mark.parametrize("steps", range(1, len(OLD_STEPS) + 1), ids=OLD_STEPS)
async def test_a_predecessor_that_stops_at_a_step(folder: Path, steps: int, then: Then) -> None:
    loop = asyncio.get_running_loop()
    directory = folder / "handover"
    clock = JumpingClock()
    place = (loopback(), 0)
    place = (place[0], free_port(place[0]))
    async with scripted.running() as upstream, Old(directory, place, steps, then, clock()) as old:
        replying(upstream)
        started_s = loop.time()
        async with node.serving(config(upstream), clock=clock, at=place, handover_dir=str(directory)) as server:
            assert loop.time() - started_s < IN_ALL_S
            old.give_up()
            for number in range(3):
                answer = await server.client.ask(f"k{number}.example.")
                assert answer.answer
                assert (await server.client.ask("new.example.", tcp=True)).answer
            page = {
                (reading.name, reading.labels): reading.value for reading in server.daemon.succession.readings()
            }
            whole = steps == len(OLD_STEPS)
            assert page["resolver_inherited_sockets", ()] == (2 if steps > OLD_STEPS.index("cache") else 0)
            if whole:
                assert page["resolver_inherited_answers", (("source", "predecessor"),)] == 300
            assert server.daemon.succession._offer is not None
    assert sorted(os.listdir(directory)) == ["9-fake.handover", "cache.snapshot"]


@pytest.mark.parametrize("then", ["silent", "closes", "garbage"])
@pytest.mark.parametrize("steps", range(1, len(NEW_STEPS) + 1), ids=NEW_STEPS)
async def test_a_successor_that_stops_at_a_step(folder: Path, steps: int, then: str) -> None:
    directory = folder / "handover"
    async with scripted.running() as upstream:
        replying(upstream)
        async with node.serving(config(upstream), handover_dir=str(directory)) as server:
            succession = server.daemon.succession
            new = New(directory)
            await new.say(steps)
            if then == "garbage":
                await new.garbage()
            assert (await server.client.ask("k0.example.")).answer
            if steps == len(NEW_STEPS) and then == "silent":
                assert new.sockets == 2
                await until(server, lambda: succession.successor_serves)
                assert succession.shares_sockets
                # It said so and is stuck: asked again, it does not count.
                assert not await succession.confirm()
                assert not succession.successor_serves
            if then == "closes":
                new.close()
            at = (server.host, server.port)
            async with node.serving(config(upstream), at=at, handover_dir=str(directory)) as follower:
                await until(server, lambda: succession.successor_serves)
                assert await succession.confirm()
                assert (await follower.client.ask("k0.example.")).answer
                assert upstream.count("k0.example.", "A") == 1
            await until(server, lambda: not succession.successor_serves)
            new.close()
            await until(server, lambda: not succession.shares_sockets)
            assert (await server.client.ask("k0.example.", tcp=True)).answer
    assert os.listdir(directory) == ["cache.snapshot"]


async def test_everybody_may_start_at_once(folder: Path) -> None:
    """Two that take over from the same process: both have its sockets, and either may go."""
    directory = folder / "handover"
    async with scripted.running() as upstream:
        replying(upstream)
        async with node.serving(config(upstream), handover_dir=str(directory)) as server:
            first, second = New(directory), New(directory)
            await asyncio.gather(first.say(5), second.say(5))
            assert (first.sockets, second.sockets) == (2, 2)
            await until(server, lambda: server.daemon.succession.successor_serves)
            first.close()
            await server.settle()
            assert server.daemon.succession.successor_serves
            second.close()
            await until(server, lambda: not server.daemon.succession.successor_serves)
            assert (await server.client.ask("k0.example.")).answer


async def test_sockets_that_are_left_behind_are_removed(folder: Path) -> None:
    """Processes that were killed: nobody listens any more."""
    directory = folder / "handover"
    directory.mkdir(mode=0o700)
    for number in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(directory / f"{number}.handover"))
    async with scripted.running() as upstream, node.serving(config(upstream), handover_dir=str(directory)):
        assert len(list(directory.glob("*.handover"))) == 1
