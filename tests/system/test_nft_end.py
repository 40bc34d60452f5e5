"""When we are killed: the child ends with the thread that started it, and that thread keeps none of our sockets."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system import nft_child
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions
from tests.system.network import CLUSTER4, Network, needs_root, network, until

pytestmark = needs_root


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    yield from network(tmp_path, monkeypatch)


def holders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nft"]


async def test_the_child_ends_with_the_thread_that_started_it(
    node: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: asyncio.Future[CommandFailed] = asyncio.get_running_loop().create_future()
    may_end = threading.Event()
    started: list[subprocess.Popen[bytes]] = []

    def hold(program: str, starting: "Future[subprocess.Popen[bytes]]") -> None:
        started.append(nft_child._popen(program))
        starting.set_result(started[0])
        may_end.wait()

    monkeypatch.setattr(nft_child, "_hold", hold)
    rules = Rules(NodeOptions((CLUSTER4,)), on_failure=failed.set_result)
    await rules.start()
    may_end.set()
    async with asyncio.timeout(10):
        assert (await failed).program == "nft"
    assert not rules.alive
    assert started[0].wait(10) == -signal.SIGKILL


async def test_that_thread_has_no_file_of_ours_and_ends_with_the_child(node: Network) -> None:
    rules = Rules(NodeOptions((CLUSTER4,)), on_failure=lambda error: pytest.fail(str(error)))
    await rules.start()
    (holder,) = holders()

    async def has_let_go() -> bool:
        return {int(fd) for fd in os.listdir(f"/proc/self/task/{holder.native_id}/fd")} <= {0, 1, 2}

    await until(has_let_go)
    assert len(os.listdir("/proc/self/fd")) > 3, "ours are still ours"
    assert await rules.check()
    await rules.close()
    assert not holders()


async def test_without_setpriv_there_are_rules_all_the_same(node: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.system.nft_child._WITH_US", ("no-such-setpriv",))
    rules = Rules(NodeOptions((CLUSTER4,)), on_failure=lambda error: None)
    await rules.start()
    assert rules.alive
    await rules.close()
