"""The TCP side: many questions on one connection, and clients that are slow, greedy, hostile or gone."""

import asyncio
import contextlib
import errno
import itertools
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from resolver.accept.options import AcceptOptions
from resolver.accept.stream import Stream
from resolver.accept.tcp import ACCEPT_PAUSE_S, TcpServer
from resolver.clock import TICK_S, Timers
from resolver.wire.framing import frame
from tests.support.addresses import loopback
from tests.support.client import Tcp
from tests.support.jumping import JumpingClock

OPTIONS = AcceptOptions()
BIG_BYTES = 40_000


def question(number: int, kind: bytes = b"now") -> bytes:
    """A message that `Answers` understands: an ID, and what to do with it."""
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + kind


def response(number: int, kind: bytes = b"now") -> bytes:
    padding = b"." * BIG_BYTES if kind == b"big" else b""
    return number.to_bytes(2, "big") + b"\x81\x80\0\1\0\0\0\0\0\0" + kind + padding


class Answers:
    """In place of a listener: `later` waits for `release`, `never` gets nothing, `big` 40,000 bytes."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.waiting: list[tuple[int, Stream]] = []
        self.latest: Stream | None = None

    def answer(self, query: bytes, client: Stream, now_s: float) -> bytes | None:
        number, kind = int.from_bytes(query[:2], "big"), query[12:]
        self.asked.append(number)
        self.latest = client
        if kind == b"later":
            self.waiting.append((number, client))
            return None
        if kind == b"at once":  # a flight that fails before `answer` has returned
            client.send(response(number, kind))
            return None
        return None if kind == b"never" else response(number, kind)

    def release(self, count: int = 1_000_000) -> None:
        """Answer those that wait, the last one first."""
        for _ in range(min(count, len(self.waiting))):
            number, client = self.waiting.pop()
            client.send(response(number, b"later"))


class Served:
    """A running server, its answers and its clock."""

    def __init__(self, options: AcceptOptions, sock: socket.socket | None = None) -> None:
        self.clock = JumpingClock()
        self.answers = Answers()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.host = loopback()
        if sock is None:
            sock = socket.create_server((self.host, 0), backlog=512)
        sock.setblocking(False)
        self.host, self.port = sock.getsockname()[:2]
        self.server = TcpServer(sock, self.answers.answer, options, self.timers, self.clock)
        self.server.start()

    async def connect(self, source: str | None = None) -> Tcp:
        return await Tcp.open(self.host, self.port, source=source)

    async def until(self, holds: Callable[[], object]) -> None:
        """Return when `holds()` does: what the kernel and the other end do has no event to wait for."""
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 see above
                await asyncio.sleep(TICK_S / 4)

    async def settled(self) -> None:
        """Return when a question asked now, on a connection of its own, has been answered."""
        async with await self.connect() as client:
            client.send(question(9))
            assert await client.receive() == response(9)


@contextlib.asynccontextmanager
async def serving(
    options: AcceptOptions = OPTIONS, sock: socket.socket | None = None, **changed: Any
) -> AsyncIterator[Served]:
    served = Served(replace(options, **changed), sock)
    try:
        yield served
    finally:
        await served.server.close()
        served.timers.close()


def reset(client: Tcp) -> None:
    """Leave without a word: RST instead of FIN, so that the server need not find out by writing."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def is_closed(client: Tcp) -> bool:
    """Whether the server has ended the connection, whatever it sent before."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(client.reader.read(1 << 20), 5):
            pass
    return True


def is_open(client: Tcp) -> bool:
    return not client.reader.at_eof() and client.reader.exception() is None


# Questions and answers


@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 1_000])
async def test_any_split_of_the_stream_is_answered(chunk_bytes: int) -> None:
    stream = b"".join(frame(question(number)) for number in range(5))
    async with serving() as served, await served.connect() as client:
        for start in range(0, len(stream), chunk_bytes):
            client.send_raw(stream[start : start + chunk_bytes])
            await asyncio.sleep(0)
        assert [await client.receive() for _ in range(5)] == [response(number) for number in range(5)]


async def test_answers_leave_as_they_are_ready() -> None:
    async with serving() as served, await served.connect() as client:
        for number, kind in enumerate((b"later", b"now", b"later", b"at once")):
            client.send(question(number, kind))
        assert await client.receive() == response(1)
        assert await client.receive() == response(3, b"at once")
        served.answers.release()
        assert await client.receive() == response(2, b"later")
        assert await client.receive() == response(0, b"later")
        assert served.answers.latest is not None
        assert served.answers.latest.is_idle


async def test_several_thousand_questions_at_once_are_all_answered_in_order() -> None:
    stream = b"".join(frame(question(number)) for number in range(5_000))
    async with serving() as served, await served.connect() as client:
        client.send_raw(stream)
        assert [await client.receive() for _ in range(5_000)] == [response(number) for number in range(5_000)]


async def test_the_client_has_a_name() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        host, port = client.writer.get_extra_info("sockname")
        assert served.answers.waiting[0][1].client_text == f"{host}:{port}"


#    the kernel's peer address, its text
PEERS = [
    pytest.param(("10.0.0.7", 41832), "10.0.0.7:41832", id="IPv4"),
    pytest.param(("::1", 53, 0, 0), "[::1]:53", id="IPv6"),
    pytest.param(("::ffff:10.0.0.7", 53, 0, 0), "10.0.0.7:53", id="IPv4 on an IPv6 socket"),
]


@pytest.mark.parametrize(("peer", "text"), PEERS)
async def test_client_text(peer: tuple[Any, ...], text: str) -> None:
    async with serving() as served:
        assert Stream(served.server._desk, peer, 0.0).client_text == text


class Recording(asyncio.Transport):
    """A transport that notes its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


