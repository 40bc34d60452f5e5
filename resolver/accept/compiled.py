"""The UDP listener on the compiled lane; where that was not built, importing this fails and `accept.udp` serves."""

import asyncio
import socket
from typing import Any

from resolver.accept.codec import decode
from resolver.accept.lane import Lane, Table
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from resolver.clock import Now
from resolver.report.series import ListenerLabels, SeriesTable


class CompiledUdpListener(UdpListener):
    """One UDP socket. `client` is raw: (address bytes, socket address, control message)."""

    new_table = Table

    def __init__(
        self,
        sock: socket.socket,
        labels: ListenerLabels,
        options: AcceptOptions,
        series: SeriesTable,
        packets: PacketCache,
        now: Now,
    ) -> None:
        """Take over `sock`, bound and non-blocking. Nothing is read before `start`."""
        super().__init__(sock, labels, options, series, packets, now)
        self._decode = decode
        self._lane = Lane(sock.fileno(), options.udp_batch_compiled, self._wildcard, now, packets)

    @property
    def received(self) -> int:
        """Datagrams read."""
        return self._lane.received

    def start(self) -> None:
        """Answer from now on."""
        # The lane itself and not `drain`: at a thousand questions a second each of them pays for a Python call.
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self._lane.drain, self)

    def drain(self) -> None:
        """Answer up to one batch of queries."""
        self._lane.drain(self)

    def send(self, response: bytes, client: Any) -> None:
        """Send one datagram; a full buffer or a vanished route loses it, as UDP may."""
        # Once the socket is closed its number may be another's, and the lane knows only the number.
        if self.sock.fileno() < 0 or not self._lane.send(response, client):
            self.send_failures += 1

    def client_text(self, client: Any) -> str:
        """Return the client for people: `10.0.0.7:41832` or `[fd00::7]:41832`."""
        address, peer, _ = client
        port = int.from_bytes(peer[2:4], "big")
        if len(address) == 4:
            return f"{socket.inet_ntop(socket.AF_INET, address)}:{port}"
        return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"
