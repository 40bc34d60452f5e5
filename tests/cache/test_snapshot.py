"""A cache as bytes and back: what is known stays known, ages go on, and no bytes at all can do harm.

Longer than 300 lines because good snapshots and spoilt ones are made by the same few functions.
"""

import contextlib
import math
import random
import struct
from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.cache import snapshot
from resolver.cache.cache import Cache
from resolver.cache.entry import Entry
from resolver.cache.frames import FRAME_MAX_BYTES, Frames, frame
from resolver.cache.ledger import Ledger
from resolver.cache.lifetime import decide
from resolver.cache.options import CacheOptions
from resolver.cache.snapshot import HEAD_BYTES, Identity, Loading, Taken, clock_shift_s, encode, read_head
from resolver.errors import BadSnapshot
from resolver.wire.ttls import scan
from tests.accept.lane import answer_to, query
from tests.support import mutants

NOW_S = 5_000.0
BOOT = b"this boot of it."
TAKEN = Taken(BOOT, 1_700_000_000.0, NOW_S)
HERE: Identity = ((".",), (("127.0.0.1", 53),))
OPTIONS = CacheOptions(success_capacity=5_000, denial_capacity=5_000)


def cache_of(options: CacheOptions = OPTIONS, budget_bytes: int = 10**9) -> Cache:
    return Cache(options, Ledger(budget_bytes))


def put(
    cache: Cache, name: str, now_s: float = NOW_S, ttl_s: int = 300, uses: int = 0, addresses: int = 2
) -> bytes:
    """Store an answer as the pipeline does; return its key."""
    wire = query(name)
    key = wire[12:] + b"\0"
    found = scan(answer_to(wire, ttl_s, addresses))
    cache.put(key, found, decide(found, 1, cache.options), now_s).life.uses = uses
    return key


def put_denial(cache: Cache, name: str) -> bytes:
    wire = query(name)
    message = dns.message.make_response(dns.message.from_wire(wire))
    message.use_edns(False)
    message.set_rcode(dns.rcode.NXDOMAIN)
    message.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", "ns. root. 1 2 3 4 60"))
    found = scan(message.to_wire())
    key = wire[12:] + b"\0"
    cache.put(key, found, decide(found, 1, cache.options), NOW_S)
    return key


def saved(*caches: tuple[Identity, Cache], taken: Taken = TAKEN) -> bytes:
    return b"".join(encode(taken, caches))


def load(
    data: bytes, caches: Sequence[tuple[Identity, Cache]], now_s: float = NOW_S, shift_s: float = 0.0
) -> Loading:
    """Load a whole snapshot; raises BadSnapshot, also where its end is missing."""
    read_head(data[:HEAD_BYTES])
    known = dict(caches)
    loading = Loading(shift_s, lambda found: [known.get(identity) for identity in found])
    frames = Frames()
    frames.feed(data[HEAD_BYTES:])
    while (found := frames.next()) is not None:
        loading.take(*found, now_s)
    if not loading.done or frames.rest_bytes:
        raise BadSnapshot("it ends too early")
    return loading


def facts(entry: Entry) -> tuple[object, ...]:
    """All of an entry but its life."""
    return (*entry[:8], entry.size_bytes)


def test_what_is_known_comes_back_as_it_was() -> None:
    before, after = cache_of(), cache_of()
    for number in range(700):
        put(before, f"name{number}.example.", NOW_S - number / 10, uses=number % 3, addresses=number % 5 + 1)
        put_denial(before, f"none{number}.example.")
    before.keep_failure(query("broken.example.")[12:] + b"\0", b"\0" * 12, 5.0, NOW_S)
    loading = load(saved((HERE, before)), [(HERE, after)])
    assert (loading.loaded, loading.left) == (1_400, 0)
    for old, new in ((before.success, after.success), (before.denial, after.denial)):
        assert {key: facts(entry) for key, entry in new.entries.items()} == {
            key: facts(entry) for key, entry in old.entries.items()
        }
        assert new.size_bytes == old.size_bytes
        for key, entry in old.entries.items():
            life = new.entries[key].life
            assert (life.uses, life.used_s, life.until_s) == (
                entry.life.uses,
                entry.life.used_s,
                entry.life.until_s,
            )
    assert not after.failures.entries
    assert after.success.ledger.used_bytes == after.success.size_bytes + after.denial.size_bytes


def test_a_block_that_is_not_here_any_more_is_left_out() -> None:
    there: Identity = (("example.", "other."), (("", 53), ("::1", 5300)))
    before, other, after = cache_of(), cache_of(), cache_of()
    put(before, "web.example.")
    key = put(other, "web.example.")
    loading = load(saved((HERE, before), (there, other)), [(there, after)])
    assert (loading.loaded, loading.left) == (1, 1)
    assert facts(after.success.entries[key]) == facts(other.success.entries[key])


