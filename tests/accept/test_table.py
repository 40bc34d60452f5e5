"""The compiled lane's table is a dict to those who use it, however keys come and go."""

from hypothesis import given
from hypothesis import strategies as st

from resolver.accept.lane import Table

KEYS = [bytes([number]) * (number % 21) for number in range(120)]
"""Lengths of 0 to 20 bytes: whole pieces of eight, none, and rests."""

steps = st.lists(
    st.tuples(st.sampled_from("ssssdgp"), st.integers(0, len(KEYS) - 1), st.integers(0, 3)), max_size=300
)


@given(steps)
def test_it_holds_what_a_dict_would(steps: list[tuple[str, int, int]]) -> None:
    table, known = Table(), dict[bytes, object]()
    for what, number, value in steps:
        key = KEYS[number]
        if what == "s":
            table[key] = known[key] = (value,)
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
    assert sorted(map(repr, table.values())) == sorted(map(repr, known.values()))


def test_many_keys_come_and_go() -> None:
    table = Table()
    keys = [f"name{number}".encode() for number in range(30_000)]
    for number, key in enumerate(keys):
        table[key] = number
    assert [table[key] for key in keys] == list(range(30_000))
    for key in keys[::2]:
        del table[key]
    assert [table.get(key) for key in keys[:4]] == [None, 1, None, 3]
    left = dict(table.popitem() for _ in range(len(table)))
    assert left == {key: number for number, key in enumerate(keys) if number % 2}
    assert not table


def test_what_it_has_never_seen_is_a_key_error() -> None:
    table = Table()
    for wrong in (lambda: table[b"x"], lambda: table.__delitem__(b"x"), table.popitem):
        try:
            wrong()
        except KeyError:
            continue
        raise AssertionError("no KeyError")


def test_it_keeps_and_gives_back_what_it_holds() -> None:
    import sys

    value, key = object(), b"a key of its own".upper()
    before = sys.getrefcount(value), sys.getrefcount(key)
    table = Table()
    table[key] = value
    table[bytes(bytearray(key))] = value  # the same key again: one reference each
    assert (sys.getrefcount(value), sys.getrefcount(key)) == (before[0] + 1, before[1] + 1)
    del table
    assert (sys.getrefcount(value), sys.getrefcount(key)) == before
