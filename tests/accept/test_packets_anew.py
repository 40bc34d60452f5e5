"""The packet cache behind its lane, when an answer is fetched anew and says the same: see `Cache.put`."""

import pytest

from tests.accept.lane import LANES, Bench, Lane, life, query, ttls_of

pytestmark = pytest.mark.parametrize("lane", LANES)


def test_when_the_same_answer_was_fetched_anew_its_ttls_are_whole_again(lane: Lane) -> None:
    with Bench(lane) as bench:
        shared = life()
        wires = [query(), query(use_edns=0)]
        for wire in wires:
            bench.keep(wire, lives=shared)
        stored_s = shared.stored_s
        for after_s, fetched_s, ttl_s in (
            (0.5, None, 300), (200.2, None, 100), (200.3, 200.25, 300), (201.3, None, 299), (280.0, 260.0, 280),
            (280.1, 280.1, 300), (290.0, None, 291), (290.1, 190.1, 200), (291.0, 391.0, 400), (291.5, None, 400),
            (292.1, None, 399), (293.0, 390.5, 398),
        ):  # fmt: skip
            bench.clock.now_s = stored_s + after_s
            if fetched_s is not None:
                shared.stored_s = stored_s + fetched_s
            for wire in wires:
                got = bench.ask(wire)
                assert got is not None
                assert ttls_of(got) == {ttl_s}
        assert not bench.passed_up
