"""The sockets that answer, UDP and TCP for each place, and what a reload or a stop does to them.

What callers may rely on:

- `open` binds places that are new, all of them or none; nobody is answered there before `use`.
- `use` changes who answers where, in one assignment for each listener: no question falls between two settings.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from resolver import logs
from resolver.accept import sockets
from resolver.accept.lanes import Lane, chosen
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
        self.others_too = False  # another process has, or had, the very same sockets
        self.udp: dict[Place, UdpListener] = {}
        self.tcp: dict[Place, TcpListener] = {}
        self._kept = kept
        self._shared = shared
        self._options = AcceptOptions()
        self._udp_class, self._codec = chosen(lane)
        self._leaving: dict[Place, asyncio.Task[None]] = {}
        self._inherited: dict[tuple[str, int, int], socket.socket] = {}
        self._closed = False

    def inherit(self, given: Iterable[socket.socket]) -> int:
        """Take over listening sockets that another process has bound; return how many are of use.

        The next `open` binds none of their places, and closes those that it has no use for.
        """
        self.others_too = True
        for sock in given:
            place = sockets.listens_at(sock)
            if place is None or place in self._inherited:
                sock.close()
            else:
                self._inherited[place] = sock
        return len(self._inherited)

    def give(self) -> list[int]:
        """Return the descriptors of all listening sockets; from now on another process may have them, too."""
        self.others_too = True
        socks = [*(udp.sock for udp in self.udp.values()), *(tcp.server.sock for tcp in self.tcp.values())]
        return [sock.fileno() for sock in socks if sock.fileno() >= 0]

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
        finally:
            self._close_inherited()
        return opened

    async def discard(self, opened: Mapping[Place, Pair]) -> None:
        """Close what `open` has bound, unused."""
        for udp, tcp in opened.values():
            udp.close()
            await tcp.close()

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
        for udp, tcp in zip(self.udp.values(), self.tcp.values(), strict=True):
            udp.sweep(now_s)
            tcp.sweep(now_s)

    def pause(self) -> None:
        """Read and accept no more: another process does, on the same sockets. Connections go on."""
        for udp, tcp in zip(self.udp.values(), self.tcp.values(), strict=True):
            udp.stop()
            tcp.server.stop()

    def resume(self) -> None:
        """Read and accept again."""
        for udp, tcp in zip(self.udp.values(), self.tcp.values(), strict=True):
            udp.start()
            tcp.server.start()

    async def drain(self, within_s: float, *, paused: bool = False, alone: bool = True) -> None:
        """Read what has arrived and no more; TCP connections end when their answers are out.

        paused  What arrives is another process's.
        alone   No other process has these sockets: nothing that has arrived may be lost with them.
        """
        if not paused:
            await asyncio.gather(*(listener.finish(alone=alone) for listener in self.udp.values()))
        await asyncio.gather(*(listener.server.drain(within_s, alone=alone) for listener in self.tcp.values()))

    async def close(self) -> None:
        """Close every socket."""
        self._closed = True
        self._close_inherited()
        for udp in self.udp.values():
            udp.stop()
            udp.close()
        for tcp in self.tcp.values():
            await tcp.close()
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
            alone = not self.others_too
            await udp.finish(alone=alone)
            await tcp.server.drain(drain_s, alone=alone)
            while owes(udp) and timers.now() < end_s and not self._closed:
                await timers.sleep(OWED_EVERY_S)
        finally:
            udp.close()
            tcp.packets.clear()
            del self._leaving[place]

    def _bind(self, place: Place, label: str) -> Pair:
        host, port = place
        wanted_bytes = self._options.receive_buffer_bytes
        udp_socket = self._inherited.pop((host, port, socket.SOCK_DGRAM), None)
        if udp_socket is not None:
            granted_bytes = sockets.enlarge(udp_socket, wanted_bytes)
        else:
            udp_socket, granted_bytes = sockets.bind_udp(
                host, port, shared=self._shared, receive_buffer_bytes=wanted_bytes
            )
        tcp_socket = self._inherited.pop((host, port, socket.SOCK_STREAM), None)
        if tcp_socket is None:
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
        udp = self._udp_class(
            udp_socket,
            ListenerLabels(label, "udp", family),
            self._options,
            kept.series,
            PacketCache(kept.ledger, self._udp_class.new_table),
            kept.timers.now,
        )
        tcp_labels = ListenerLabels(label, "tcp", family)
        return udp, TcpListener(
            tcp_socket,
            tcp_labels,
            self._options,
            kept.series,
            PacketCache(kept.ledger),
            kept.timers,
            self._codec.decode,
            self._codec.visits,
        )

    def _close_inherited(self) -> None:
        while self._inherited:
            self._inherited.popitem()[1].close()


async def _with_holder(error: AddressInUse) -> str:
    """Return the error with the name of who holds the address, as far as /proc tells us."""
    loop = asyncio.get_running_loop()
    who = await loop.run_in_executor(None, holder, error.host, error.port, error.protocol)
    by = f" by {who}" if who else "; `ss -lunpt` as root shows by whom"
    return f"{error}{by}; stop it, or take another port with -dns.port or another address with `bind`"
