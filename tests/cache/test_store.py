"""What is kept, what gives way, and that every byte is accounted for."""

import dns.message
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from resolver.cache.cache import Cache
from resolver.cache.entry import Entry, Kind, Life
from resolver.cache.ledger import Ledger
from resolver.cache.lifetime import Lifetime
from resolver.cache.options import CacheOptions
from resolver.cache.store import MAX_CHANCES, Store
from resolver.wire.ttls import MAX_TTL_S, clamp_ttls, scan


def entry(size_bytes: int = 100) -> Entry:
    life = Life()
    life.until_s = 30.0
    life.uses = 0
    life.used_s = life.recheck_s = life.gap_s = life.stored_s = 0.0
    return Entry(b"", (), 0, Kind.SUCCESS, 0.0, 30.0, 0, 30, life, size_bytes)


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_over_capacity_the_oldest_goes_and_its_renderings_die() -> None:
    store = Store(2, Ledger(10_000))
    first = entry()
    store.put(key(1), first)
    store.put(key(2), entry())
    store.put(key(3), entry())
    assert list(store.entries) == [key(2), key(3)]
    assert first.life.until_s == 0.0
    assert store.evictions == 1


def test_a_used_entry_gets_a_second_chance_and_no_third() -> None:
    store = Store(2, Ledger(10_000))
    used = entry()
    store.put(key(1), used)
    store.put(key(2), entry())
    used.life.uses = 3
    store.put(key(3), entry())
    assert list(store.entries) == [key(3), key(1)]
    store.put(key(4), entry())
    store.put(key(5), entry())
    assert key(1) not in store.entries


def test_known_names_survive_a_flood_of_names_that_are_asked_once() -> None:
    """Their uses are counted by the packet cache; LRU would have seen none of them and kept none."""
    store = Store(4_000, Ledger(10**9))
    known = {key(number): entry() for number in range(3_000)}
    for name, kept in known.items():
        store.put(name, kept)
    for number in range(3_000, 20_000):
        for kept in known.values() if number % 500 == 0 else ():
            kept.life.uses += 1
        store.put(key(number), entry())
    # One in MAX_CHANCES is lost when the whole queue is in use; under LRU all 3,000 are.
    assert sum(name in store.entries for name in known) >= 3_000 - 3_000 // MAX_CHANCES - 1


def test_when_everything_is_used_eviction_still_ends_soon() -> None:
    store = Store(10 * MAX_CHANCES, Ledger(10**9))
    for number in range(10 * MAX_CHANCES):
        kept = entry()
        kept.life.uses = 1
        store.put(key(number), kept)
    store.evict_one()
    assert sum(kept.life.uses == 0 for kept in store.entries.values()) == MAX_CHANCES


def test_a_new_answer_replaces_the_old_one_and_kills_its_renderings() -> None:
    ledger = Ledger(10_000)
    store = Store(10, ledger)
    old = entry(500)
    store.put(key(1), old)
    store.put(key(1), entry(300))
    assert old.life.until_s == 0.0
    assert ledger.used_bytes == store.size_bytes == 300


def test_an_answer_that_goes_on_with_its_life_kills_nothing() -> None:
    store = Store(10, Ledger(10_000))
    known = entry(500)
    known.life.uses = 7
    store.put(key(1), known)
    store.put(key(1), known._replace(stored_s=25.0, expires_s=55.0))
    assert (known.life.until_s, known.life.uses) == (30.0, 7)
    assert store.size_bytes == 500


def test_over_budget_the_largest_store_gives_way() -> None:
    ledger = Ledger(1_000)
    large, small = Store(100, ledger), Store(100, ledger)
    for number in range(8):
        large.put(key(number), entry(100))
    small.put(key(1), entry(100))
    small.put(key(2), entry(200))
    assert ledger.used_bytes <= 1_000
    assert (len(large.entries), len(small.entries)) == (7, 2)


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    ledger = Ledger(1_000)
    store = Store(10, ledger)
    store.put(key(1), entry(5_000))
    assert not store.entries
    assert ledger.used_bytes == 0


TTLS_S = st.sampled_from([0, 1, 29, 30, 31, MAX_TTL_S, MAX_TTL_S + 1, 2**32 - 1])


@given(st.lists(TTLS_S, max_size=3), st.sampled_from([0, 1, 30, MAX_TTL_S]), st.sampled_from([0, 1]))
def test_every_ttl_that_is_kept_is_within_its_bounds(ttls_s: list[int], cap_s: int, floor_s: int) -> None:
    answer = dns.message.make_response(dns.message.make_query("web.example.", "A"))
    for number in range(len(ttls_s)):
        answer.answer.append(dns.rrset.from_text(f"n{number}.example.", 0, "IN", "A", "192.0.2.7"))
    packet = bytearray(answer.to_wire())
    for at, ttl_s in zip(scan(bytes(packet)).ttl_offsets, ttls_s, strict=True):
        packet[at : at + 4] = ttl_s.to_bytes(4, "big")
    found = scan(bytes(packet))
    kept = Cache(CacheOptions(), Ledger(10_000)).put(b"", found, Lifetime(Kind.SUCCESS, 0, cap_s, floor_s), 0.0)
    assert kept.packet == clamp_ttls(found.packet, found.ttl_offsets, floor_s, cap_s)
    assert kept.ttl_offsets == found.ttl_offsets


def test_a_store_that_closes_gives_everything_back() -> None:
    ledger = Ledger(10_000)
    store = Store(10, ledger)
    store.put(key(1), entry())
    store.close()
    ledger.tidy()
    assert ledger.used_bytes == 0
    assert ledger.purses == []


@given(
    st.lists(
        st.tuples(st.sampled_from("pud"), st.integers(0, 20), st.integers(1, 400)), max_size=80
    )
)  # fmt: skip
def test_the_ledger_is_the_sum_of_what_is_kept(steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger(2_000)
    stores = [Store(6, ledger), Store(9, ledger)]
    for what, number, size in steps:
        store = stores[number % 2]
        if what == "p":
            store.put(key(number), entry(size))
        elif what == "u":
            for kept in store.entries.values():
                kept.life.uses += 1
        else:
            store.drop(key(number))
        for one in stores:
            assert one.size_bytes == sum(kept.size_bytes for kept in one.entries.values())
            assert len(one.entries) <= one.capacity
        assert ledger.used_bytes == sum(one.size_bytes for one in stores) <= 2_000
