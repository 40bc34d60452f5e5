"""The TCP side of an address: accept connections, bound their number, end them (RFC 7766).

What callers may rely on:

- At most `tcp_connections_max` connections. One more takes the place of the one that has been idle longest; when
  none of the `EVICT_SEARCH` quietest is idle, the new one is refused. A client with `tcp_connections_per_client` of
  them gives up its own that has been idle longest, or is refused.
- A client that is silent for `tcp_idle_s`, takes longer than `tcp_read_s` for one message, or does not take its
  answers within `tcp_write_s` is closed; one that waits for answers of ours may be silent `desk.PATIENCE` times
  as long.
- No more file descriptors (EMFILE, ENFILE) or kernel memory: the connection idle longest is closed, and nothing
  is accepted for `ACCEPT_PAUSE_S`.
- Nothing that a client sends or does raises, is logged with a traceback, or disturbs another client.

What is not here: questions and answers of one connection (`accept.stream`), turns and clocks (`accept.desk`).
"""

import asyncio
import errno
import math
import os
import socket
from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import islice
from operator import attrgetter
from typing import Any, Protocol

from resolver import logs
from resolver.accept import sockets
from resolver.accept.desk import READY_MAX, Answer, Desk, TcpCounters
from resolver.accept.options import AcceptOptions
from resolver.accept.stream import Stream
from resolver.clock import Now, Timers

ACCEPT_BATCH = 64
"""Connections taken in one turn: each costs about 10 us, 0.6 ms in all."""

ACCEPT_PAUSE_S = 0.2

HANDSHAKE_S = 0.05
"""At the end, time for connections that have begun: a round trip on a node takes a tenth of a millisecond."""

DRAIN_BATCHES = 16
"""Batches taken when the end has come: the 1,024 connections of the kernel's queue (`accept.sockets`)."""

EVICT_SEARCH = 16
"""Connections looked at to find an idle one: who waits for answers is looked at in vain, at 1 us each."""

