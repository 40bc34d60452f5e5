"""The small HTTP/1.1 server behind /health, /ready and /metrics: h11 on the loop, no thread.

What callers may rely on:

- It is as alive as the loop: nothing here answers while the loop is stuck.
- `swap` changes routes without a gap: a port that stays is never closed, and where a new one cannot be opened
  nothing has changed.
- Everything that a peer can make grow is bounded (`options.HttpOptions`): connections, the request's head and
  body, the time that a request takes, the time between two, the time to read an answer.
- Whatever bytes arrive, the peer gets an answer or is closed; a traceback is always a bug of ours.

Ports are opened with SO_REUSEPORT, as CoreDNS does: two generations of this process share a node's ports. One that
has nothing to say yet must not be asked: until `begin` ports are bound, and nobody is connected to them.
"""

import asyncio
import errno
import socket
from collections.abc import Mapping

from resolver.clock import Timers
from resolver.errors import AddressInUse, ResolverError
from resolver.status.connection import Connection, Page
from resolver.status.options import HttpOptions, parse_address

BACKLOG = 64


Routes = Mapping[str, Mapping[str, Page]]
"""By address (`:8080`, `127.0.0.1:9153`), then by path."""


class ListenError(ResolverError):
    """An address that cannot be opened here, for another reason than that somebody has it."""


class HttpServer:
    """All HTTP listeners of this process.

    shared  Another generation of this process may hold the same ports. Without that, a port that any other
            process holds is an error, even where the kernel would let two share it.
    begun   Whether `swap` begins to listen; else `begin` does.
    """

    def __init__(
        self, timers: Timers, options: HttpOptions | None = None, *, shared: bool = True, begun: bool = True
    ) -> None:
        self.timers = timers
        self.options = options or HttpOptions()
        self.shared = shared
        self._begun = begun
        self.connections: set[Connection] = set()
        self._listening: dict[tuple[str, int], _Listening] = {}
        self._all_gone: asyncio.Future[None] | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, with the port that the kernel gave where 0 was asked for."""
        return tuple(listening.bound for listening in self._listening.values())

    async def swap(self, routes: Routes) -> None:
        """Listen on exactly these addresses and answer exactly these paths.

        Raises AddressInUse or ListenError, which name the address; then nothing has changed.
        """
        wanted: dict[tuple[str, int], dict[str, Page]] = {}
        for text, pages in routes.items():
            try:
                wanted.setdefault(parse_address(text), {}).update(pages)
            except ValueError as error:
                raise ListenError(str(error)) from error
        opened: dict[tuple[str, int], socket.socket] = {}
        try:
            for address in wanted:
                if address not in self._listening:
                    opened[address] = self._open(*address)
        except ResolverError:
            for fresh in opened.values():
                fresh.close()
            raise
        for address in set(self._listening) - set(wanted):
            self._listening.pop(address).close()
        for address, pages in wanted.items():
            if address in self._listening:
                self._listening[address].pages = pages
                continue
            listening = self._listening[address] = _Listening(opened[address], pages)
            if self._begun:
                await listening.start(self)

    async def begin(self) -> None:
        """Listen from now on, and at once after each later `swap`."""
        self._begun = True
        for listening in self._listening.values():
            await listening.start(self)

    async def close(self, patience_s: float = 1.0) -> None:
        """Close the ports, let answers that are under way end, and then everything."""
        await self.swap({})
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            late = self.timers.call_after(patience_s, self._abort_all)
            await self._all_gone
            late.cancel()

    def _open(self, host: str, port: int) -> socket.socket:
        if not self.shared and port:
            _open(host, port, reuse_port=False).close()
        return _open(host, port, reuse_port=True)

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def gone(self, connection: "Connection") -> None:
        """`connection` is closed."""
        self.connections.discard(connection)
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)


class _Listening:
    """One address and the pages that it has now."""

    def __init__(self, opened: socket.socket, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self.bound: tuple[str, int] = opened.getsockname()[:2]
        self._socket = opened
        self._server: asyncio.Server | None = None

    async def start(self, server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(server, self), sock=self._socket, backlog=BACKLOG
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()


def _open(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """Return a bound socket; the empty host is every address of both families, where there are two."""
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for attempt in (host,) if host else ("::", "0.0.0.0"):
        family = socket.AF_INET6 if ":" in attempt else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            continue  # a kernel without IPv6
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
            opened.bind((attempt, port))
        except OSError as error:
            opened.close()
            if not host and error.errno == errno.EADDRNOTAVAIL:
                continue  # IPv6 is compiled in and switched off
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(f"{text} (TCP) is in use", host, port) from None
            raise ListenError(f"{text} (TCP): {error.strerror}") from None
        return opened
    raise ListenError(f"{text} (TCP): this system has no such address family")
