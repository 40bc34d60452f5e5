"""The TCP listener: `Listener`'s questions and routes over `TcpServer`'s connections. `client` is the stream."""

import socket
from collections.abc import Callable
from typing import Any

from resolver.accept.decode import Rejection, decode
from resolver.accept.listener import Listener
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import PacketCache
from resolver.accept.stream import Stream
from resolver.accept.tcp import TcpServer, VisitsClass
from resolver.clock import Timers
from resolver.reply.fit import STREAM_BYTES
from resolver.report.series import ListenerLabels, SeriesTable
from resolver.wire.question import Question


class TcpListener(Listener):
    """One listening TCP socket. Nothing is accepted before `server.start`."""

    def __init__(
        self,
        sock: socket.socket,
        labels: ListenerLabels,
        options: AcceptOptions,
        series: SeriesTable,
        packets: PacketCache,
        timers: Timers,
        decode: Callable[[bytes], Question | Rejection | None] = decode,
        visits: VisitsClass | None = None,
    ) -> None:
        """Take over `sock`, bound, listening and non-blocking. `visits` as `TcpServer` takes it."""
        super().__init__(labels, STREAM_BYTES, series, packets, decode)
        self.sock = sock
        self.server = TcpServer(sock, self.answer, options, timers, timers.now, visits)

    def answer(self, query: bytes, client: Any, now_s: float) -> bytes | None:
        """Return the answer to the query, or None: a flight has it, or silence is right. Never raises.

        The packet cache comes first, as in `UdpListener.drain`, and is written out for the same reason: a call for
        each question is what it saves.
        """
        packets = self.packets
        key = query[2:]
        rendering = packets.table.get(key)
        if rendering is None or now_s >= rendering.life.until_s:
            return super().answer(query, client, now_s)
        if now_s >= rendering.next_s or rendering.stored_s != rendering.life.stored_s:
            packets.age(rendering, now_s)
        rendering.life.uses += 1
        series = rendering.series
        series.uses += 1
        series.request_bytes += len(query)
        series.response_bytes += 2 + len(rendering.body)
        if rendering.follow is not None:
            packets.table[key] = rendering.follow
        return query[:2] + rendering.body

    async def close(self) -> None:
        """Close the socket and every connection, and give the renderings back."""
        self.packets.clear()
        await self.server.close()

    def send(self, response: bytes, client: Any) -> None:
        """Send a late answer; a client that has gone takes none."""
        client.send(response)

    def client_host(self, client: Any) -> object:
        """Return what one client's share is counted by."""
        return client.client_host

    def client_text(self, client: Stream) -> str:
        """Return the client for people: `10.0.0.7:41832`."""
        return client.client_text
