"""The Python lane: a batch of datagrams per wake-up, answered from the packet cache where it knows the bytes.

A query whose bytes are in the packet cache costs no Python call here: receive, look up, send. Everything else goes
up to `Listener.answer`. Time is read once for each batch and once after it: if the batch took longer than the
first duration bucket, its hits are put into their true one.

On a wildcard address the kernel is asked which address each query came to, and the answer leaves from there
(RFC 3542 section 6.1, ip(7) IP_PKTINFO): a client drops answers from an address that it did not ask.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from resolver.accept import sockets
from resolver.accept.listener import Listener
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import DictTable, PacketCache
from resolver.clock import Now
from resolver.report.series import TIME_BUCKETS_S, ListenerLabels, Series, SeriesTable

QUERY_MAX_BYTES = 4096
"""A query that is longer arrives cut and is FORMERR; real ones are below 512 bytes."""

FINISH_BATCHES = 256
"""Batches read at the end: 8,192 datagrams; the receive buffer holds about 5,000."""

_PKTINFO4 = struct.Struct("@i4s4s")
_PKTINFO6 = struct.Struct("@16si")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(_PKTINFO4.size)
_IP_PKTINFO = 8  # linux/in.h; the socket module has it since Python 3.12


class UdpListener(Listener):
    """One UDP socket. `client` is the peer's address tuple, on a wildcard socket with where it asked."""

    new_table: Callable[[], Any] = DictTable
    """Makes the table that this lane wants in its packet cache."""

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
        super().__init__(labels, options.udp_answer_max_bytes, series, packets)
        self.sock = sock
        self._received = 0
        self.send_failures = 0
        self._kept = packets
        self._batch = options.udp_batch
        self._now = now
        self._hits: list[Series] = []
        self._wildcard = _is_wildcard(sock)
        if self._wildcard:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    @property
    def received(self) -> int:
        """Datagrams read."""
        return self._received

    def start(self) -> None:
        """Answer from now on."""
        asyncio.get_running_loop().add_reader(self.sock.fileno(), self.drain)

    def stop(self) -> None:
        """Read no more; the socket stays open for answers of flights that are still in the air."""
        asyncio.get_running_loop().remove_reader(self.sock.fileno())

    async def finish(self, *, alone: bool = False) -> None:
        """Answer what has arrived, one batch in each turn of the loop, and read no more.

        alone  No other process has this socket. Then nothing arrives from now on: who still asks is told at once
               that nobody is here, and does not wait, or is served by another socket of this address.
        """
        if alone:
            sockets.turn_away(self.sock)
        for _ in range(FINISH_BATCHES):
            before = self.received
            self.drain()
            if self.received == before:
                break
            await asyncio.sleep(0)
        self.stop()

    def close(self) -> None:
        """Close the socket and give the renderings back."""
        self._kept.clear()
        self.sock.close()

    def drain(self) -> None:
        """Answer up to one batch of queries; the loop calls this when the socket is readable."""
        if self._wildcard:
            self._drain_wildcard()
            return
        receive, send = self.sock.recvfrom, self.sock.sendto
        table = self._kept.table
        lookup = table.get
        hits = self._hits
        now_s = self._now()
        received = 0
        try:
            for _ in range(self._batch):
                query, client = receive(QUERY_MAX_BYTES)
                received += 1
                key = query[2:]
                rendering = lookup(key)
                if rendering is not None and now_s < rendering.life.until_s:
                    if now_s >= rendering.next_s or rendering.stored_s != rendering.life.stored_s:
                        self._kept.age(rendering, now_s)
                    rendering.life.uses += 1
                    series = rendering.series
                    series.uses += 1
                    series.request_bytes += len(query)
                    series.response_bytes += 2 + len(rendering.body)
                    hits.append(series)
                    answer: bytes | None = query[:2] + rendering.body
                    if rendering.follow is not None:
                        table[key] = rendering.follow
                else:
                    answer = self.answer(query, client, now_s)
                if answer is not None:
                    try:
                        send(answer, client)
                    except OSError:
                        self.send_failures += 1
        except OSError as error:
            # EAGAIN ends a batch; an ICMP error of an earlier answer is no reason to stop either.
            if not isinstance(error, BlockingIOError):
                self.send_failures += 1
        self._received += received
        if hits:
            self._settle(now_s)

    def _drain_wildcard(self) -> None:
        """As `drain`, with the local address of each query taken along.

        What a hit costs is written out in both: one function for it would be a Python call for each.
        """
        now_s = self._now()
        table = self._kept.table
        for _ in range(self._batch):
            try:
                query, ancillary, _, peer = self.sock.recvmsg(QUERY_MAX_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self.send_failures += 1
                continue
            self._received += 1
            client = (peer[0], peer, _reply_from(ancillary))
            key = query[2:]
            rendering = table.get(key)
            if rendering is not None and now_s < rendering.life.until_s:
                if now_s >= rendering.next_s or rendering.stored_s != rendering.life.stored_s:
                    self._kept.age(rendering, now_s)
                rendering.life.uses += 1
                series = rendering.series
                series.uses += 1
                series.request_bytes += len(query)
                series.response_bytes += 2 + len(rendering.body)
                self._hits.append(series)
                self.send(query[:2] + rendering.body, client)
                if rendering.follow is not None:
                    table[key] = rendering.follow
                continue
            answer = self.answer(query, client, now_s)
            if answer is not None:
                self.send(answer, client)
        if self._hits:
            self._settle(now_s)

    def send(self, response: bytes, client: Any) -> None:
        """Send one datagram; a full buffer or a vanished route loses it, as UDP may."""
        try:
            if self._wildcard:
                _, peer, ancillary = client
                self.sock.sendmsg((response,), ancillary, 0, peer)
            else:
                self.sock.sendto(response, client)
        except OSError:
            self.send_failures += 1

    def client_host(self, client: Any) -> object:
        """Return what one client's share is counted by."""
        return client[0]

    def client_text(self, client: Any) -> str:
        """Return the client for people: `10.0.0.7:41832` or `[fd00::7]:41832`."""
        host, port = (client[1] if self._wildcard else client)[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _settle(self, started_s: float) -> None:
        """Put the hits of a slow batch into their true duration bucket."""
        duration_s = self._now() - started_s
        if duration_s > TIME_BUCKETS_S[0]:
            for series in self._hits:
                series.late(duration_s)
        self._hits.clear()


def _is_wildcard(sock: socket.socket) -> bool:
    return sock.getsockname()[0] in {"0.0.0.0", "::"}


def _reply_from(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return the control messages that make an answer leave from where its query arrived."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _PKTINFO4.size:
            _, local, _ = _PKTINFO4.unpack_from(data)
            return [(level, kind, _PKTINFO4.pack(0, local, b"\0\0\0\0"))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _PKTINFO6.size:
            address, interface = _PKTINFO6.unpack_from(data)
            # A link-local address means nothing without its interface; for others routing decides.
            link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
            return [(level, kind, _PKTINFO6.pack(address, interface if link_local else 0))]
    return []