KERNEL_BUFFER_BYTES = 64 * 1024
"""Asked for in each direction and doubled by the kernel; autotuning would go to 4 MiB and more, in our cgroup."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Visits(Protocol):
    """What was compiled; see `accept.visits`."""

    def accept(self) -> bool:
        """As `TcpServer.accept`."""

    def look(self) -> None:
        """As `Desk.look`."""


VisitsClass = Callable[["TcpServer", Desk], Visits]


class TcpServer:
    """The connections of one listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        answer: Answer,
        options: AcceptOptions,
        timers: Timers,
        now: Now,
        visits: VisitsClass | None = None,
    ) -> None:
        """Take over `sock`, bound, listening and non-blocking. Nothing is accepted before `start`.

        answer  Called as `answer(query, client, now_s)` with the `Stream` as client; None when the answer comes
                later through `client.send(response)`, or never.
        visits  The compiled `accept` and `Desk.look`; None: those in Python.
        """
        self._options = options
        self._desk = Desk(answer, options, timers, now, self._lost)
        self._by_client: dict[str, dict[Stream, None]] = {}
        self._open = 0
        self._sock = sock
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._listening = False
        self._all_closed: asyncio.Future[None] | None = None
        if visits is not None:
            compiled = visits(self, self._desk)
            self.accept = compiled.accept  # type: ignore[method-assign] # its twin, with the same contract
            self._desk.look_by(compiled.look)
        # Connections inherit these (tcp(7)).
        for direction in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, direction, KERNEL_BUFFER_BYTES)
        # An answer must not wait until the client's kernel has acknowledged the one before it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def counters(self) -> TcpCounters:
        return self._desk.counters

    @property
    def open_connections(self) -> int:
        """Connections that are open now, those that are closing included."""
        return self._open

    def start(self) -> None:
        """Accept from now on."""
        self._listening = True
        self._loop.add_reader(self._sock.fileno(), self.accept)

    def stop(self) -> None:
        """Accept no more; connections go on, and the socket stays open (others may hold it as well)."""
        self._listening = False
        self._loop.remove_reader(self._sock.fileno())

    @property
    def sock(self) -> socket.socket:
        """The listening socket, for whoever shares it."""
        return self._sock

    async def drain(self, within_s: float, *, alone: bool = False) -> None:
        """Stop accepting, answer what has arrived, close; after `within_s` whatever is open is aborted.

        Connections that the kernel has completed by now are taken first: their questions may have arrived. After
        `stop` they are another process's.

        alone  No other process has the listening socket: connections that have begun are waited for.
        """
        deadline = self._timers.call_after(within_s, self.abort)
        try:
            if alone and self._listening:
                sockets.turn_away_connections(self._sock)
                await self._timers.sleep(HANDSHAKE_S)
            for _ in range(DRAIN_BATCHES):
                if not self._listening or not self.accept():
                    break
                await asyncio.sleep(0)
            self._close_listener()
            # What has arrived is read in the next turns; only then is a connection known to be idle.
            for _ in range(math.ceil(self._open / READY_MAX)):
                self._desk.look()
                await asyncio.sleep(0)
            for stream in self._streams():
                stream.finish()
            await self._closed()
            self._desk.close()
        finally:
            deadline.cancel()

    def abort(self) -> None:
        """Close the listening socket and every connection now."""
        self._close_listener()
        for stream in self._streams():
            stream.abort()

    async def close(self) -> None:
        """`abort`, and return when all is closed."""
        self.abort()
        await self._closed()
        self._desk.close()

    def _close_listener(self) -> None:
        if self._sock.fileno() >= 0:
            self.stop()
            self._sock.close()

    def _streams(self) -> list[Stream]:
        return [stream for streams in self._by_client.values() for stream in streams]

    async def _closed(self) -> None:
        if self._open:
            self._all_closed = self._loop.create_future()
            await self._all_closed

    def accept(self) -> bool:
        """Take a batch of connections; tell whether there may be more."""
        now_s = self._desk.now()
        for _ in range(ACCEPT_BATCH):
            try:
                # What `accept` is made of, without the socket object: that costs another 4.5 us.
                fd, peer = self._sock._accept()  # type: ignore[attr-defined] # typeshed has what is documented
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if self.failed_to_accept(error):
                    return False
                continue
            os.set_blocking(fd, False)
            self.take(fd, peer, now_s)
        return True

    def failed_to_accept(self, error: OSError) -> bool:
        """Count it; tell whether there is no room for any connection now."""
        self.counters.accept_errors += 1
        if error.errno in _NO_ROOM:
            self._pause(error)
            return True
        return False  # the rest of accept(2)'s errors belong to one connection that failed before we took it

    def _pause(self, error: OSError) -> None:
        """The socket stays readable: looking again at once would spin."""
        logs.warning(f"no connection can be accepted for {ACCEPT_PAUSE_S} s: {error.strerror}")
        self._loop.remove_reader(self._sock.fileno())
        self._evict(islice(self._desk.quiet, EVICT_SEARCH))
        self._timers.call_after(ACCEPT_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._listening:
            self.start()

    def take(self, fd: int, peer: Any, now_s: float) -> None:
        """Begin with one that was accepted, or refuse it: its descriptor and the kernel's address of its peer."""
        counters, options, desk = self.counters, self._options, self._desk
        stream = Stream(desk, fd, peer, now_s)
        siblings = self._by_client.get(stream.client_host)
        if siblings is not None and len(siblings) >= options.tcp_connections_per_client:
            if not self._evict(nsmallest(EVICT_SEARCH, siblings, key=attrgetter("quiet_since_s"))):
                counters.refused_client += 1
                os.close(fd)
                return
        elif self._open >= options.tcp_connections_max and not self._evict(islice(desk.quiet, EVICT_SEARCH)):
            counters.refused_full += 1
            os.close(fd)
            return
        counters.accepted += 1
        self._open += 1
        self._by_client.setdefault(stream.client_host, {})[stream] = None
        desk.opened(stream)

    def _evict(self, candidates: Iterable[Stream]) -> bool:
        """Close the first candidate that is idle, if one is. Whose question waits in the kernel is not."""
        for stream in list(candidates):
            if stream in self._desk.quiet and stream.is_idle and not sockets.has_unread(stream.fd):
                self.counters.evicted += 1
                stream.abort()
                return True
        return False

    def _lost(self, stream: Stream) -> None:
        self._open -= 1
        siblings = self._by_client[stream.client_host]
        del siblings[stream]
        if not siblings:
            del self._by_client[stream.client_host]
        if not self._open and self._all_closed is not None:
            self.tell_all_closed(self._all_closed)

    def tell_all_closed(self, waiting: asyncio.Future[None]) -> None:
        """The last connection is closed: tell whoever waits for that."""
        if not waiting.done():
            waiting.set_result(None)
