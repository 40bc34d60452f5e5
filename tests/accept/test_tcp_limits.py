"""TCP clients that are greedy or many: what they may leave unread, how many they may be, and no descriptors."""

import asyncio
import errno
import socket

import pytest

from resolver.accept.stream import Stream
from resolver.wire.framing import frame
from tests.accept.serving import BIG_BYTES, OPTIONS, Served, is_closed, is_open, question, reset, response, serving
from tests.support import codecs
from tests.support.addresses import loopback
from tests.support.client import Tcp

lane = codecs.both(Served.__module__, "visits")

# Greed


async def test_pipelined_questions_are_bounded_and_none_is_lost() -> None:
    async with serving(tcp_pipelined_max=8) as served, await served.connect() as client:
        for number in range(50):
            client.send(question(number, b"later"))
        answered: set[bytes] = set()
        while len(answered) < 50:
            await served.until(lambda: len(served.answers.waiting) >= min(8, 50 - len(answered)))
            await served.ticks(1)
            assert len(served.answers.waiting) <= 8
            served.answers.release(3)
            for _ in range(min(3, 50 - len(answered))):
                answered.add((await client.receive())[:2])


async def never_read(served: Served) -> tuple[socket.socket, Stream]:
    """Connect, ask for 400 x 40,000 bytes, read nothing; return when the server is stuck with it."""
    loop = asyncio.get_running_loop()
    before = served.answers.latest
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, (served.host, served.port))
    await loop.sock_sendall(sock, b"".join(frame(question(number, b"big")) for number in range(400)))
    await served.until(lambda: served.answers.latest is not before)
    stream = served.answers.latest
    assert stream is not None
    await served.until(lambda: stream in served.server._desk.stalled)
    await served.ticks(3)
    return sock, stream


async def test_a_client_that_never_reads_is_not_read_and_closed_in_time() -> None:
    async with serving() as served:
        sock, stream = await never_read(served)
        assert OPTIONS.tcp_unsent_max_bytes < stream.unsent_bytes <= OPTIONS.tcp_unsent_max_bytes + BIG_BYTES + 20
        asked = len(served.answers.asked)
        assert asked < 20
        served.clock.jump(OPTIONS.tcp_write_s - 1)
        await served.settled()
        assert len(served.answers.asked) == asked + 1
        assert served.server.counters.closed_write == 0
        served.clock.jump(1.2)
        await served.until(lambda: served.server.open_connections == 0)
        assert served.server.counters.closed_write == 1
        sock.close()


async def test_a_client_that_is_gone_while_nothing_is_read_from_it_is_let_go() -> None:
    async with serving(tcp_pipelined_max=2) as served, await served.connect() as leaver:
        for number in range(4):
            leaver.send(question(number, b"later"))
        await served.until(lambda: len(served.answers.waiting) == 2)
        reset(leaver)
        await served.until(lambda: served.server.open_connections == 0)


async def test_a_client_that_reads_late_gets_everything() -> None:
    async with serving() as served:
        sock, _ = await never_read(served)
        reader, writer = await asyncio.open_connection(sock=sock)
        client = Tcp(reader, writer)
        numbers = [int.from_bytes((await client.receive())[:2], "big") for _ in range(400)]
        assert numbers == list(range(400))
        assert served.server.counters.closed_write == 0
        await client.close()