@contextlib.asynccontextmanager
async def recorded() -> AsyncIterator[tuple[Served, Stream, Recording]]:
    async with serving() as served:
        stream, transport = Stream(served.server._desk, ("192.0.2.1", 5), served.clock()), Recording()
        stream.connection_made(transport)
        yield served, stream, transport
        stream.connection_lost(None)


async def test_questions_of_one_read_are_answered_with_one_write() -> None:
    async with recorded() as (_, stream, transport):
        stream.data_received(b"".join(frame(question(number)) for number in range(50)))
        assert transport.writes == [b"".join(frame(response(number)) for number in range(50))]


async def test_late_answers_of_one_turn_leave_with_one_write() -> None:
    async with recorded() as (served, stream, transport):
        stream.data_received(b"".join(frame(question(number, b"later")) for number in range(50)))
        served.answers.release()
        assert transport.writes == []
        await asyncio.sleep(0)
        assert transport.writes == [b"".join(frame(response(number, b"later")) for number in reversed(range(50)))]


async def test_a_flood_on_some_connections_does_not_hold_up_a_turn_or_the_others() -> None:
    async with serving() as served:
        desk = served.server._desk
        streams = [Stream(desk, ("192.0.2.1", port), served.clock()) for port in range(10)]
        for stream in streams:
            stream.connection_made(Recording())
            stream.data_received(b"".join(frame(question(number)) for number in range(200)))
        assert len(served.answers.asked) <= 128
        in_turns = [0]
        while len(served.answers.asked) < 2_000:
            in_turns.append(len(served.answers.asked))
            await asyncio.sleep(0)
        longest = max(after - before for before, after in itertools.pairwise(in_turns))
        assert longest <= 2 * 128
        # Everybody had had a first turn before anybody had the last.
        assert served.answers.asked[:1_000].count(0) == 10
        for stream in streams:
            stream.connection_lost(None)


# The end of a connection


async def test_a_client_that_has_said_its_last_gets_its_answers() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        client.send(question(2))
        client.writer.write_eof()
        assert await client.receive() == response(2)
        await served.until(lambda: served.answers.waiting)
        served.answers.release()
        assert await client.receive() == response(1, b"later")
        assert await client.at_end()
        await served.until(lambda: served.server.open_connections == 0)


async def test_a_client_that_leaves_disturbs_nobody() -> None:
    async with serving() as served, await served.connect() as stayer:
        leaver = await served.connect()
        leaver.send(question(1, b"later"))
        stayer.send(question(2, b"later"))
        await served.until(lambda: len(served.answers.waiting) == 2)
        reset(leaver)
        await served.until(lambda: served.server.open_connections == 1)
        served.answers.release()
        assert await stayer.receive() == response(2, b"later")


async def test_a_reset_in_the_middle_of_an_answer_disturbs_nobody() -> None:
    async with serving() as served, await served.connect() as stayer:
        for _ in range(5):
            leaver = await served.connect()
            for number in range(20):
                leaver.send(question(number, b"big"))
            await leaver.reader.readexactly(1_000)
            reset(leaver)
        stayer.send(question(1))
        assert await stayer.receive() == response(1)
        await served.until(lambda: served.server.open_connections == 1)


