"""An upstream that does as it is told, on real UDP and TCP sockets of one port.

    async with scripted.running() as upstream:
        upstream.answer("web.example.", "A", "web.example. 30 IN A 192.0.2.7")
        upstream.on("slow.example.", "A", Reply(records=(...,), release=event))   # waits for the event
        upstream.on("lost.example.", "*", SILENT)
        upstream.default = Reply(rcode="SERVFAIL")
        ...
        assert upstream.count("web.example.", "A", "udp") == 1

What callers may rely on:

- Rules are looked up by (name, type), then (name, "*"), then `default` (NXDOMAIN with an SOA).
- Every question is counted and remembered in `asked`, with its bytes and its source port, before it is
  answered or not; `await upstream.seen(n)` returns when n questions have come in all.
- `refuse()` closes both sockets: the kernel answers with ICMP port unreachable and RST. `reopen()` takes
  the same port again.
- No answer is sent by a clock: a delayed one waits for its event. When the block is left nothing of it
  is still running.
- Bounded: at most `ASKED_MAX` questions are remembered, one more is an error that the test sees.
"""

import asyncio
import contextlib
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import NamedTuple

import dns.exception
import dns.message
import dns.rdatatype

from tests.support.addresses import loopback
from tests.support.replies import NXDOMAIN, SILENT, Forgery, Proto, Reply, reply_to

__all__ = ["NXDOMAIN", "SILENT", "Asked", "Forgery", "Proto", "Reply", "Upstream", "running"]

ASKED_MAX = 200_000
PORT_TRIES = 50


class Asked(NamedTuple):
    """One question as it came: `name` in lower case with its last dot, `peer` the asker's (address, port)."""

    name: str
    rdtype: str
    proto: Proto
    wire: bytes
    peer: tuple[str, int]


class Upstream:
    """One scripted upstream; made by `running()`."""

    def __init__(self, host: str, tls: ssl.SSLContext | None) -> None:
        self.host = host
        self.port = 0
        self.default = NXDOMAIN
        self.silent = False  # answers nobody, whatever the rules say
        self.asked: list[Asked] = []
        self.connections = 0  # TCP connections taken so far
        self.broken = 0  # datagrams and messages that are no query
        self._tls = tls
        self._rules: dict[tuple[str, str], Reply] = {}
        self._counts: Counter[tuple[str, str, Proto]] = Counter()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._news = asyncio.Event()
        self._errors: list[BaseException] = []

    # What it shall do

    def on(self, name: str, rdtype: str, reply: Reply) -> None:
        """Treat questions for this name and type ("*": any) like this from now on."""
        self._rules[_name(name), rdtype] = reply

    def answer(self, name: str, rdtype: str, *records: str) -> None:
        """Answer with these records (none: NODATA without SOA)."""
        self.on(name, rdtype, Reply(records=records))

    # What it saw

    def count(self, name: str | None = None, rdtype: str | None = None, proto: Proto | None = None) -> int:
        """Return how many questions came, in all or of this name, type and protocol."""
        wanted = (_name(name) if name is not None else None, rdtype, proto)
        return sum(
            number
            for key, number in self._counts.items()
            if all(want is None or want == have for want, have in zip(wanted, key, strict=True))
        )

    async def seen(self, number: int, timeout_s: float = 5.0) -> None:
        """Return when `number` questions have come in all; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(self.asked) < number:
                self._news.clear()
                await self._news.wait()

    # Sockets

    async def open(self) -> None:
        """Listen, on the port of before if there was one."""
        loop = asyncio.get_running_loop()
        for tries_left in reversed(range(PORT_TRIES)):
            tcp = await asyncio.start_server(self._converse, self.host, self.port, ssl=self._tls)
            port = tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._datagram), local_addr=(self.host, port)
                )
            except OSError:  # the port is free for TCP only
                tcp.close()
                await tcp.wait_closed()
                if not tries_left or self.port:
                    raise
                continue
            self._tcp, self.port = tcp, port
            return

    reopen = open

    async def refuse(self) -> None:
        """Close the sockets and connections; questions that wait for their event stay unanswered."""
        udp, self._udp = self._udp, None
        tcp, self._tcp = self._tcp, None
        if udp is not None:
            udp.abort()
        if tcp is not None:
            tcp.close()
        await self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if tcp is not None:
            await tcp.wait_closed()

    async def hang_up(self) -> None:
        """Close every TCP connection, and go on listening."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        """Stop; raises what went wrong in here meanwhile."""
        await self.refuse()
        if self._errors:
            raise self._errors[0]

    # Questions

    def _datagram(self, wire: bytes, peer: tuple[str, int]) -> None:
        udp = self._udp
        if udp is None:
            return

        def send(message: bytes | None) -> None:
            if message is not None and not udp.is_closing():
                udp.sendto(message, peer)

        self._handle(wire, "udp", peer, send)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: read questions for as long as it lasts, answer each when its rule says."""
        task = asyncio.current_task()
        assert task is not None
        if self._tcp is None:  # accepted just before `refuse`
            writer.transport.abort()
            return
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        peer = writer.get_extra_info("peername")[:2]

        def send(message: bytes | None) -> None:
            if message is None:
                writer.close()
            elif not writer.is_closing():
                writer.write(struct.pack("!H", len(message)) + message)

        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                self._handle(await reader.readexactly(length), "tcp", peer, send)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the peer has gone, or we have been closed: either ends this connection and nothing else
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    def _handle(
        self, wire: bytes, proto: Proto, peer: tuple[str, int], send: Callable[[bytes | None], object]
    ) -> None:
        try:
            question = dns.message.from_wire(wire).question[0]
        except (dns.exception.DNSException, IndexError):
            self.broken += 1
            return
        name, rdtype = _name(str(question.name)), dns.rdatatype.to_text(question.rdtype)
        if len(self.asked) >= ASKED_MAX:
            self._errors.append(AssertionError(f"more than {ASKED_MAX} questions"))
            return
        self.asked.append(Asked(name, rdtype, proto, wire, peer))
        self._counts[name, rdtype, proto] += 1
        self._news.set()
        if self.silent:
            return
        rule = self._rules.get((name, rdtype)) or self._rules.get((name, "*")) or self.default
        if rule.release is None or rule.release.is_set():
            self._send(wire, rule, proto, send)
            return
        task = asyncio.get_running_loop().create_task(self._send_later(wire, rule, proto, send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_later(
        self, wire: bytes, rule: Reply, proto: Proto, send: Callable[[bytes | None], object]
    ) -> None:
        assert rule.release is not None
        await rule.release.wait()
        self._send(wire, replace(rule, release=None), proto, send)

    def _send(self, wire: bytes, rule: Reply, proto: Proto, send: Callable[[bytes | None], object]) -> None:
        try:
            if proto not in rule.silent:
                for message in reply_to(wire, rule, proto):
                    send(message)
            if rule.close and proto == "tcp":
                send(None)
        except Exception as error:  # a mistake in a rule: the test learns of it when the block ends
            self._errors.append(error)


class _Datagrams(asyncio.DatagramProtocol):
    """Hands every datagram on."""

    def __init__(self, handle: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._handle = handle

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._handle(data, addr)


def _name(text: str) -> str:
    return text.lower() if text.endswith(".") else text.lower() + "."


@contextlib.asynccontextmanager
async def running(
    *, host: str | None = None, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """Run one for the length of the block, on `host` (else an address of its own) and `port` (else a free one).

    tls   Speak DNS over TLS (RFC 7858) on the TCP port.
    """
    upstream = Upstream(host or loopback(), tls)
    upstream.port = port
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()
