"""The socket for exec probes: what it says, to whom, within which bounds, and whose file it is."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.clock import Timers
from resolver.errors import ResolverError
from resolver.status.options import ProbeOptions
from resolver.status.probe import ProbeSocket
from tests.support.jumping import JumpingClock

PROBLEMS = {"health": lambda: None, "ready": lambda: "forward .\nand\tmore"}


@asynccontextmanager
async def probing(path: Path, **bounds: float) -> AsyncIterator[tuple[ProbeSocket, JumpingClock]]:
    clock = JumpingClock()
    timers = Timers(asyncio.get_running_loop(), clock)
    options = ProbeOptions(**bounds)  # type: ignore[arg-type] # the test names the fields
    probe = ProbeSocket(str(path), PROBLEMS, timers, options)
    await probe.open()
    try:
        yield probe, clock
    finally:
        await probe.close()
        timers.close()


async def say(path: Path, data: bytes) -> bytes:
    """Send, and return all that comes until the end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(data)
        return await reader.read()
    finally:
        await end(writer)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # closed by the other side: as it should be
        await writer.wait_closed()


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 # the kernel tells the server, and nobody tells us
        await asyncio.sleep(0)


#        what is sent, what comes back
SAID = [
    pytest.param(b"health\n", b"OK\n", id="well"),
    pytest.param(b"ready\n", b"forward . and more\n", id="the reason is one line"),
    pytest.param(b"ready\r\nhealth\n", b"forward . and more\n", id="one question only"),
    pytest.param(b"\n", b"unknown question; accepted: health, ready\n", id="nothing"),
    pytest.param(b"\xff\x00\n", b"unknown question; accepted: health, ready\n", id="rubbish"),
    pytest.param(b"x" * 65, b"unknown question; accepted: health, ready\n", id="too long to be one"),
]


@pytest.mark.parametrize(("sent", "answer"), SAID)
async def test_what_is_said(tmp_path: Path, sent: bytes, answer: bytes) -> None:
    async with probing(tmp_path / "probe") as (probe, _):
        assert await say(tmp_path / "probe", sent) == answer
        assert not probe.clients


async def test_a_question_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with probing(tmp_path / "probe"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "probe"))
        for byte in b"health\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.read() == b"OK\n"
        await end(writer)


@given(question=st.text())
def test_any_question_is_one_line(question: str) -> None:
    probe = ProbeSocket("", {**PROBLEMS, "long": lambda: "x" * 10_000}, None)  # type: ignore[arg-type] # no timers here
    for answer in (probe.answer(question), probe.answer("long")):
        assert answer.endswith(b"\n")
        assert answer.count(b"\n") == 1
        assert len(answer) <= 401


async def test_a_client_that_is_silent_is_closed(tmp_path: Path) -> None:
    async with probing(tmp_path / "probe", connection_s=2.0) as (probe, clock):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "probe"))
        writer.write(b"hea")
        await say(tmp_path / "probe", b"health\n")  # the first has arrived by then
        assert len(probe.clients) == 1
        clock.jump(3)
        assert await reader.read() == b""
        await end(writer)
        assert not probe.clients


async def test_one_client_too_many_is_closed_at_once(tmp_path: Path) -> None:
    async with probing(tmp_path / "probe", connections_max=3) as (probe, _):
        kept = [await asyncio.open_unix_connection(str(tmp_path / "probe")) for _ in range(3)]
        await until(lambda: len(probe.clients) == 3)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "probe"))
        assert await reader.read() == b""
        await end(writer)
        await end(kept.pop()[1])
        await until(lambda: len(probe.clients) == 2)
        assert await say(tmp_path / "probe", b"health\n") == b"OK\n"
        for _, each in kept:
            await end(each)


async def test_the_socket_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    before = os.umask(0)
    try:
        async with probing(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_ISSOCK(path.stat().st_mode)
    finally:
        os.umask(before)
    assert not path.exists()


async def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with probing(path):
        assert await say(path, b"health\n") == b"OK\n"


async def test_what_a_living_process_has_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    async with probing(path):
        with pytest.raises(ResolverError, match="is another process's, which lives"):
            async with probing(path):
                pass
        assert await say(path, b"health\n") == b"OK\n"


async def test_a_living_process_that_takes_nobody_is_left_alone_too(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    with socket.socket(socket.AF_UNIX) as stuck, socket.socket(socket.AF_UNIX) as one, \
            socket.socket(socket.AF_UNIX) as two:  # fmt: skip
        stuck.bind(str(path))
        stuck.listen(0)
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(ResolverError, match="is another process's, which lives"):
            async with probing(path):
                pass


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    path.write_text("dear")
    with pytest.raises(ResolverError, match="is there and is no socket"):
        async with probing(path):
            pass
    assert path.read_text() == "dear"


async def test_a_path_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such", tmp_path / ("x" * 200)):
        with pytest.raises(ResolverError, match=f"^-probe-socket {path}: .+; name a path in a directory of ours$"):
            async with probing(path):
                pass


async def test_the_successor_s_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    async with probing(path):
        path.unlink()
        async with probing(tmp_path / "other"):
            (tmp_path / "other").rename(path)
            inode = path.stat().st_ino
    assert path.stat().st_ino == inode


async def test_a_client_that_leaves_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    async with probing(path) as (probe, _):
        for data in (b"", b"hea", b"health\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect_ex(str(path))
                client.send(data)
        assert await say(path, b"health\n") == b"OK\n"
        await until(lambda: not probe.clients)
