"""An independent DNS client for tests: dnspython's messages over sockets of our own.

Nothing of `resolver` is used here, so that a mistake in its decoder cannot hide itself.
Everything is bounded by `timeout_s`; a question that gets no answer raises TimeoutError.
No threads; works on asyncio and uvloop.
"""

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

TIMEOUT_S = 5.0
QUEUE_MAX = 100_000  # datagrams kept for a reader; more than any test sends


def query(
    name: str,
    rdtype: str = "A",
    *,
    rdclass: str = "IN",
    edns: bool = False,
    do: bool = False,
    rd: bool = True,
    cd: bool = False,
    ad: bool = False,
    size: int = 1232,
    options: Sequence[dns.edns.Option] = (),
    query_id: int | None = None,
) -> dns.message.QueryMessage:
    """Make a query. `do` and `options` imply `edns`; without EDNS there is no OPT record at all."""
    message = dns.message.make_query(name, rdtype, rdclass, id=query_id)
    message.flags = dns.flags.Flag(0)
    for wanted, flag in ((rd, dns.flags.RD), (cd, dns.flags.CD), (ad, dns.flags.AD)):
        if wanted:
            message.flags |= flag
    if edns or do or options:
        message.use_edns(0, dns.flags.DO if do else 0, size, options=list(options))
    return message


class _Inbox(asyncio.DatagramProtocol):
    """Datagrams in the order they came; a socket error is handed to the reader instead of being lost."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes | Exception] = asyncio.Queue(QUEUE_MAX)
        self.closed = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self.received.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.received.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class Udp:
    """One connected UDP socket: several questions from one source port.

    async with await Udp.open(host, port) as socket: ...
    """

    def __init__(self, transport: asyncio.DatagramTransport, inbox: _Inbox) -> None:
        self._transport = transport
        self._inbox = inbox
        self.port: int = transport.get_extra_info("sockname")[1]

    @classmethod
    async def open(cls, host: str, port: int, *, source: str | None = None) -> Self:
        """Connect to host:port, from address `source` where given."""
        loop = asyncio.get_running_loop()
        local = (source, 0) if source is not None else None
        transport, inbox = await loop.create_datagram_endpoint(_Inbox, remote_addr=(host, port), local_addr=local)
        return cls(transport, inbox)

    def send(self, wire: bytes) -> None:
        """Send one datagram."""
        self._transport.sendto(wire)

    async def receive(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """Return the next datagram; raises TimeoutError, or OSError as the kernel reported it."""
        item = await asyncio.wait_for(self._inbox.received.get(), timeout_s)
        if isinstance(item, Exception):
            raise item
        return item

    def pending(self) -> int:
        """How many datagrams wait to be read."""
        return self._inbox.received.qsize()

    async def close(self) -> None:
        """Close the socket."""
        self._transport.close()
        await self._inbox.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Tcp:
    """One TCP connection: `send` as many questions as you like, `receive` as the answers come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, host: str, port: int, *, source: str | None = None, timeout_s: float = TIMEOUT_S) -> Self:
        """Connect to host:port, from address `source` where given."""
        local = (source, 0) if source is not None else None
        opening = asyncio.open_connection(host, port, local_addr=local)
        return cls(*await asyncio.wait_for(opening, timeout_s))

    def send(self, wire: bytes) -> None:
        """Send one message with its length in front (RFC 1035 section 4.2.2)."""
        self.send_raw(struct.pack("!H", len(wire)) + wire)

    def send_raw(self, octets: bytes) -> None:
        """Send these bytes as they are."""
        self.writer.write(octets)

    async def receive(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """Return the next message; raises TimeoutError, or EOFError when the server has closed."""
        async with asyncio.timeout(timeout_s):
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            return await self.reader.readexactly(length)

    async def at_end(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Whether the server closes (or resets) within `timeout_s` without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), timeout_s) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # the server was faster; closed is closed
            await asyncio.wait_for(self.writer.wait_closed(), TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Client:
    """Asks one server. A new socket for every question, as a stub resolver does."""

    def __init__(self, host: str, port: int, *, source: str | None = None) -> None:
        self.host = host
        self.port = port
        self.source = source

    async def ask(
        self,
        name: str,
        rdtype: str = "A",
        *,
        rdclass: str = "IN",
        tcp: bool = False,
        edns: bool = False,
        do: bool = False,
        rd: bool = True,
        cd: bool = False,
        ad: bool = False,
        size: int = 1232,
        options: Sequence[dns.edns.Option] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> dns.message.Message:
        """Ask, and return the answer, whatever its rcode; TC is returned, not followed.

        Raises TimeoutError without an answer, AssertionError for one that does not belong to the question.
        """
        wire = query(
            name, rdtype, rdclass=rdclass, edns=edns, do=do, rd=rd, cd=cd, ad=ad, size=size, options=options
        ).to_wire()
        return parse(await self.exchange(wire, tcp=tcp, timeout_s=timeout_s), to=wire)

    async def exchange(self, wire: bytes, *, tcp: bool = False, timeout_s: float = TIMEOUT_S) -> bytes:
        """Send these bytes and return the first answer's."""
        if tcp:
            async with await Tcp.open(self.host, self.port, source=self.source) as stream:
                stream.send(wire)
                return await stream.receive(timeout_s)
        async with await Udp.open(self.host, self.port, source=self.source) as socket:
            socket.send(wire)
            return await socket.receive(timeout_s)


def parse(wire: bytes, *, to: bytes | None = None) -> dns.message.Message:
    """Parse an answer strictly (no trailing bytes); with `to`, assert that it answers that query."""
    answer = dns.message.from_wire(wire)
    assert answer.flags & dns.flags.QR, "not a response"
    if to is not None:
        asked = dns.message.from_wire(to)
        assert answer.id == asked.id, f"ID {answer.id:#06x}, asked {asked.id:#06x}"
        if answer.question:  # FORMERR and BADVERS may come without
            assert [str(q) for q in answer.question] == [str(q) for q in asked.question]
    return answer


def records(answer: dns.message.Message, section: str = "answer") -> list[str]:
    """The records of one section as sorted text lines, `name. TTL IN TYPE data`."""
    lines: list[str] = []
    for rrset in getattr(answer, section):
        lines += rrset.to_text().splitlines()
    return sorted(lines)
