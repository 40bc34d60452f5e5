"""Both lanes' tables are dicts of renderings to those who use them, however keys come and go."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.accept.lane import Rendering, Table
from resolver.accept.packets import DictTable
from resolver.report.series import Series, SeriesTable
from tests.accept.lane import LABELS, life

KEYS = [bytes([number]) * (number % 21) for number in range(120)]
"""Lengths of 0 to 20 bytes: whole pieces of eight, none, and rests."""

ANSWER = b"\0\0" + b"answer" + (300).to_bytes(4, "big") + b"end"

both = pytest.mark.parametrize("new_table", [DictTable, Table], ids=["python", "compiled"])

steps = st.lists(
    st.tuples(st.sampled_from("ssssdgp"), st.integers(0, len(KEYS) - 1), st.integers(0, 3)), max_size=300
)


def a_series() -> Series:
    return SeriesTable().count(LABELS, ".", "", 1, 0, False, "cache", 40, 80, 0.0)


SERIES, LIFE = a_series(), life()
LIFE.stored_s = 1000.0


def render(
    table: Any, key: bytes, answer: bytes = ANSWER, offsets: tuple[int, ...] = (8,), size_bytes: int = 0
) -> Any:
    """A rendering for `table`, of an answer that came at 1000 s."""
    return table.render(key, answer, offsets, 2, 1, LIFE, SERIES, size_bytes)


@both
@given(steps=steps)
def test_it_holds_what_a_dict_would(new_table: Any, steps: list[tuple[str, int, int]]) -> None:
    table, known = new_table(), dict[bytes, object]()
    for what, number, value in steps:
        key = KEYS[number]
        if what == "s":
            table[key] = known[key] = render(table, key, size_bytes=value)
        elif what == "d" and key in known:
            del table[key], known[key]
        elif what == "p" and known:
            popped, its_value = table.popitem()
            assert known.pop(popped) is its_value
        assert table.get(key) is known.get(key)
        assert (key in table) is (key in known)
        assert len(table) == len(known)
    assert sorted(table) == sorted(known)
    assert {key: table[key] for key in table} == known
    assert sorted(map(id, table.values())) == sorted(map(id, known.values()))


def test_many_keys_come_and_go() -> None:
    table = Table()
    keys = [f"name{number}".encode() for number in range(30_000)]
    for number, key in enumerate(keys):
        table[key] = render(table, key, size_bytes=number)
    assert [table[key].size_bytes for key in keys] == list(range(30_000))
    for key in keys[::2]:
        del table[key]
    assert [key in table for key in keys[:4]] == [False, True, False, True]
    left = dict(table.popitem() for _ in range(len(table)))
    assert {key: kept.size_bytes for key, kept in left.items()} == dict(
        zip(keys[1::2], range(1, 30_000, 2), strict=True)
    )
    assert not table


@both
def test_a_walk_gives_every_key_its_turn_and_finds_the_dead(new_table: Any) -> None:
    table = new_table()
    keys = [f"name{number}".encode() for number in range(20_000)]
    lives = [life(until_s=1000.0 + number % 2) for number in range(20)]
    for number, key in enumerate(keys):
        table[key] = table.render(key, ANSWER, (8,), 0, 0, lives[number % 20], SERIES, 0)
    dead = set(keys[::2])
    found = list[bytes]()
    while len(found) < len(dead):
        some = table.dead(1000.0, 1_000)
        assert 0 < len(some) <= 1_000
        found += some
    assert len(found) == len(set(found))
    assert set(found) == dead
    assert set(table.dead(1000.0, 10**9)) == dead
    assert set(table.dead(1001.0, 10**9)) == set(keys)
    assert table.dead(999.0, 10**9) == []
    assert new_table().dead(1001.0, 5) == []


@both
def test_a_walk_finds_its_way_among_keys_that_come_and_go(new_table: Any) -> None:
    table = new_table()
    for number in range(3_000):
        key = f"name{number}".encode()
        table[key] = render(table, key)
        if number % 3 == 2:
            some = table.dead(1e9, 2)
            assert 0 < len(some) <= 2
            for key in some:
                del table[key]
    assert set(table.dead(1e9, 10**9)) == set(table)


@both
def test_what_it_has_never_seen_is_a_key_error(new_table: Any) -> None:
    table = new_table()
    for wrong in (lambda: table[b"x"], lambda: table.__delitem__(b"x"), table.popitem):
        with pytest.raises(KeyError):
            wrong()


@both
def test_a_rendering_says_what_it_was_made_of(new_table: Any) -> None:
    kept = render(new_table(), b"key", size_bytes=77)
    assert kept.body == ANSWER[2:]
    assert kept.ttl_offsets == (8,)
    assert (kept.stored_s, kept.aged_s, kept.next_s, kept.floor_s) == (1000.0, 2, 1003.0, 1)
    assert kept.life is LIFE
    assert kept.series is SERIES
    assert kept.size_bytes == 77
    assert kept.follow is None
    kept.follow = kept
    assert kept.follow is kept
    kept.follow = None
    assert kept.follow is None


@pytest.mark.parametrize("offset", [-1, 0, 1, len(ANSWER) - 3, len(ANSWER), 2**40, sys.maxsize])
def test_a_ttl_outside_its_answer_is_nothing_to_age(offset: int) -> None:
    with pytest.raises(ValueError, match="TTL outside"):
        render(Table(), b"key", offsets=(8, offset))


@pytest.mark.parametrize("offset", [2, len(ANSWER) - 4])
def test_a_ttl_at_either_end_of_its_answer_is_inside(offset: int) -> None:
    assert render(Table(), b"key", offsets=(offset,)).ttl_offsets == (offset,)


@pytest.mark.parametrize(
    ("key", "answer", "offsets"),
    [(b"", b"x", ()), (b"", bytes(65_538), ()), (bytes(65_536), b"xx", ()), (b"", bytes(9), (2,) * 65_536)],
)
def test_what_does_not_fit_is_refused(key: bytes, answer: bytes, offsets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="too long"):
        render(Table(), key, answer, offsets)


def test_the_longest_and_the_shortest_fit() -> None:
    table = Table()
    for key, answer in ((bytes(65_535), bytes(65_537)), (b"", b"xx")):
        table[key] = render(table, key, answer, ())
        assert table[key].body == answer[2:]


def test_only_its_own_renderings_go_in_and_only_under_their_key() -> None:
    table, plain = Table(), DictTable()
    with pytest.raises(ValueError, match="another question"):
        table[b"a"] = render(table, b"b")
    for wrong in (render(plain, b"a"), None, 7):
        with pytest.raises(TypeError):
            table[b"a"] = wrong  # type: ignore[assignment] # that is the test
    with pytest.raises(TypeError):
        Rendering()
    for lives, series in ((None, SERIES), (LIFE, None), (7, SERIES), (LIFE, LIFE)):
        with pytest.raises(TypeError):
            table.render(b"", ANSWER, (), 0, 0, lives, series, 0)  # type: ignore[arg-type] # that is the test
    assert not table


def test_it_keeps_and_gives_back_what_it_holds() -> None:
    series, lives = a_series(), life()
    before = sys.getrefcount(series), sys.getrefcount(lives)
    table = Table()
    for _ in range(2):  # the same key again: one reference each
        table[b"key"] = table.render(b"key", ANSWER, (8,), 0, 0, lives, series, 0)
    kept = table[b"key"]
    assert (sys.getrefcount(series), sys.getrefcount(lives)) == (before[0] + 1, before[1] + 1)
    assert sys.getrefcount(kept) == 3  # the table's, `kept`, the call's
    kept.follow = table.render(b"key", ANSWER, (8,), 0, 0, lives, series, 0)
    del kept, table
    assert (sys.getrefcount(series), sys.getrefcount(lives)) == before
