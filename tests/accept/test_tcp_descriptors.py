"""No file descriptor for one more TCP client: a pause, room made by an idle one, and nobody lost."""

import asyncio
import errno
import os
import resource
import socket
from typing import Any

import pytest

from resolver.accept.tcp import ACCEPT_PAUSE_S
from resolver.wire.framing import frame
from tests.accept.serving import Served, is_closed, question, response, serving
from tests.support import codecs
from tests.support.addresses import loopback

lane = codecs.both(Served.__module__, "visits")


async def test_no_file_descriptors_in_earnest() -> None:
    async with serving() as served:
        client = await served.connect()
        served.server.stop()  # nothing is accepted but by hand
        late = socket.create_connection((served.host, served.port))
        free = os.dup(late.fileno())
        os.close(free)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        served.server.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            assert not served.server.accept()
            assert served.server.counters.accept_errors == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        late.send(frame(question(1)))
        served.clock.jump(ACCEPT_PAUSE_S)
        await served.until(lambda: served.answers.asked == [1])
        assert late.recv(100) == frame(response(1))
        late.close()
        await client.close()


class NoDescriptors(socket.socket):
    """A listening socket that has no file descriptor left for `fails` connections."""

    fails = 3
    tries = 0

    def _accept(self) -> tuple[int, Any]:
        self.tries += 1
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super()._accept()  # type: ignore[misc, no-any-return] # as in `accept.tcp`


async def test_no_file_descriptors_means_a_pause_and_not_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served.__module__ + ".visits", None)  # what was compiled asks the kernel, not this class
    sock = NoDescriptors()
    sock.bind((loopback(), 0))
    sock.listen()
    async with serving(sock=sock) as served, await served.connect() as client:
        client.send(question(1))
        for tries in (1, 2, 3):
            await served.until(lambda: sock.tries >= tries)  # noqa: B023 the loop waits for it
            for _ in range(50):
                await asyncio.sleep(0)
            assert sock.tries == tries
            served.clock.jump(ACCEPT_PAUSE_S)
        assert await client.receive() == response(1)
        assert served.server.counters.accept_errors == 3


async def test_without_file_descriptors_an_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Served.__module__ + ".visits", None)
    sock = NoDescriptors()
    sock.fails = 0
    sock.bind((loopback(), 0))
    sock.listen()
    async with serving(sock=sock) as served, await served.connect() as idle:
        idle.send(question(1))
        await idle.receive()
        sock.fails = 1
        async with await served.connect() as client:
            assert await is_closed(idle)
            served.clock.jump(ACCEPT_PAUSE_S)
            client.send(question(2))
            assert await client.receive() == response(2)
