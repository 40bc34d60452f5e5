"""`Life` in C and in Python are the same to those who use them."""

from typing import Any

import pytest

from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from resolver.cache import entry
from resolver.cache.life import Life
from resolver.cache.plain_life import Life as PlainLife
from tests.accept.lane import Bench, query, ttls_of

both = pytest.mark.parametrize("kind", [PlainLife, Life], ids=["python", "compiled"])


def filled(kind: Any) -> Any:
    """A life that was used once, at 1000 s, and may be until 1300 s."""
    life = kind()
    life.until_s, life.used_s, life.gap_s, life.recheck_s, life.uses = 1300.0, 1000.0, 60.0, 0.0, 1
    life.stored_s = 990.0
    return life


def test_the_compiled_one_is_taken_where_it_was_built() -> None:
    assert entry.Life is Life


@both
def test_its_fields_are_numbers_that_anybody_may_set(kind: Any) -> None:
    life = filled(kind)
    assert (life.until_s, life.used_s, life.gap_s, life.recheck_s, life.uses) == (1300.0, 1000.0, 60.0, 0.0, 1)
    assert life.stored_s == 990.0
    life.until_s -= 0.5
    life.uses += 2**40
    life.gap_s = float("inf")
    assert (life.until_s, life.uses, life.gap_s) == (1299.5, 1 + 2**40, float("inf"))
    with pytest.raises(AttributeError):
        life.other = 1


@both
def test_the_python_lane_counts_ages_and_ends_with_either(kind: Any) -> None:
    with Bench((UdpListener, PacketCache)) as bench:
        wire, life = query(), filled(kind)
        bench.keep(wire, lives=life)
        bench.clock.now_s += 2.5
        got = bench.ask(wire)
        assert got is not None
        assert ttls_of(got) == {298}
        assert (life.uses, life.used_s) == (2, 1002.5)
        bench.clock.now_s += 61
        assert bench.ask(wire) is not None
        assert life.uses == 1
        life.until_s = 0.0
        assert bench.ask(wire) is None