async def test_late_answers_to_a_client_that_never_reads_are_bounded() -> None:
    """Nothing holds back answers of flights; a client that asked for 5 MB and reads none of it is cut off."""
    async with serving() as served:
        sock = socket.create_connection((served.host, served.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(100):
            sock.send(frame(question(number, b"later")))
        await served.until(lambda: len(served.answers.waiting) == 100)
        stream = served.answers.waiting[0][1]
        most = 0
        while served.answers.waiting:
            number, client = served.answers.waiting.pop()
            client.send(response(number) + b"." * 60_000)
            most = max(most, stream.unsent_bytes)
        assert 1_000_000 < most < 1_300_000
        await served.until(lambda: served.server.open_connections == 0)
        assert served.server.counters.closed_write == 1
        sock.close()


async def test_many_clients_that_never_read_are_bounded_together() -> None:
    async with serving() as served:
        greedy = [await never_read(served) for _ in range(36)]
        assert served.server.counters.closed_write == 4
        for sock, _ in greedy:
            sock.close()
        await served.until(lambda: served.server.open_connections == 0)


async def test_a_half_closed_client_that_never_reads_is_closed_in_time() -> None:
    """It has less unsent than it may, so only its end is waited for."""
    async with serving() as served:
        sock = socket.create_connection((served.host, served.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked = 0
        while served.answers.latest is None or not served.answers.latest.unsent_bytes:
            sock.sendall(frame(question(asked, b"big")))
            asked += 1
            await served.until(lambda: len(served.answers.asked) == asked)  # noqa: B023 awaited within this turn
            await served.ticks(2)
        assert served.answers.latest not in served.server._desk.stalled
        sock.shutdown(socket.SHUT_WR)
        await served.until(lambda: served.server._desk.closing)
        served.clock.jump(OPTIONS.tcp_write_s + 0.2)
        await served.until(lambda: served.server.open_connections == 0)
        assert served.server.counters.closed_write == 1
        sock.close()


# Many connections


async def test_one_more_than_all_takes_the_place_of_the_longest_idle() -> None:
    async with serving(tcp_connections_max=3) as served:
        clients = []
        for number in range(3):
            clients.append(await served.connect(source=f"127.0.0.{number + 1}"))
            clients[-1].send(question(number))
            await clients[-1].receive()
        clients[0].send(question(7))
        await clients[0].receive()
        async with await served.connect() as one_more:
            one_more.send(question(8))
            assert await one_more.receive() == response(8)
            assert await is_closed(clients[1])
            assert is_open(clients[0])
            assert is_open(clients[2])
            assert served.server.open_connections == 3
            assert served.server.counters.evicted == 1
        for client in clients:
            await client.close()


async def test_one_more_is_refused_when_all_are_at_work() -> None:
    async with serving(tcp_connections_max=2) as served:
        clients = [await served.connect() for _ in range(2)]
        for number, client in enumerate(clients):
            client.send(question(number, b"later"))
        await served.until(lambda: len(served.answers.waiting) == 2)
        refused = await served.connect()
        assert await is_closed(refused)
        assert served.server.counters.refused_full == 1
        served.answers.release()
        assert [await client.receive() for client in clients] == [response(0, b"later"), response(1, b"later")]
        for client in (*clients, refused):
            await client.close()


async def test_one_client_cannot_take_all_connections() -> None:
    """300 of one client that all wait for answers; another one is served. 256 of them stay."""
    async with serving() as served:
        greedy = loopback()
        clients = []
        for number in range(300):
            client = await served.connect(source=greedy)
            client.send(question(number, b"later"))
            clients.append(client)
        await served.until(lambda: served.server.counters.accepted + served.server.counters.refused_client == 300)
        await served.until(lambda: len(served.answers.waiting) == OPTIONS.tcp_connections_per_client)
        assert served.server.counters.refused_client == 300 - OPTIONS.tcp_connections_per_client
        await served.settled()
        for client in clients:
            reset(client)
        await served.until(lambda: served.server.open_connections == 0)


async def test_a_client_with_too_many_gives_up_its_own_idle_ones() -> None:
    async with serving(tcp_connections_per_client=2) as served, await served.connect() as other:
        other.send(question(1))
        await other.receive()
        ours = loopback()
        first, second, third = [await served.connect(source=ours) for _ in range(3)]
        third.send(question(2))
        assert await third.receive() == response(2)
        assert await is_closed(first)
        assert is_open(other)
        assert is_open(second)
        for client in (first, second, third):
            await client.close()


async def test_a_question_that_has_arrived_is_not_cut_off_for_one_more() -> None:
    """All are taken in one batch, before any question is read."""
    async with serving(tcp_connections_max=3) as served:
        clients = [socket.create_connection((served.host, served.port)) for _ in range(4)]
        for number, client in enumerate(clients):
            client.send(frame(question(number)))
        served.server.accept()
        assert served.server.counters.refused_full == 1
        await served.until(lambda: len(served.answers.asked) == 3)
        assert [client.recv(100) for client in clients[:3]] == [frame(response(number)) for number in range(3)]
        for client in clients:
            client.close()


async def test_no_kernel_memory_to_watch_one_more_ends_that_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def register(self, fd: int, events: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    async with serving() as served, await served.connect() as early:
        early.send(question(1))
        await early.receive()
        with monkeypatch.context() as patched:
            patched.setattr(served.server._desk, "epoll", Full())
            refused = await served.connect()
            assert await is_closed(refused)
        assert served.server.counters.accept_errors == 1
        assert served.server.open_connections == 1
        early.send(question(2))
        assert await early.receive() == response(2)
        await refused.close()
