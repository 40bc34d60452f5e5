"""Nothing of a hand-over or a snapshot holds the loop: work is counted as in tests/test_loop_turns.py."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import node, scripted
from tests.support.addresses import free_port, loopback
from tests.test_loop_turns import LIGHT_MAX, Turns, config_of, fill, parts_of

ENTRIES = 12_000


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "handover"


async def test_a_snapshot_is_written_and_read_in_slices(folder: Path) -> None:
    at = loopback(), 0
    at = at[0], free_port(at[0])
    async with scripted.running() as upstream:
        async with node.serving(config_of(upstream), at=at, handover_dir=str(folder)) as server:
            fill(server, ENTRIES)
            cache, _ = parts_of(server)
            for number, entry in enumerate(cache.success.entries.values()):
                entry.life.uses = number % 2
            with Turns() as turns:
                saving = asyncio.create_task(server.daemon.succession.save())
                while not saving.done():
                    await server.daemon.timers.sleep(0.01)
            assert turns.worst <= LIGHT_MAX < turns.total
        with Turns() as turns:
            async with node.serving(config_of(upstream), at=at, handover_dir=str(folder)) as server:
                cache, _ = parts_of(server)
                while len(cache.success.entries) < ENTRIES:
                    await server.daemon.timers.sleep(0.01)
        assert turns.worst <= LIGHT_MAX < turns.total


async def test_a_hand_over_is_done_in_slices_on_both_sides(folder: Path) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(config_of(upstream), handover_dir=str(folder)) as server,
    ):
        fill(server, ENTRIES)
        at = server.host, server.port
        with Turns() as turns:
            async with node.serving(config_of(upstream), at=at, handover_dir=str(folder)) as follower:
                cache, _ = parts_of(follower)
                while len(cache.success.entries) < ENTRIES or not server.daemon.succession.successor_serves:
                    await follower.daemon.timers.sleep(0.01)
                assert await server.daemon.succession.confirm()
                assert follower.daemon.succession.our_turn
        # Both processes are in this one loop, and in its turns.
        assert turns.worst <= 2 * LIGHT_MAX < turns.total


async def test_what_does_not_come_in_time_comes_while_we_serve(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.succession.HOLD_UP_S", 0.02)
    async with (
        scripted.running() as upstream,
        node.serving(config_of(upstream), handover_dir=str(folder)) as server,
    ):
        fill(server, ENTRIES)
        at = server.host, server.port
        async with node.serving(config_of(upstream), at=at, handover_dir=str(folder)) as follower:
            cache, _ = parts_of(follower)
            assert len(cache.success.entries) < ENTRIES
            assert server.daemon.succession.shares_sockets
            while len(cache.success.entries) < ENTRIES:
                await follower.daemon.timers.sleep(0.01)
