"""The sockets that answer, UDP and TCP for each place, and what a reload or a stop does to them.

What callers may rely on:

- `open` binds places that are new, all of them or none; nobody is answered there before `use`.
- `use` changes who answers where, in one assignment for each listener: no question falls between two settings.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from resolver import logs
from resolver.accept import sockets
from resolver.accept.lanes import Lane, listener_class
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import PacketCache
from resolver.accept.tcp_listener import TcpListener
from resolver.accept.udp import UdpListener
from resolver.build import Place
from resolver.errors import AddressInUse, ResolverError
from resolver.kept import Kept
from resolver.pipeline import Route
from resolver.report.series import ListenerLabels
from resolver.system.holder import holder

Pair = tuple[UdpListener, TcpListener]

OWED_EVERY_S = 0.05
"""How often a listener that is left looks whether the last client has its answer."""


class Listeners:
    """All listeners of the process, by the place that they are bound to."""

    def __init__(self, kept: Kept, *, shared: bool, lane: Lane = "auto") -> None:
        """Bind nothing yet. Raises ResolverError for a lane that was not built.

        shared  Another generation of this process may hold the same places (a node's update).
        """
        self.udp: dict[Place, UdpListener] = {}
        self.tcp: dict[Place, TcpListener] = {}
        self._kept = kept
        self._shared = shared
        self._options = AcceptOptions()
        self._lane = listener_class(lane)
        self._leaving: dict[Place, asyncio.Task[None]] = {}
        self._closed = False

    async def open(self, places: Iterable[Place], named: Iterable[Place]) -> dict[Place, Pair]:
        """Bind those of `places` that are not bound yet. Raises ResolverError, and then has bound none.

        named  Places as the configuration says them; others came from a wildcard, and their label says so.
        """
        by_name = set(named)
        opened: dict[Place, Pair] = {}
        try:
            for place in sorted(set(places) - set(self.udp)):
                host, port = place
                if place in self._leaving:
                    await asyncio.wait({self._leaving[place]})
                label = f"dns://{sockets.text(host if place in by_name else '', port)}"
                opened[place] = self._bind(place, label)
        except AddressInUse as error:
            await self.discard(opened)
            raise ResolverError(await _with_holder(error)) from None
        except ResolverError:
            await self.discard(opened)
            raise
        return opened

    async def discard(self, opened: Mapping[Place, Pair]) -> None:
        """Close what `open` has bound, unused."""
        for udp, tcp in opened.values():
            udp.close()
            await tcp.server.close()

    def use(
        self,
        routes: Mapping[Place, Sequence[Route]],
        opened: Mapping[Place, Pair],
        drain_s: float,
        owes: Callable[[UdpListener], bool] = lambda listener: False,
    ) -> None:
        """Answer by `routes` and nowhere else: start what was opened, leave the places that are not in it.

        owes  Tells whether questions that came by a listener still wait for their answer; its socket stays open
              for them, `drain_s` at most.
        """
        for place, (udp, tcp) in opened.items():
            self.udp[place], self.tcp[place] = udp, tcp
        for place, table in routes.items():
            self.udp[place].use(table)
            self.tcp[place].use(table)
        for udp, tcp in opened.values():
            udp.start()
            tcp.server.start()
        for place in set(self.udp) - set(routes):
            leaving = self._leave(place, self.udp.pop(place), self.tcp.pop(place), drain_s, owes)
            task = logs.held(asyncio.get_running_loop().create_task(leaving), f"leaving {sockets.text(*place)}")
            self._leaving[place] = task

    def sweep(self, now_s: float) -> None:
        """Drop some of the renderings that are dead."""
        for listener in self.udp.values():
            listener.sweep(now_s)

    async def drain(self, within_s: float) -> None:
        """Read what has arrived and no more; TCP connections end when their answers are out."""
        await asyncio.gather(*(listener.finish() for listener in self.udp.values()))
        await asyncio.gather(*(listener.server.drain(within_s) for listener in self.tcp.values()))

    async def close(self) -> None:
        """Close every socket."""
        self._closed = True
        for udp in self.udp.values():
            udp.stop()
            udp.close()
        for tcp in self.tcp.values():
            await tcp.server.close()
        await asyncio.gather(*self._leaving.values())

    async def _leave(
        self,
        place: Place,
        udp: UdpListener,
        tcp: TcpListener,
        drain_s: float,
        owes: Callable[[UdpListener], bool],
    ) -> None:
        timers = self._kept.timers
        end_s = timers.now() + drain_s
        try:
            await udp.finish()
            await tcp.server.drain(drain_s)
            while owes(udp) and timers.now() < end_s and not self._closed:
                await timers.sleep(OWED_EVERY_S)
        finally:
            udp.close()
            del self._leaving[place]

    def _bind(self, place: Place, label: str) -> Pair:
        host, port = place
        wanted_bytes = self._options.receive_buffer_bytes
        udp_socket, granted_bytes = sockets.bind_udp(
            host, port, shared=self._shared, receive_buffer_bytes=wanted_bytes
        )
        try:
            tcp_socket = sockets.bind_tcp(host, port, shared=self._shared)
        except ResolverError:
            udp_socket.close()
            raise
        if granted_bytes < wanted_bytes:
            logs.warning(
                f"{sockets.text(host, port)}: the receive buffer is {granted_bytes // 1024} KiB, "
                f"{wanted_bytes // 1024} KiB were asked for; bursts may be dropped. "
                "Raise net.core.rmem_max or grant CAP_NET_ADMIN"
            )
        family = "2" if ":" in host else "1"
        kept = self._kept
        udp = self._lane(
            udp_socket,
            ListenerLabels(label, "udp", family),
            self._options,
            kept.series,
            PacketCache(kept.ledger),
            kept.timers.now,
        )
        tcp_labels = ListenerLabels(label, "tcp", family)
        return udp, TcpListener(tcp_socket, tcp_labels, self._options, kept.series, kept.timers)


async def _with_holder(error: AddressInUse) -> str:
    """Return the error with the name of who holds the address, as far as /proc tells us."""
    loop = asyncio.get_running_loop()
    who = await loop.run_in_executor(None, holder, error.host, error.port, error.protocol)
    by = f" by {who}" if who else "; `ss -lunpt` as root shows by whom"
    return f"{error}{by}; stop it, or take another port with -dns.port or another address with `bind`"