def test_what_is_in_use_comes_first_and_goes_last() -> None:
    before = cache_of()
    keys = [put(before, f"name{number}.example.", uses=number % 2) for number in range(1_000)]
    data = saved((HERE, before))
    small = cache_of(replace(OPTIONS, success_capacity=600))
    loading = load(data, [(HERE, small)])
    assert (loading.loaded, loading.left) == (600, 400)
    assert set(keys[1::2]) <= set(small.success.entries)
    for number in range(100):
        put(small, f"late{number}.example.")
    assert set(keys[1::2]) <= set(small.success.entries)
    assert small.success.evictions == 100


def test_the_ledger_is_not_overdrawn() -> None:
    before = cache_of()
    for number in range(1_000):
        put(before, f"name{number}.example.")
    after = cache_of(budget_bytes=100_000)
    loading = load(saved((HERE, before)), [(HERE, after)])
    assert 90_000 < after.success.ledger.used_bytes <= 100_000
    assert loading.loaded == len(after.success.entries) == 1_000 - loading.left
    assert after.success.evictions == 0


def test_what_has_come_meanwhile_is_newer() -> None:
    before, after = cache_of(), cache_of()
    key = put(before, "web.example.", NOW_S - 10)
    denied = put(before, "gone.example.", NOW_S - 10)
    put(after, "web.example.", NOW_S)
    put_denial(after, "gone.example.")
    load(saved((HERE, before)), [(HERE, after)])
    assert after.success.entries[key].stored_s == NOW_S
    assert denied not in after.success.entries


STALE = replace(OPTIONS, stale_s=100.0)


#        serve_stale before, after; seconds past expiry; is it there afterwards
EXPIRED = [
    pytest.param(OPTIONS, OPTIONS, -1, True, id="fresh"),
    pytest.param(OPTIONS, OPTIONS, 1, False, id="expired"),
    pytest.param(STALE, STALE, 99, True, id="expired, and may be served"),
    pytest.param(STALE, STALE, 101, False, id="too old to be served"),
    pytest.param(STALE, OPTIONS, 1, False, id="may not be served any more"),
]


@pytest.mark.parametrize(("before", "after", "past_s", "kept"), EXPIRED)
def test_expired_answers_come_only_where_they_may_be_served(
    before: CacheOptions, after: CacheOptions, past_s: float, kept: bool
) -> None:
    old, new = cache_of(before), cache_of(after)
    key = put(old, "web.example.", NOW_S - 300 - past_s)
    load(saved((HERE, old)), [(HERE, new)])
    assert (key in new.success.entries) is kept


def test_answers_that_the_new_settings_do_not_keep_are_left_out() -> None:
    old = cache_of()
    put(old, "web.example.")
    put(old, "web.other.")
    for options in (replace(OPTIONS, zones=("example.",)), replace(OPTIONS, disable_success=("other.",))):
        new = cache_of(options)
        load(saved((HERE, old)), [(HERE, new)])
        assert list(new.success.entries) == [query("web.example.")[12:] + b"\0"]


def test_a_popular_answer_is_refreshed_by_the_next_process_too() -> None:
    old, new = cache_of(), cache_of(replace(OPTIONS, prefetch_amount=2, prefetch_percent=10))
    key = put(old, "web.example.", NOW_S - 20, ttl_s=300, uses=7)
    load(saved((HERE, old)), [(HERE, new)])
    life = new.success.entries[key].life
    assert (life.until_s, life.uses) == (NOW_S - 20 + 270, 7)


BOOTS = [
    pytest.param(BOOT, 90.0, 90.0, 90.0, id="restarted on the same boot"),
    pytest.param(b"another boot 123", -4_000.0, 90.0, 90.0, id="the machine was started anew: by the wall clock"),
    pytest.param(BOOT, 90.0, -3_600.0, 90.0, id="the wall clock was set back: the other one knows"),
    pytest.param(BOOT, 90.0, 3_600.0, 3_600.0, id="asleep for an hour, or set forward: nothing is made younger"),
]


@pytest.mark.parametrize(("boot", "clock_s", "wall_s", "elapsed_s"), BOOTS)
def test_ages_go_on_counting(boot: bytes, clock_s: float, wall_s: float, elapsed_s: float) -> None:
    now = Taken(boot, TAKEN.wall_s + wall_s, TAKEN.clock_s + clock_s)
    shift_s = clock_shift_s(TAKEN, now, living=False)
    old, new = cache_of(), cache_of(replace(OPTIONS, stale_s=10_000.0))
    key = put(old, "web.example.", NOW_S - 7)
    load(saved((HERE, old)), [(HERE, new)], now.clock_s, shift_s)
    assert now.clock_s - new.success.entries[key].stored_s == pytest.approx(elapsed_s + 7)


REFUSED = [
    pytest.param(Taken(b"another boot 123", TAKEN.wall_s - 1, 10.0), False, "from the future", id="set back"),
    pytest.param(Taken(BOOT, TAKEN.wall_s + 90_000, NOW_S), False, "25 hours old", id="too old"),
    pytest.param(Taken(BOOT, math.nan, -math.nan), False, "from the future", id="no time at all"),
    pytest.param(Taken(b"another boot 123", TAKEN.wall_s, NOW_S), True, "another clock", id="another machine"),
    pytest.param(Taken(BOOT, TAKEN.wall_s, NOW_S + 61), True, "another clock", id="another namespace's clock"),
]


