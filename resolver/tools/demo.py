"""`resolver demo`: a stand-in for kube-dns, to have something to resolve without a cluster or a network.

    resolver demo [-port 5301] [-bind 127.0.0.1]

It serves the zones of `demo_zone` over UDP and TCP and prints what to ask. `Demo` is the same for tests:
port 0 takes a free one. Everything is answered at once from memory; nothing is cached or forwarded, and it
is not meant to serve anybody but its user.

Bounded: `CONNECTIONS_MAX` TCP connections, each closed after `IDLE_S` without a question, one answer of a
connection in memory at a time.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence

from resolver.clock import Now, Timers
from resolver.tools.demo_zone import DemoZone

DEFAULT_PORT = 5301
CONNECTIONS_MAX = 100
IDLE_S = 10.0
PORT_TRIES = 50  # port 0: how often UDP may find the port taken that TCP was given

ASK = (
    "web.shop.svc.cluster.local A",
    "db.shop.svc.cluster.local A",
    "_http._tcp.web.shop.svc.cluster.local SRV",
    "-x 10.96.7.7",
    "payments.shop.svc.cluster.local A",
    "nothing.shop.svc.cluster.local A",
    "chain.demo.example AAAA",
    "big.demo.example TXT",
    "many.demo.example A",
)


class Demo:
    """The demo on one address. `queries` counts what was answered, `port` is the real one once started."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, now: Now = time.monotonic) -> None:
        self.host = host
        self.port = port
        self.queries = 0
        self._zone = DemoZone()
        self._now = now
        self._timers: Timers | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._timers = Timers(loop, self._now)
        for tries_left in reversed(range(PORT_TRIES if self.port == 0 else 1)):
            tcp = await asyncio.start_server(self._converse, self.host, self.port)
            port: int = tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(self.host, port)
                )
            except OSError:
                tcp.close()
                await tcp.wait_closed()
                if not tries_left:
                    raise
                continue
            self._tcp, self.port = tcp, port
            return

    async def stop(self) -> None:
        """Close all sockets; nothing is left running."""
        if self._udp is not None:
            self._udp.abort()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()
        if self._timers is not None:
            self._timers.close()
        self._udp = self._tcp = None

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Answer one message, and count it."""
        response = self._zone.answer(wire, tcp=tcp)
        self.queries += response is not None
        return response

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: question, answer, question, until either side has had enough."""
        task = asyncio.current_task()
        if task is None or self._tcp is None or len(self._conversations) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._conversations.add(task)
        try:
            await self._talk(reader, writer)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the peer has gone, was idle, or we stop: this connection is over, and nothing else
        finally:
            self._conversations.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._timers is not None
        while True:
            idle = self._timers.call_after(IDLE_S, writer.transport.abort)
            try:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                response = self.answer(await reader.readexactly(length), tcp=True)
                if response is None:
                    return
                writer.write(struct.pack("!H", len(response)) + response)
                await writer.drain()
            finally:
                idle.cancel()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP side of a demo."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # UDP's is one
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._demo.answer(data, tcp=False)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


def main(argv: Sequence[str]) -> int:
    """Run `resolver demo` with these arguments until SIGINT or SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="resolver demo", description="A stand-in for kube-dns to try things with."
    )
    parser.add_argument("-port", "--port", type=int, default=DEFAULT_PORT, help="UDP and TCP port (default 5301)")
    parser.add_argument("-bind", "--bind", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    options = parser.parse_args(argv)
    return asyncio.run(_serve(options.bind, options.port))


async def _serve(host: str, port: int) -> int:
    demo = Demo(host, port)
    try:
        await demo.start()
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else problem
        print(f"resolver demo: cannot listen on {host} port {port}: {reason}", file=sys.stderr)
        return 1
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.suppress(BrokenPipeError):  # nobody reads our hints; the server is still of use
        print(f"The demo answers on {demo.host} port {demo.port}, UDP and TCP. Try:", flush=True)
        for words in ASK:
            print(f"  dig @{demo.host} -p {demo.port} {words}", flush=True)
    try:
        await stop.wait()
    finally:
        await demo.stop()
    return 0
