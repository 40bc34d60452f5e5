"""When pods are sent to us, as stories of rounds: which addresses answered, and what is then on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.status.health import EVERY_S
from resolver.system.heartbeat import (
    BEATS_MAX,
    FORGIVEN_AFTER_S,
    JITTER,
    Heartbeat,
    beats_needed,
)
from resolver.system.options import ALIVE_S

A, B = "169.254.20.10", "fd00::10"
MUSL_AGAIN_S = 2.5
"""5 s for two questions (musl, res_msend.c)."""

#        failures so far, chance, good beats before it is on
NEEDED = [
    pytest.param(0, 1.0, 1, id="a first start waits for nothing"),
    pytest.param(1, 0.0, 5, id="after one failure"),
    pytest.param(2, 0.0, 10, id="twice as many after each"),
    pytest.param(3, 0.0, 20, id="and again"),
    pytest.param(6, 0.0, BEATS_MAX, id="two minutes at most"),
    pytest.param(10**9, 1.0, 180, id="and half as much again by chance"),
    pytest.param(1, 1.0, 7, id="nodes do not come back together"),
]


@pytest.mark.parametrize(("failures", "chance", "beats"), NEEDED)
def test_how_long_an_address_waits(failures: int, chance: float, beats: int) -> None:
    assert beats_needed(failures, chance) == beats


def story(rounds: str, crashes: int = 0, chance: float = 0.0) -> str:
    """Play one round a second, `+` answered or `-` not, for A alone; return what each made of it.

    `N` now on, `x` extended, `F` off (failed open), `.` nothing.
    """
    heartbeat = Heartbeat([A], ALIVE_S, crashes=crashes)
    said = ""
    for now_s, answered in enumerate(rounds):
        beat = heartbeat.beat(float(now_s), {A} if answered == "+" else set(), chance)
        said += "F" if beat.off else "N" if beat.on else "x" if beat.lives else "."
    return said


STORIES = [
    pytest.param("+++", "Nxx", 0, id="on with the first answer, and extended each second"),
    pytest.param("--+++", "..Nxx", 0, id="not before there is an answer"),
    pytest.param("++--++", "Nx..F.", 0, id="two rounds lost and the element has run out"),
    pytest.param("++-++", "Nx.xx", 0, id="one lost question is nothing"),
    pytest.param("+---+++++", "N..F....N", 0, id="after a failure five good beats"),
    pytest.param("+---++-+++++", "N..F.......N", 0, id="in a row"),
    pytest.param("+---++++++---++++++++++", "N..F....Nx..F.........N", 0, id="the second time ten"),
    pytest.param("+++++", "....N", 1, id="after one crash five"),
    pytest.param("+" * 10, "." * 9 + "N", 2, id="after two crashes ten"),
]


@pytest.mark.parametrize(("rounds", "said", "crashes"), STORIES)
def test_stories(rounds: str, said: str, crashes: int) -> None:
    assert story(rounds, crashes) == said


def test_chance_makes_a_wait_longer() -> None:
    assert story("+---" + "+" * 9, chance=1.0) == "N..F" + "." * 6 + "Nxx"


def test_an_address_that_does_not_answer_takes_no_other_with_it() -> None:
    heartbeat = Heartbeat([A, B], ALIVE_S)
    assert heartbeat.beat(0.0, {A, B}, 0.0).on == (A, B)
    for now_s in (1.0, 2.0):
        assert heartbeat.beat(now_s, {A}, 0.0).lives == pytest.approx({A: ALIVE_S, B: ALIVE_S - now_s})
    beat = heartbeat.beat(3.0, {A}, 0.0)
    assert (beat.lives, beat.off) == ({A: ALIVE_S}, (B,))
    assert heartbeat.alive == (A,)
    assert heartbeat.beats_to_go == 5


def test_a_reload_keeps_what_is_known_of_an_address() -> None:
    heartbeat = Heartbeat([A], ALIVE_S)
    heartbeat.beat(0.0, {A}, 0.0)
    heartbeat.aim([A, B], 0.0)
    assert heartbeat.alive == (A,)
    assert heartbeat.beat(1.0, {A, B}, 0.0).on == (B,)
    heartbeat.aim([B], 0.0)
    assert heartbeat.alive == heartbeat.addresses == (B,)


def test_a_round_that_comes_late_finds_the_elements_gone() -> None:
    # The process was stopped, or the loop was stuck, and nobody ended it.
    heartbeat = Heartbeat([A], ALIVE_S)
    heartbeat.beat(0.0, {A}, 0.0)
    beat = heartbeat.beat(ALIVE_S, {A}, 0.0)
    assert (beat.lives, beat.off) == ({}, (A,))


def test_an_hour_without_failure_forgives() -> None:
    heartbeat = Heartbeat([A], ALIVE_S, crashes=4)
    now_s = 0.0
    while not heartbeat.beat(now_s, {A}, 0.0).on:
        now_s += 1
    for _ in range(int(FORGIVEN_AFTER_S)):
        now_s += 1
        heartbeat.beat(now_s, {A}, 0.0)
    assert heartbeat.beat(now_s + ALIVE_S, (), 0.0).off == (A,)
    assert heartbeat.beats_to_go == 5


def test_a_set_that_was_lost_is_filled_with_what_is_left_to_each() -> None:
    heartbeat = Heartbeat([A, B], ALIVE_S)
    heartbeat.beat(0.0, {A, B}, 0.0)
    heartbeat.beat(1.0, {A}, 0.0)
    assert heartbeat.lives(1.5) == pytest.approx({A: ALIVE_S - 0.5, B: ALIVE_S - 1.5})
    assert heartbeat.lives(ALIVE_S + 0.5) == pytest.approx({A: 0.5})


def test_what_was_lost_by_no_fault_of_its_own_comes_back_with_the_next_beat() -> None:
    heartbeat = Heartbeat([A], ALIVE_S)
    heartbeat.beat(0.0, {A}, 0.0)
    assert heartbeat.lost() == (A,)
    assert heartbeat.alive == ()
    assert heartbeat.beat(1.0, {A}, 0.0).on == (A,)


def test_a_silent_process_is_left_before_musl_asks_for_the_last_time_and_one_lost_beat_is_borne() -> None:
    assert 2 * EVERY_S < ALIVE_S < MUSL_AGAIN_S


@given(
    rounds=st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans(), st.floats(0.0, 1.0)), max_size=200),
    crashes=st.integers(0, 20),
)
def test_laws(rounds: list[tuple[float, bool, float]], crashes: int) -> None:
    heartbeat, now_s, extended_s, failures = Heartbeat([A], ALIVE_S, crashes=crashes), 0.0, -1e9, crashes
    for later_s, answered, chance in rounds:
        now_s += later_s
        beat = heartbeat.beat(now_s, {A} if answered else set(), chance)
        # Nothing goes in without an answer in this very round, and what is on is in the kernel.
        assert answered or not beat.lives
        if beat.lives:
            extended_s = now_s
            assert beat.lives == {A: pytest.approx(ALIVE_S)}
        failures += len(beat.off)
        assert (now_s - extended_s < ALIVE_S) == (heartbeat.alive == (A,))
        assert heartbeat.beats_to_go <= beats_needed(failures, 1.0) <= BEATS_MAX * (1 + JITTER)