@pytest.mark.parametrize(("now", "living", "why"), REFUSED)
def test_a_snapshot_whose_age_is_unknown_is_refused(now: Taken, living: bool, why: str) -> None:
    with pytest.raises(BadSnapshot, match=why):
        clock_shift_s(TAKEN, now, living=living)


def test_between_living_processes_the_wall_clock_does_not_count() -> None:
    assert clock_shift_s(TAKEN, Taken(BOOT, 0.0, NOW_S + 1), living=True) == 0.0


GOOD = cache_of()
for _number in range(5):
    put(GOOD, f"name{_number}.example.", uses=_number % 2)
put_denial(GOOD, "none.example.")
SNAPSHOT = saved((HERE, GOOD))

HEADS = [
    pytest.param(b"", "no snapshot", id="empty"),
    pytest.param(b"\x7fELF" + bytes(100), "no snapshot", id="another program's"),
    pytest.param(SNAPSHOT[:20] + b"\0\2" + SNAPSHOT[22:], "version 2, ours is 1", id="a later version's"),
    pytest.param(SNAPSHOT[: HEAD_BYTES - 1], "head is broken", id="cut off in its head"),
    pytest.param(SNAPSHOT[:30] + b"?" + SNAPSHOT[31:], "head is broken", id="spoilt in its head"),
    pytest.param(SNAPSHOT[:-1], "too early", id="cut off at its end"),
    pytest.param(SNAPSHOT + frame(snapshot.ENTRIES), "behind its end", id="longer than it is"),
    pytest.param(SNAPSHOT[:-40] + b"?" + SNAPSHOT[-39:], "checksum", id="a byte is wrong"),
    pytest.param(SNAPSHOT[:HEAD_BYTES] + frame(9), "of kind 9", id="an unknown frame"),
    pytest.param(
        SNAPSHOT[:HEAD_BYTES] + struct.pack(">BII", 2, FRAME_MAX_BYTES + 1, 0), "frame of", id="an endless frame"
    ),
    pytest.param(SNAPSHOT[:HEAD_BYTES] + frame(snapshot.END, bytes(7) + b"\1"), "missing", id="slices are missing"),
]


@pytest.mark.parametrize(("data", "why"), HEADS)
def test_a_snapshot_that_is_none_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadSnapshot, match=why):
        load(data, [(HERE, cache_of())])


def test_every_place_where_it_may_be_cut_off() -> None:
    for length in range(len(SNAPSHOT)):
        with pytest.raises(BadSnapshot):
            load(SNAPSHOT[:length], [(HERE, cache_of())])


def check(cache: Cache) -> None:
    """Whatever was loaded can be served: bounded, counted, and every TTL is inside its packet."""
    for store in (cache.success, cache.denial):
        assert len(store.entries) <= store.capacity
        assert store.size_bytes == sum(entry.size_bytes for entry in store.entries.values())
        for key, entry in store.entries.items():
            assert scan(entry.packet).ttl_offsets == entry.ttl_offsets
            assert entry.packet[12 : 11 + len(key)] == key[:-1]
            assert entry.stored_s <= NOW_S


@given(seed=st.integers(0, 2**32))
def test_spoilt_bytes(seed: int) -> None:
    after = cache_of()
    data = mutants.mutate(random.Random(seed), [SNAPSHOT])
    try:
        load(data, [(HERE, after)])
    except BadSnapshot:
        pass
    else:
        assert data == SNAPSHOT or facts_of(after) == facts_of(GOOD)
    check(after)


def facts_of(cache: Cache) -> list[tuple[object, ...]]:
    return sorted(facts(entry) for store in (cache.success, cache.denial) for entry in store.entries.values())


def payloads() -> list[tuple[int, bytes]]:
    frames = Frames()
    frames.feed(SNAPSHOT[HEAD_BYTES:])
    found = []
    while (each := frames.next()) is not None:
        found.append(each)
    return found


@given(
    seed=st.integers(0, 2**32), which=st.integers(0, len(payloads()) - 1), shift_s=st.sampled_from((0.0, math.nan))
)
def test_spoilt_bytes_whose_checksum_is_right(seed: int, which: int, shift_s: float) -> None:
    """As a program with a mistake would write them: nothing but BadSnapshot, and nothing that cannot be served."""
    frames = payloads()
    kind, payload = frames[which]
    frames[which] = kind, mutants.mutate(random.Random(seed), [payload or b"\0"])
    after = cache_of()
    data = SNAPSHOT[:HEAD_BYTES] + b"".join(frame(*each) for each in frames)
    with contextlib.suppress(BadSnapshot):
        load(data, [(HERE, after)], shift_s=shift_s)
    check(after)


@given(st.binary(max_size=200))
def test_any_head(data: bytes) -> None:
    head = snapshot.MAGIC + b"\0\1" + data.ljust(32, b"\0")[:32]
    for each in (data, head + crc32(head).to_bytes(4, "big")):
        try:
            clock_shift_s(read_head(each), TAKEN, living=False)
        except BadSnapshot:
            continue
