"""A lane on a bench: one UDP listener, its packet cache and a client, all in this thread.

The loopback device delivers a datagram before `sendto` returns, so `drain` is called by hand: no loop, no waiting,
and a clock that only the test moves. `LANES` is the list that tests are parametrised with: two lanes, one contract.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import dns.message
import dns.rrset
import pytest

from resolver.accept.compiled import CompiledUdpListener
from resolver.accept.lane import Table
from resolver.accept.options import AcceptOptions
from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from resolver.cache.entry import Life
from resolver.cache.ledger import Ledger
from resolver.report.series import ListenerLabels, Series, SeriesTable
from resolver.wire.ttls import scan
from tests.support.addresses import loopback

LANES: list[Any] = [
    pytest.param((UdpListener, PacketCache), id="python"),
    pytest.param((CompiledUdpListener, partial(PacketCache, new_table=Table)), id="compiled"),
]
"""Listener class and what makes its packet cache. The compiled lane must be built: `make test` does that."""

Lane = tuple[type[UdpListener], Callable[[Ledger], PacketCache]]

LABELS = ListenerLabels("dns://:53", "udp", "1")
PATIENCE_S = 5.0


class Clock:
    """Seconds that stand still; each reading afterwards is `step_s` later."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.step_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def query(name: str = "web.example.", rdtype: str = "A", query_id: int = 1, **options: Any) -> bytes:
    """A query in wire form; `options` are dnspython's."""
    return dns.message.make_query(name, rdtype, id=query_id, **options).to_wire()


def answer_to(wire: bytes, ttl_s: int = 300, addresses: int = 2) -> bytes:
    """An answer with so many A records of this TTL."""
    message = dns.message.make_response(dns.message.from_wire(wire))
    message.use_edns(False)
    name = message.question[0].name
    for number in range(1, addresses + 1):  # one by one: dnspython shuffles the records of a set
        message.answer.append(dns.rrset.from_text(name, ttl_s, "IN", "A", f"192.0.2.{number}"))
    return message.to_wire()


def orders_of(wire: bytes, ttl_s: int = 300, addresses: int = 3, orders: int | None = None) -> list[bytes]:
    """The same answer in `orders` orders (default: as many as addresses), each with another address first."""
    answer = answer_to(wire, ttl_s, addresses)
    size = 16  # a pointer to the question's name, ten bytes, the address
    start = len(answer) - addresses * size
    records = [answer[at : at + size] for at in range(start, len(answer), size)]
    turns = range(addresses if orders is None else orders)
    return [answer[:start] + b"".join(records[turn:] + records[:turn]) for turn in turns]


def ttls_of(answer: bytes) -> set[int]:
    """The TTLs that a client sees."""
    return {rrset.ttl for rrset in dns.message.from_wire(answer).answer}


def life(until_s: float = 1300.0) -> Life:
    """The life of an entry that nothing has used yet."""
    new = Life()
    new.until_s = until_s
    new.uses = 0
    new.used_s = new.recheck_s = new.stored_s = 0.0
    new.gap_s = 1e9
    return new


class Bench:
    """`ask` sends a query, lets the lane drain, and returns what came back."""

    def __init__(
        self,
        lane: Lane,
        *,
        host: str | None = None,
        ask_at: str | None = None,
        options: AcceptOptions | None = None,
        budget_bytes: int = 10**6,
        sock: socket.socket | None = None,
    ) -> None:
        """`host` is bound, `ask_at` asked; both a loopback address of their own unless given."""
        listener_class, new_packets = lane
        bound = host or loopback()
        family = socket.AF_INET6 if ":" in bound else socket.AF_INET
        self.sock = sock or socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((bound, 0))
        self.sock.setblocking(False)
        self.clock = Clock()
        self.ledger = Ledger(budget_bytes)
        self.series = SeriesTable()
        self.packets = new_packets(self.ledger)
        self.passed_up: list[bytes] = []
        self.clients: list[Any] = []
        self.reply: Callable[[bytes], bytes | None] = lambda _query: None
        bench = self

        class Recording(listener_class):  # type: ignore[valid-type, misc] # the class is the parameter
            def answer(self, query: bytes, client: object, now_s: float) -> bytes | None:
                bench.passed_up.append(query)
                bench.clients.append(client)
                return bench.reply(query)

        self.listener = Recording(
            self.sock, LABELS, options or AcceptOptions(), self.series, self.packets, self.clock
        )
        self.client = socket.socket(family, socket.SOCK_DGRAM)
        # Connected: an answer from any other address than the one that was asked does not arrive.
        self.client.connect((ask_at or bound, self.sock.getsockname()[1]))
        self.client.setblocking(False)

    def ask(self, wire: bytes) -> bytes | None:
        """Return the answer, or None when the lane sent none."""
        self.client.send(wire)
        self.listener.drain()
        return self.received()

    def received(self) -> bytes | None:
        """Return the next datagram that has reached the client."""
        try:
            return self.client.recv(65535)
        except BlockingIOError:
            return None

    def keep(
        self,
        wire: bytes,
        answer: bytes | None = None,
        *,
        lives: Life | None = None,
        client: object = "client",
        floor_s: int = 0,
        elapsed_s: int = 0,
        others: Sequence[bytes] = (),
    ) -> tuple[Life, Series]:
        """Keep a rendering (with `others`, a ring) as the pipeline does; return its life and series."""
        answer = answer or answer_to(wire)
        lives = lives or life()
        series = self.series.count(LABELS, ".", "", 1, 0, False, "cache", len(wire), len(answer), 0.0, "success")
        offsets = scan(answer).ttl_offsets
        lives.stored_s = self.clock.now_s - elapsed_s
        self.packets.keep(
            wire[2:], answer, client, offsets, elapsed_s, floor_s, lives, series,
            [(other, scan(other).ttl_offsets) for other in others],
        )  # fmt: skip
        return lives, series

    def close(self) -> None:
        """Close both sockets."""
        self.client.close()
        self.listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
