"""Rings: the orders of one answer take turns, live as one, are charged as one, and leave nothing behind."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept import packets as packets_module
from resolver.accept.packets import CLIENT_SHARE, PacketCache
from resolver.accept.udp import UdpListener
from resolver.cache.entry import Life
from resolver.cache.ledger import Ledger
from resolver.report.series import Series
from tests.accept.lane import LANES, Bench, Lane, life, orders_of, query, ttls_of

pytestmark = pytest.mark.parametrize("lane", LANES)


def keep_ring(bench: Bench, wire: bytes, orders: list[bytes], **options: object) -> tuple[Life, Series]:
    """Keep `orders` when the last of them has just been sent."""
    *others, sent = orders
    return bench.keep(wire, sent, others=others, **options)  # type: ignore[arg-type] # the test names them


def test_each_hit_gets_the_next_order_and_then_the_first_again(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        orders = orders_of(wire, addresses=3)
        keep_ring(bench, wire, orders)
        assert [bench.ask(wire) for _ in range(7)] == [*orders, *orders, orders[0]]
        assert bench.passed_up == []


def test_the_same_question_several_times_in_one_batch_gets_one_after_the_other(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire, other = query(), query("other.example.")
        orders = orders_of(wire, addresses=3)
        keep_ring(bench, wire, orders)
        bench.keep(other)
        for sent in (wire, wire, other, wire, wire):
            bench.client.send(sent)
        bench.listener.drain()
        got = [bench.received() for _ in range(5)]
        assert [got[at] for at in (0, 1, 3, 4)] == [*orders, orders[0]]


def test_on_a_wildcard_socket_too(lane: Lane) -> None:
    with Bench(lane, host="0.0.0.0", ask_at="127.0.0.1") as bench:
        wire = query()
        orders = orders_of(wire, addresses=2)
        keep_ring(bench, wire, orders)
        assert [bench.ask(wire) for _ in range(3)] == [*orders, orders[0]]


def test_hits_count_for_all_together(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        orders = orders_of(wire, addresses=4)
        lives, series = keep_ring(bench, wire, orders)
        for _ in range(6):
            bench.ask(wire)
        assert lives.uses == 6
        assert (series.uses, series.request_bytes) == (7, 7 * len(wire))
        assert series.response_bytes == 7 * len(orders[0])


@given(
    steps=st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 4), st.booleans()), min_size=1, max_size=12),
    ttl_s=st.sampled_from([20, 40]),
)
def test_each_order_is_as_old_as_the_answer(lane: Lane, steps: list[tuple[float, int, bool]], ttl_s: int) -> None:
    with Bench(lane) as bench:
        wire = query()
        orders = orders_of(wire, ttl_s, addresses=3)
        lives, _ = keep_ring(bench, wire, orders)
        stored_s = bench.clock.now_s
        for step_s, hits, fetched_anew in steps:
            bench.clock.now_s += step_s
            if fetched_anew and ttl_s == 40:  # the same again, while no TTL has come to its end
                stored_s = lives.stored_s = bench.clock.now_s
            for _ in range(hits):
                got = bench.ask(wire)
                assert got is not None
                assert ttls_of(got) == {max(0, ttl_s - int(bench.clock.now_s - stored_s))}


def test_all_are_dead_at_once(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        orders = orders_of(wire)
        lives, _ = keep_ring(bench, wire, orders)
        assert bench.ask(wire) == orders[0]
        lives.until_s = 0.0
        assert bench.ask(wire) is None
        assert bench.passed_up == [wire]


def test_a_ring_is_charged_whole(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        orders = orders_of(wire, addresses=3)
        keep_ring(bench, wire, orders)
        assert bench.ledger.used_bytes == 3 * (
            len(wire) - 2 + len(orders[0]) + 2 * 3 + bench.packets.table.overhead_bytes
        )
        bench.ask(wire)
        assert bench.ledger.used_bytes == sum(kept.size_bytes for kept in bench.packets.table.values())


def test_a_ring_for_which_there_is_no_room_is_not_kept_in_part(lane: Lane) -> None:
    wire = query()
    orders = orders_of(wire, addresses=8)
    with Bench(lane, budget_bytes=1_000) as bench:
        keep_ring(bench, wire, orders)
        assert not bench.packets.table
        bench.keep(wire, orders[0])
        assert bench.ask(wire) == orders[0]
        keep_ring(bench, wire, orders)  # nor is what it would have replaced
        assert not bench.packets.table
        assert bench.ledger.used_bytes == 0


def test_each_order_counts_against_the_share_of_a_client(lane: Lane) -> None:
    with Bench(lane, budget_bytes=10**7) as bench:
        for number in range(CLIENT_SHARE):
            wire = query(f"n{number}.example.")
            keep_ring(bench, wire, orders_of(wire, addresses=8), client="greedy")
        assert len(bench.packets.table) == CLIENT_SHARE // 8


class Weak(packets_module.Rendering):
    """A rendering whose end can be seen."""

    __slots__ = ("__weakref__",)


@contextmanager
def seen_to_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Weak]]]:
    """Collect all renderings that are made; the collector is off, as in the process."""
    made: list[weakref.ref[Weak]] = []

    def make() -> Weak:
        rendering = Weak()
        made.append(weakref.ref(rendering))
        return rendering

    monkeypatch.setattr(packets_module, "Rendering", make)
    gc.disable()
    try:
        yield made
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["sweep", "clear", "replaced", "no room for the next"])
def test_nothing_of_a_ring_stays_when_it_goes(lane: Lane, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with seen_to_end(monkeypatch) as made:
        ledger = Ledger(4_000)
        packets = PacketCache(ledger)
        with Bench((UdpListener, PacketCache)) as bench:
            bench.packets, bench.ledger = packets, ledger
            wire = query()
            lives, _ = keep_ring(bench, wire, orders_of(wire, addresses=3))
            assert len(made) == 3
            lives.until_s = 0.0
            if how == "sweep":
                packets.sweep(bench.clock.now_s)
            elif how == "clear":
                packets.clear()
            else:
                longer = 3 if how == "replaced" else 30
                keep_ring(bench, wire, orders_of(wire, addresses=longer, orders=min(longer, 8)))
            assert [ref() for ref in made[:3]] == [None] * 3
            assert ledger.used_bytes == sum(kept.size_bytes for kept in packets.table.values())
            assert (len(packets.table) == 1) == (how == "replaced")
            packets.clear()


@given(
    st.lists(st.tuples(st.sampled_from("kkkadsct"), st.integers(0, 6), st.integers(1, 8)), max_size=60)
)  # fmt: skip
def test_the_ledger_is_the_sum_of_what_is_kept(lane: Lane, steps: list[tuple[str, int, int]]) -> None:
    with Bench(lane, budget_bytes=12_000) as bench:
        lives = [life() for _ in range(7)]
        for what, number, addresses in steps:
            wire = query(f"n{number}.example.")
            if what == "k":
                lives[number].until_s = 1300.0
                keep_ring(bench, wire, orders_of(wire, addresses=addresses), lives=lives[number])
            elif what == "a":
                bench.ask(wire)
            elif what == "d":
                lives[number].until_s = 0.0
            elif what == "s":
                bench.packets.sweep(bench.clock.now_s)
            elif what == "t":
                bench.ledger.tidy()
            else:
                bench.packets.clear()
            assert bench.ledger.used_bytes == sum(kept.size_bytes for kept in bench.packets.table.values())
            assert bench.ledger.used_bytes <= 12_000
