"""The holder of the rules ends with the thread that started it, which is gone before our memory is freed."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions
from tests.system.network import CLUSTER4, Network, needs_root, network

pytestmark = needs_root


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    yield from network(tmp_path, monkeypatch)


async def test_the_holder_ends_with_the_thread_that_started_it(node: Network) -> None:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[CommandFailed] = loop.create_future()
    rules = Rules(NodeOptions((CLUSTER4,)), on_failure=failed.set_result)
    starting = ThreadPoolExecutor(1)
    loop.set_default_executor(starting)
    await rules.start()
    loop.set_default_executor(ThreadPoolExecutor(1))
    starting.shutdown()
    async with asyncio.timeout(10):
        assert (await failed).program == "nft"
    assert not rules.alive


async def test_without_setpriv_there_are_rules_all_the_same(node: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.system.nft_child._WITH_US", ("no-such-setpriv",))
    rules = Rules(NodeOptions((CLUSTER4,)), on_failure=lambda error: None)
    await rules.start()
    assert rules.alive
    await rules.close()
