"""The packet cache behind its lane: what is a hit, how old it looks, when it is dead, how much is kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept import packets as packets_module
from resolver.accept.packets import CLIENT_SHARE, SWEEP_SLOTS, PacketCache
from resolver.accept.udp import UdpListener
from resolver.cache.ledger import Ledger
from resolver.report.series import TIME_BUCKETS_S
from tests.accept.lane import LANES, Bench, Lane, answer_to, life, query, ttls_of

pytestmark = pytest.mark.parametrize("lane", LANES)


def test_a_hit_is_the_answer_with_the_id_of_this_query_and_passes_nothing_up(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query(query_id=1)
        answer = answer_to(wire)
        lives, series = bench.keep(wire, answer)
        again = query(query_id=0xBEEF)
        assert bench.ask(again) == again[:2] + answer[2:]
        assert bench.passed_up == []
        assert lives.uses == 1
        assert (series.uses, series.request_bytes, series.response_bytes) == (2, 2 * len(wire), 2 * len(answer))


def test_a_query_that_differs_in_any_bit_is_another_question(lane: Lane) -> None:
    wire = query(use_edns=0, want_dnssec=True)
    with Bench(lane) as bench:
        bench.keep(wire)
        others = [
            wire[:at] + bytes((wire[at] ^ 1 << bit,)) + wire[at + 1 :]
            for at in range(2, len(wire))
            for bit in range(8)
        ]
        for other in [*others, wire[:-1], wire + b"\0"]:
            assert bench.ask(other) is None
        assert bench.passed_up == [*others, wire[:-1], wire + b"\0"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 11])
def test_what_is_too_short_for_a_key_is_passed_up(lane: Lane, size: int) -> None:
    with Bench(lane) as bench:
        bench.keep(query())
        assert bench.ask(b"x" * size) is None
        assert bench.passed_up == [b"x" * size]


#       TTL stored, floor, seconds since, TTL that is shown
AGED = [
    pytest.param(300, 0, 0.0, 300, id="fresh"),
    pytest.param(300, 0, 0.999, 300, id="not a second yet"),
    pytest.param(300, 0, 1.0, 299, id="a second"),
    pytest.param(300, 0, 17.5, 283, id="whole seconds only"),
    pytest.param(5, 0, 60.0, 0, id="stops at zero"),
    pytest.param(5, 1, 60.0, 1, id="stops at the floor"),
    pytest.param(5, 1, 5.0, 1, id="exactly at zero is the floor too"),
    pytest.param(2**31 + 5, 0, 1.0, 0, id="top bit set counts as zero (RFC 2181 section 8)"),
]


@pytest.mark.parametrize(("ttl_s", "floor_s", "since_s", "shown_s"), AGED)
def test_ttls_count_down(lane: Lane, ttl_s: int, floor_s: int, since_s: float, shown_s: int) -> None:
    with Bench(lane) as bench:
        wire = query()
        # TTL 1, length 4, 192...: dnspython would not write a TTL with its top bit set.
        answer = answer_to(wire, 1).replace(b"\0\0\0\1\0\4\xc0", ttl_s.to_bytes(4, "big") + b"\0\4\xc0")
        bench.keep(wire, answer, floor_s=floor_s)
        bench.clock.now_s += since_s
        got = bench.ask(wire)
        assert got is not None
        assert {int.from_bytes(got[at : at + 4], "big") for at in (len(got) - 26, len(got) - 10)} == {shown_s}


@given(steps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=12), elapsed_s=st.integers(0, 5))
def test_ageing_in_steps_is_ageing_at_once(lane: Lane, steps: list[float], elapsed_s: int) -> None:
    with Bench(lane) as bench:
        wire = query()
        stored_s = bench.clock.now_s - elapsed_s
        bench.keep(wire, answer_to(wire, 20 - elapsed_s), elapsed_s=elapsed_s)
        for step_s in steps:
            bench.clock.now_s += step_s
            got = bench.ask(wire)
            assert got is not None
            assert ttls_of(got) == {max(0, 20 - int(bench.clock.now_s - stored_s))}


def test_the_python_lane_ages_at_most_once_a_second_and_in_place(lane: Lane) -> None:
    aged: list[float] = []

    class Counting(PacketCache):
        __slots__ = ()

        def age(self, rendering: packets_module.Rendering, now_s: float) -> None:
            aged.append(now_s)
            super().age(rendering, now_s)

    with Bench((UdpListener, Counting)) as bench:
        wire = query()
        bench.keep(wire)
        body = bench.packets.table[wire[2:]].body
        for _ in range(10):
            bench.ask(wire)
            bench.clock.now_s += 0.25
        assert len(aged) == 2
        assert bench.packets.table[wire[2:]].body is body


def test_when_its_life_ends_a_rendering_is_dead_at_once(lane: Lane) -> None:
    with Bench(lane) as bench:
        shared = life()
        wires = [query(), query(use_edns=0)]
        for wire in wires:
            bench.keep(wire, lives=shared)
        shared.until_s = 0.0
        for wire in wires:
            assert bench.ask(wire) is None
        assert bench.passed_up == wires


def test_its_last_moment_is_the_one_before_until(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        lives, _ = bench.keep(wire)
        bench.clock.now_s = lives.until_s - 0.001
        assert bench.ask(wire) is not None
        bench.clock.now_s = lives.until_s
        assert bench.ask(wire) is None


def test_the_first_asker_in_the_prefetch_window_passes_up_and_the_next_is_a_hit_again(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        expires_s = bench.clock.now_s + 300
        lives, _ = bench.keep(wire, lives=life(until_s=expires_s - 30))
        bench.clock.now_s = expires_s - 20
        assert bench.ask(wire) is None
        lives.until_s = expires_s  # what the pipeline does when it has started the refresh
        got = bench.ask(wire)
        assert got is not None
        assert ttls_of(got) == {20}
        assert len(bench.passed_up) == 1


def test_a_long_pause_starts_the_count_of_uses_anew(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        lives, _ = bench.keep(wire)
        lives.gap_s = 60.0
        lives.used_s = bench.clock.now_s
        for pause_s, uses in ((1.0, 1), (59.0, 2), (61.0, 1), (1.0, 2)):
            bench.clock.now_s += pause_s
            assert bench.ask(wire) is not None
            assert lives.uses == uses


def test_one_client_may_add_so_many_until_the_next_sweep(lane: Lane) -> None:
    with Bench(lane) as bench:
        for number in range(CLIENT_SHARE + 5):
            bench.keep(query(f"n{number}.example."), client="greedy")
        assert len(bench.packets.table) == CLIENT_SHARE
        bench.keep(query("other.example."), client="modest")
        assert bench.ask(query("other.example.")) is not None
        bench.packets.sweep(bench.clock.now_s)
        bench.keep(query("late.example."), client="greedy")
        assert bench.ask(query("late.example.")) is not None


def test_a_rendering_that_is_there_is_replaced_whatever_its_client_had(lane: Lane) -> None:
    with Bench(lane) as bench:
        wire = query()
        bench.keep(wire, answer_to(wire, addresses=1), client="greedy")
        for number in range(CLIENT_SHARE):
            bench.keep(query(f"n{number}.example."), client="greedy")
        longer = answer_to(wire, addresses=9)
        bench.keep(wire, longer, client="greedy")
        assert bench.ask(wire) == longer
        assert bench.ledger.used_bytes == sum(kept.size_bytes for kept in bench.packets.table.values())


def test_without_room_in_the_ledger_nothing_new_is_taken_and_what_is_there_stays(lane: Lane) -> None:
    with Bench(lane, budget_bytes=2_000) as bench:
        for number in range(20):
            bench.keep(query(f"n{number}.example."))
        assert 0 < len(bench.packets.table) <= 2_000 // bench.packets.table.overhead_bytes
        assert bench.ledger.used_bytes <= 2_000
        assert bench.ask(query("n0.example.")) is not None
        assert bench.ask(query("n19.example.")) is None


def test_a_full_table_takes_nothing_new(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets_module, "CAPACITY", 3)
    with Bench(lane) as bench:
        for number in range(5):
            bench.keep(query(f"n{number}.example."))
        assert len(bench.packets.table) == 3


@pytest.mark.parametrize("living", [0, 1000])
def test_a_sweep_looks_at_so_many_slots_and_drops_the_dead(lane: Lane, living: int) -> None:
    with Bench(lane, budget_bytes=10**7) as bench:
        dead, alive = life(), life()
        for number in range(3 * SWEEP_SLOTS):
            lives = alive if number < living else dead
            bench.keep(query(f"n{number}.example."), lives=lives, client=number)
        dead.until_s = 0.0
        kept = [len(bench.packets.table)]
        for _ in range(6):
            bench.packets.sweep(bench.clock.now_s)
            kept.append(len(bench.packets.table))
        dropped = [before - after for before, after in pairwise(kept)]
        assert max(dropped) <= SWEEP_SLOTS
        # A key that goes lets another move up, now and then past where the walk is: its turn is in the next round.
        assert sum(dropped[:3]) >= 3 * SWEEP_SLOTS - living - 10
        assert sum(dropped) == 3 * SWEEP_SLOTS - living
        assert bench.ledger.used_bytes == sum(one.size_bytes for one in bench.packets.table.values())


def test_clearing_ends_every_rendering_at_once_and_gives_its_bytes_back(lane: Lane) -> None:
    with Bench(lane, budget_bytes=10**7) as bench:
        lives = life()
        for number in range(5_000):
            bench.keep(query(f"n{number}.example."), lives=lives, client=number)
        bench.packets.clear()
        assert bench.ask(query("n7.example.")) is None
        assert lives.until_s > 0  # the entry lives on: only its renderings are gone
        for _ in range(3):
            bench.ledger.tidy()
        assert bench.ledger.used_bytes == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("kkkdsc"), st.integers(0, 12), st.integers(1, 20)), max_size=60
    )
)  # fmt: skip
def test_the_ledger_is_the_sum_of_what_is_kept(lane: Lane, steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger(6_000)
    packets = lane[1](ledger)
    lives = [life() for _ in range(13)]
    with Bench(lane) as bench:
        bench.packets, bench.ledger = packets, ledger
        for what, number, addresses in steps:
            if what == "k":
                wire = query(f"n{number}.example.")
                lives[number].until_s = 1300.0
                bench.keep(wire, answer_to(wire, addresses=addresses), lives=lives[number])
            elif what == "d":
                lives[number].until_s = 0.0
            elif what == "s":
                packets.sweep(bench.clock.now_s)
            else:
                packets.clear()
            assert ledger.used_bytes == sum(kept.size_bytes for kept in packets.table.values())
            assert ledger.used_bytes <= 6_000


#       seconds that a batch takes, the bucket that its hits are in, None: nothing to do
DURATIONS = [
    pytest.param(0.0001, None, id="fast"),
    pytest.param(1 / 4096, None, id="just inside the first bucket"),
    pytest.param(0.0004, 1, id="slower"),
    pytest.param(0.1, 9, id="a stall"),
    pytest.param(60.0, len(TIME_BUCKETS_S), id="beyond all buckets"),
]


@pytest.mark.parametrize(("took_s", "bucket"), DURATIONS)
def test_hits_of_a_slow_batch_are_put_into_their_true_bucket(lane: Lane, took_s: float, bucket: int | None) -> None:
    with Bench(lane) as bench:
        wire = query()
        _, series = bench.keep(wire)
        bench.ask(wire)  # a fast batch before it is none of its
        for _ in range(3):
            bench.client.send(wire)
        bench.clock.now_s = 1024.0  # so that the steps below are exact
        bench.clock.step_s = took_s
        bench.listener.drain()
        expected = None if bucket is None else [3 * (at == bucket) for at in range(len(TIME_BUCKETS_S) + 1)]
        assert series.late_counts == expected
        bench.clock.step_s = 0.0
        bench.ask(wire)
        assert series.late_counts == expected  # a fast batch after it adds nothing
