"""Questions to one upstream over UDP: source ports, IDs, and what the kernel says about them.

Each *port* is a connected socket, so only the upstream's own datagrams arrive (RFC 5452 section 9.2) and ICMP
errors reach us. The rules, each from an outage:

- A fresh port carries one question until its first answer: two packets on a conntrack tuple that is not
  confirmed yet race, and one is dropped (the 5 s lookups of kubernetes#56903).
- A port retires after `QUESTIONS_PER_PORT` questions, after `expire_s` without use, after `max_age_s`, and when a
  question on it timed out; so does every port that has not been heard since that question went out. A stale
  conntrack entry that leads to a dead pod is left behind with its port.
- ECONNREFUSED from `send` reports an earlier datagram: send again, once. From `recv` it is a verdict.
"""

import asyncio
import os
import socket
from typing import Protocol

from resolver.clock import Now
from resolver.errors import UpstreamError
from resolver.forward.match import matches
from resolver.metrics import ConnCounts

QUESTIONS_PER_PORT = 64
"""A new socket costs 25 us; shared by 64 questions that is 0.4 us each, shared by 16 it is 1.5 us."""

PORTS_MAX = 1024
"""Of one upstream, each with one file descriptor. Beyond it, questions share ports, confirmed or not."""

ANSWER_MAX_BYTES = 4096
"""We announce 1232; what is longer than this arrives cut and is asked again over TCP."""

IDS_BYTES = 4096
"""Message IDs come from the system's random source, 2,048 to a draw."""


class Exchange(Protocol):
    """One question on a port."""

    asked: bytes

    def answered(self, packet: bytes, now_s: float) -> None:
        """A matching answer came."""

    def refused(self, reason: str, now_s: float) -> None:
        """The upstream's host or a router said that nobody is there."""


class Port:
    """One source port: a connected socket and the questions that wait on it, by ID."""

    __slots__ = (
        "_fd",
        "_ports",
        "asked",
        "born_s",
        "confirmed",
        "heard_s",
        "pending",
        "retired",
        "sock",
        "used_s",
    )

    def __init__(self, ports: "UdpPorts", sock: socket.socket, now_s: float) -> None:
        self._ports = ports
        self._fd = sock.fileno()
        self.sock = sock
        self.pending: dict[bytes, Exchange] = {}
        self.asked = 0
        self.confirmed = False
        self.retired = False
        self.born_s = self.used_s = now_s
        self.heard_s = 0.0

    def drain(self) -> None:
        """Take what has arrived; the loop calls this when the socket is readable."""
        ports = self._ports
        now_s = ports.now()
        pending = self.pending
        while True:
            try:
                packet = self.sock.recv(ANSWER_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                self._refused(f"{ports.label}: {error.strerror or error}", now_s)
                return
            exchange = pending.get(packet[:2])
            if exchange is None or not matches(packet, exchange.asked):
                ports.reuse.wrong_answers += 1
                if not pending:
                    break
                continue
            del pending[packet[:2]]
            self.heard_s = now_s
            if not self.confirmed:
                self.confirmed = True
                if not self.retired:
                    ports.ready.append(self)
            if len(packet) == ANSWER_MAX_BYTES:
                packet = packet[:2] + bytes((packet[2] | 0x02,)) + packet[3:]
            exchange.answered(packet, now_s)
            if not pending:
                break
        if self.retired and not pending:
            self.close()

    def retire(self) -> None:
        """Take no new questions; close when the last one that waits is answered or given up."""
        self.retired = True
        if self in self._ports.ready:
            self._ports.ready.remove(self)
        if not self.pending:
            self.close()

    def forget(self, query_id: bytes) -> None:
        """Nobody waits for this ID any more."""
        self.pending.pop(query_id, None)
        if self.retired and not self.pending:
            self.close()

    def close(self) -> None:
        """Close the socket; questions that still wait are not told."""
        if self._fd >= 0:
            self._ports.loop.remove_reader(self._fd)
            self.sock.close()
            self._fd = -1
            self._ports.all.discard(self)

    def _refused(self, reason: str, now_s: float) -> None:
        waiting = list(self.pending.values())
        self.pending.clear()
        self.retire()
        for exchange in waiting:
            exchange.refused(reason, now_s)


class UdpPorts:
    """All source ports to one upstream."""

    def __init__(
        self,
        address: tuple[str, int],
        label: str,
        now: Now,
        reuse: ConnCounts,
        *,
        source_address: str = "",
        expire_s: float = 10.0,
        max_age_s: float = 0.0,
    ) -> None:
        """Open nothing yet. `label` names the upstream in errors."""
        self.loop = asyncio.get_running_loop()
        self.now = now
        self.label = label
        self.all: set[Port] = set()
        self.ready: list[Port] = []
        self.reuse = reuse
        self._address = address
        self._family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._source_address = source_address
        self._expire_s = expire_s
        self._max_age_s = max_age_s or float("inf")
        self._ids = b""
        self._next_id = 0

    def send(self, exchange: Exchange, body: bytes, now_s: float) -> tuple[Port, bytes]:
        """Send `body`, a query without its ID, and return the port and the ID it went out with.

        Raises UpstreamError when it could not be sent.
        """
        ready = self.ready
        while ready:
            port = ready[-1]
            if now_s - port.used_s < self._expire_s and now_s - port.born_s < self._max_age_s:
                self.reuse.hits += 1
                break
            port.retire()
        else:
            port = self._open(now_s)
        pending = port.pending
        while True:
            start = self._next_id
            if start >= len(self._ids):
                self._ids = os.urandom(IDS_BYTES)
                start = 0
            self._next_id = start + 2
            query_id = self._ids[start : start + 2]
            if query_id not in pending:
                break
        try:
            try:
                port.sock.send(query_id + body)
            except ConnectionRefusedError:
                port.sock.send(query_id + body)
        except OSError as error:
            port.retire()
            raise UpstreamError(f"{self.label}: {error.strerror or error}") from None
        pending[query_id] = exchange
        port.used_s = now_s
        port.asked += 1
        if port.asked >= QUESTIONS_PER_PORT:
            port.retire()
        return port, query_id

    def timed_out(self, port: Port, sent_s: float) -> None:
        """A question sent at `sent_s` on `port` has waited too long: leave every port not heard since."""
        port.retire()
        for other in [other for other in self.ready if other.heard_s < sent_s]:
            other.retire()

    def sweep(self, now_s: float) -> None:
        """Close ports that nothing has used for `expire_s`."""
        for port in [port for port in self.all if not port.pending and now_s - port.used_s >= self._expire_s]:
            port.retire()

    def close(self) -> None:
        """Close every port."""
        self.ready.clear()
        for port in list(self.all):
            port.close()

    def _open(self, now_s: float) -> Port:
        if len(self.all) >= PORTS_MAX:
            return next(iter(self.all))
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            sock = socket.socket(self._family, kind)
        except OSError as error:
            raise UpstreamError(f"{self.label}: {error.strerror or error}") from None
        try:
            if self._source_address:
                sock.bind((self._source_address, 0))
            sock.connect(self._address)
        except OSError as error:
            sock.close()
            raise UpstreamError(f"{self.label}: {error.strerror or error}") from None
        port = Port(self, sock, now_s)
        self.all.add(port)
        self.reuse.misses += 1
        self.loop.add_reader(sock.fileno(), port.drain)
        return port
