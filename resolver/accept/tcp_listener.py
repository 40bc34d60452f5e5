"""The TCP listener: `Listener`'s questions and routes over `TcpServer`'s connections. `client` is the stream."""

import socket
from typing import Any

from resolver.accept.listener import Listener
from resolver.accept.options import AcceptOptions
from resolver.accept.stream import Stream
from resolver.accept.tcp import TcpServer
from resolver.clock import Timers
from resolver.reply.fit import STREAM_BYTES
from resolver.report.series import ListenerLabels, SeriesTable


class TcpListener(Listener):
    """One listening TCP socket. Nothing is accepted before `server.start`."""

    def __init__(
        self,
        sock: socket.socket,
        labels: ListenerLabels,
        options: AcceptOptions,
        series: SeriesTable,
        timers: Timers,
    ) -> None:
        """Take over `sock`, bound, listening and non-blocking."""
        super().__init__(labels, STREAM_BYTES, series, None)
        self.sock = sock
        self.server = TcpServer(sock, self.answer, options, timers, timers.now)

    def send(self, response: bytes, client: Any) -> None:
        """Send a late answer; a client that has gone takes none."""
        client.send(response)

    def client_text(self, client: Stream) -> str:
        """Return the client for people: `10.0.0.7:41832`."""
        return client.client_text