BROKEN = [
    pytest.param(b"\0\0", id="a message of nothing"),
    pytest.param(b"\0\13" + b"x" * 11, id="a byte less than a header"),
    pytest.param(b"\0\0" * 30_000, id="thousands of nothing"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: resolver\r\n\r\n" + b"\0\0", id="HTTP"),
]


@pytest.mark.parametrize("stream", BROKEN)
async def test_a_stream_out_of_step_is_closed_after_what_was_asked_in_step(stream: bytes) -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        client.send_raw(stream)
        client.writer.write_eof()
        await asyncio.sleep(2 * TICK_S)
        served.answers.release()
        assert await client.receive() == response(1, b"later")
        with contextlib.suppress(ConnectionError):
            assert await client.at_end()
        await served.until(lambda: served.server.open_connections == 0)
        assert served.answers.asked == [1]


async def test_garbage_from_many_clients() -> None:
    randomly = random.Random(7)
    async with serving() as served:
        for _ in range(50):
            async with await served.connect() as client:
                client.send_raw(randomly.randbytes(randomly.randrange(1, 5_000)))
        await served.settled()
        await served.until(lambda: served.server.open_connections <= 1)


# Time


async def test_a_silent_client_is_closed_after_its_idle_time() -> None:
    async with serving() as served, await served.connect() as silent, await served.connect() as talker:
        await served.settled()
        served.clock.jump(OPTIONS.tcp_idle_s - 1)
        talker.send(question(1))
        await talker.receive()
        served.clock.jump(1.5)
        assert await is_closed(silent)
        assert is_open(talker)
        assert served.server.counters.closed_idle == 1


async def test_waiting_for_our_answer_is_not_idling() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        served.clock.jump(OPTIONS.tcp_idle_s * 2)
        await asyncio.sleep(3 * TICK_S)
        served.answers.release()
        assert await client.receive() == response(1, b"later")


async def test_a_question_that_is_never_answered_does_not_hold_its_connection_for_ever() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"never"))
        await served.until(lambda: served.answers.asked)
        served.clock.jump(OPTIONS.tcp_idle_s * 3 + 1)
        assert await is_closed(client)


async def test_a_message_that_has_begun_must_become_whole_in_time() -> None:
    """Byte by byte does not help: the time counts from the first byte."""
    stream = frame(question(1))
    async with serving() as served, await served.connect() as slow, await served.connect() as quick:
        for position in range(4):
            slow.send_raw(stream[position : position + 1])
            quick.send(question(1))
            await quick.receive()
            served.clock.jump(OPTIONS.tcp_read_s / 3)
        assert await is_closed(slow)
        assert served.server.counters.closed_read == 1
        assert is_open(quick)


async def test_each_message_has_its_own_time() -> None:
    """A client that is always in the middle of a message, and never long in the same one, is fine."""
    stream = b"".join(frame(question(number)) for number in range(6))
    size = len(frame(question(0)))
    async with serving() as served, await served.connect() as client:
        client.send_raw(stream[: size // 2])
        for number in range(5):
            start = size // 2 + number * size
            client.send_raw(stream[start : start + size])
            assert await client.receive() == response(number)
            served.clock.jump(OPTIONS.tcp_read_s * 0.9)
            await asyncio.sleep(2 * TICK_S)
        assert served.server.counters.closed_read == 0


# Greed


async def test_pipelined_questions_are_bounded_and_none_is_lost() -> None:
    async with serving(tcp_pipelined_max=8) as served, await served.connect() as client:
        for number in range(50):
            client.send(question(number, b"later"))
        answered: set[bytes] = set()
        while len(answered) < 50:
            await served.until(lambda: len(served.answers.waiting) >= min(8, 50 - len(answered)))
            await asyncio.sleep(TICK_S)
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
    await asyncio.sleep(3 * TICK_S)
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
    async with serving() as served:
        sock = socket.create_connection((served.host, served.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"".join(frame(question(number, b"big")) for number in range(8)))
        sock.shutdown(socket.SHUT_WR)
        await served.until(lambda: len(served.answers.asked) == 8 or served.server._desk.stalled)
        await asyncio.sleep(3 * TICK_S)
        assert served.server.open_connections == 1
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


class NoDescriptors(socket.socket):
    """A listening socket that has no file descriptor left for `fails` connections."""

    fails = 3
    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_no_file_descriptors_means_a_pause_and_not_a_busy_loop() -> None:
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


async def test_without_file_descriptors_an_idle_connection_makes_room() -> None:
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


# Shutdown


async def while_draining(served: Served, within_s: float, story: Awaitable[None]) -> None:
    drained = asyncio.create_task(served.server.drain(within_s))
    await story
    await asyncio.wait_for(drained, 5)


async def test_drain_lets_questions_finish_and_takes_no_new_connection() -> None:
    async with serving() as served, await served.connect() as idle, await served.connect() as waiting:
        waiting.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)

        async def story() -> None:
            assert await is_closed(idle)
            with pytest.raises(ConnectionRefusedError):
                await served.connect()
            served.answers.release()
            assert await waiting.receive() == response(1, b"later")
            assert await waiting.at_end()

        await while_draining(served, 5.0, story())
        assert served.server.open_connections == 0


async def test_drain_answers_what_was_sent_before_it_began() -> None:
    async with serving() as served, await served.connect() as client:
        await served.settled()
        late = socket.create_connection((served.host, served.port))  # completed by the kernel, not taken yet
        late.send(frame(question(3)))
        client.send(question(2))
        await served.server.drain(5.0)
        assert await client.receive() == response(2)
        late.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(late, 100) == frame(response(3))
        late.close()


async def test_drain_ends_at_its_deadline() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"never"))
        await served.until(lambda: served.answers.asked)

        async def story() -> None:
            await asyncio.sleep(2 * TICK_S)
            assert served.server.open_connections == 1
            served.clock.jump(5.0)

        await while_draining(served, 5.0, story())
        assert await is_closed(client)
