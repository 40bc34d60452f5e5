"""An update of the real process under load: nobody notices, whoever dies or freezes on the way.

Longer than 300 lines because each way to go wrong is one test, side by side.
"""

import select
import signal
import time
from collections.abc import Iterator

import pytest

from tests.succession import generations
from tests.succession.generations import OTHER_VERSION, Generation, Place, until
from tests.succession.load import Load, TcpLoad, asking

KNOWN = [f"k{number}.example." for number in range(500)]
PER_S = 2_000


@pytest.fixture
def place() -> Iterator[Place]:
    with generations.place("cache 300") as made:
        yield made


def address(place: Place) -> tuple[str, int]:
    return place.host, place.port


def warm(place: Place) -> None:
    """Ask for every known name once."""
    load = Load(address(place), KNOWN, 5_000)
    with asking(load):
        until(lambda: load.tally.answered >= len(KNOWN), 20.0)
    assert not load.tally.troubles


def wait(seconds: float) -> None:
    select.select([], [], [], seconds)


def follow(place: Place, old: Generation) -> Generation:
    """Start a successor, and end the old one once it serves."""
    new = place.start()
    old.said("a successor serves")
    assert old.stop() == 0, old.output()
    return new


def test_three_updates_in_a_row_lose_no_question_and_keep_every_answer(place: Place) -> None:
    generation = place.start()
    warm(place)
    known = place.upstream.asked["k"]
    udp = Load(address(place), KNOWN, PER_S)
    kept, fresh = TcpLoad(address(place), KNOWN, 200), TcpLoad(address(place), KNOWN, 100, fresh=True)
    with asking(udp, kept, fresh):
        wait(0.3)
        for _ in range(3):
            generation = follow(place, generation)
            wait(0.3)
    for load in (udp, kept, fresh):
        assert not load.tally.troubles, place.outputs()
    assert udp.tally.answered > 1_000
    assert fresh.tally.answered > 50
    assert place.upstream.asked["k"] == known
    assert "Traceback" not in place.outputs()
    assert place.files() == [name for name in place.files() if name.endswith(".handover")]
    assert len(place.files()) == 1
    assert generation.page().value("resolver_inherited_sockets") == 2
    assert generation.page().value("resolver_inherited_answers", source="predecessor") >= len(KNOWN)
    assert generation.page().value("resolver_loop_longest_turn_seconds") < 1
    assert generation.stop() == 0
    assert place.files() == ["cache.snapshot"]


def test_the_successor_has_as_many_hits_in_its_first_second_as_the_old_one(place: Place) -> None:
    """One name in ten is new to everybody."""
    old = place.start()
    warm(place)
    fresh = [f"f{number}.example." for number in range(20_000)]
    names = [fresh[number // 10] if number % 10 == 0 else KNOWN[number % 500] for number in range(200_000)]
    load = Load(address(place), names, PER_S)
    shares = []

    def share_of_a_second() -> None:
        asked, answered = sum(place.upstream.asked.values()), load.tally.answered
        wait(1.0)
        shares.append(1 - (sum(place.upstream.asked.values()) - asked) / (load.tally.answered - answered))

    with asking(load):
        share_of_a_second()
        new = place.start()
        old.said("a successor serves")
        old.send(signal.SIGTERM)
        share_of_a_second()
        assert old.ended() == 0
    assert not load.tally.troubles
    assert shares[1] >= 0.95 * shares[0], shares
    assert 0.8 < shares[0] < 0.95
    assert new.lives


def test_questions_on_their_way_are_answered_by_the_old_process(place: Place) -> None:
    """Its flights and its TCP connections are its own: it answers what it has, then it ends."""
    old = place.start()
    warm(place)
    release = place.upstream.hold("s")
    slow = [Load(address(place), [f"s{number}.example." for number in range(50)], 50, clients=8)]
    with asking(*slow):
        until(lambda: place.upstream.held > 5, 10.0)
        new = place.start()
        old.said("a successor serves")
        old.send(signal.SIGTERM)
        old.said("Shutting down; a successor serves")
        assert old.lives
        release()
        assert old.ended() == 0
    assert not slow[0].tally.troubles, place.outputs()
    assert new.lives


KILLED_AFTER_S = [0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.2]


def test_a_successor_may_be_killed_at_any_moment_and_the_next_one_can_still_come(place: Place) -> None:
    old = place.start()
    warm(place)
    known = place.upstream.asked["k"]
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        for after_s in KILLED_AFTER_S:
            new = place.start(serves=False)
            wait(after_s)
            new.kill()
            assert old.lives
        new = follow(place, old)
        wait(0.2)
    assert not load.tally.troubles, place.outputs()
    assert place.upstream.asked["k"] == known
    assert "Traceback" not in place.outputs()
    assert len(new.sockets_bound_to(place.port)) == 2
    assert len(place.files()) == 1


def test_a_successor_that_serves_has_nothing_in_hand_while_the_old_one_lives(place: Place) -> None:
    """One process reads at a time, so it may be killed whenever it is: nothing that it has read is lost with it."""
    old = place.start()
    warm(place)
    load = Load(address(place), KNOWN, 5_000, clients=32)
    with asking(load):
        for number in range(5):
            new = place.start()
            until(lambda: old.output().count("a successor serves") == number + 1, 20.0, old.output)  # noqa: B023 # at once
            new.kill()
    assert not load.tally.troubles, place.outputs()
    assert load.tally.answered > 5_000


def test_what_the_old_one_has_learned_meanwhile_is_known_to_the_successor(place: Place) -> None:
    old = place.start()
    warm(place)
    new = place.start()
    old.said("a successor serves")
    late = [f"l{number}.example." for number in range(300)]
    for _ in range(2):
        load = Load(address(place), late, 3_000)
        with asking(load):
            until(lambda: load.tally.answered >= 300, 20.0)  # noqa: B023 # at once
        assert not load.tally.troubles
        if old.lives:
            assert place.upstream.asked["l"] == 300
            assert old.stop() == 0
    assert place.upstream.asked["l"] == 300
    assert new.page().value("resolver_inherited_answers", source="predecessor") >= len(KNOWN) + 300


def test_an_old_one_that_freezes_while_both_live_is_replaced(place: Place) -> None:
    """The successor asks it whether it is there, and reads what arrives when it is not."""
    old = place.start()
    warm(place)
    new = place.start()
    old.said("a successor serves")
    old.send(signal.SIGSTOP)
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        new.said("who serves now does not answer us: we read what arrives")
        wait(0.3)
    assert not load.tally.troubles
    assert load.tally.slowest_s < 2.5
    old.send(signal.SIGCONT)
    assert old.stop() == 0


def test_a_successor_that_dies_while_the_old_one_ends_is_replaced_by_the_old_one(place: Place) -> None:
    place.text = "cache 300\n    health {host}:0 {\n        lameduck 3s\n    }".replace("{host}", place.host)
    old = place.start()
    warm(place)
    release = place.upstream.hold("s")
    slow = Load(address(place), ["s1.example."], 10, clients=1)
    load = Load(address(place), KNOWN, PER_S)
    with asking(load, slow):
        until(lambda: place.upstream.held > 0, 10.0)
        new = place.start()
        old.said("a successor serves")
        old.send(signal.SIGTERM)
        old.said("Shutting down; a successor serves")
        new.kill()
        old.said("the successor is gone: answering again")
        wait(0.3)
        release()
        answered = load.tally.answered
        until(lambda: load.tally.answered > answered + 100, 5.0)
        third = place.start()
        assert old.ended() == 0
        wait(0.2)
    # Killed while it alone read: what it had in hand is lost with it, a batch at most (10 at 1,000 a second).
    assert not load.tally.wrong + load.tally.refused
    assert len(load.tally.lost) <= 10, place.outputs()
    assert third.lives


def test_a_frozen_successor_does_not_count(place: Place) -> None:
    """It said that it serves, and is stopped: the old one asks once more, and answers for its lame-duck time."""
    place.text = "cache 300\n    health {host}:0 {\n        lameduck 2s\n    }".replace("{host}", place.host)
    old = place.start()
    warm(place)
    new = place.start()
    old.said("a successor serves")
    new.send(signal.SIGSTOP)
    load = Load(address(place), KNOWN, PER_S)
    old.send(signal.SIGTERM)
    old.said("answering for")
    with asking(load):
        wait(1.0)
    assert not load.tally.troubles, place.outputs()
    new.send(signal.SIGCONT)
    # It is not stuck any more, and says so: the old one need not wait for the end of its time.
    old.said("Shutting down; a successor serves")
    assert old.ended() == 0
    with asking(again := Load(address(place), KNOWN, PER_S)):
        wait(0.3)
    assert not again.tally.troubles


def test_a_frozen_predecessor_does_not_hold_up_a_start(place: Place) -> None:
    old = place.start()
    warm(place)
    old.send(signal.SIGSTOP)
    started_s = time.monotonic()
    new = place.start()
    assert time.monotonic() - started_s < 2.0 + 3.0  # with an interpreter's start on a busy machine
    assert "who serves now cannot hand over: it does not answer" in new.output()
    old.kill()
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        wait(0.3)
    assert not load.tally.troubles
    assert len(new.sockets_bound_to(place.port)) == 2


def test_frozen_in_the_middle(place: Place) -> None:
    """Stopped at some moment of the hand-over: what has come is used, the rest is not waited for."""
    old = place.start()
    warm(place)
    for after_s in (0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        started_s = time.monotonic()
        new = place.start(serves=False)
        wait(after_s)
        old.send(signal.SIGSTOP)
        new.said("node-resolver ")
        assert time.monotonic() - started_s < after_s + 2.0 + 3.0
        old.send(signal.SIGCONT)
        assert new.stop() == 0
        assert old.lives
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        wait(0.3)
    assert not load.tally.troubles
    assert "Traceback" not in place.outputs()


@pytest.mark.parametrize("newer", [True, False], ids=["the new one is newer", "the new one is older"])
def test_another_version_serves_side_by_side_without_the_cache(place: Place, newer: bool) -> None:
    old = place.start(before="" if newer else OTHER_VERSION)
    warm(place)
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        new = place.start(before=OTHER_VERSION if newer else "")
        ours, theirs = (2, 1) if newer else (1, 2)
        assert f"who serves now cannot hand over: it speaks version {theirs}, we speak {ours}" in new.output()
        old.said(f"a successor has come, it speaks version {ours}, we speak {theirs}")
        assert new.output().count("version") == old.output().count("it speaks version") == 1
        wait(0.3)
        assert old.stop() == 0
        wait(0.3)
    assert not load.tally.troubles, place.outputs()
    assert len(new.sockets_bound_to(place.port)) == 2
    assert new.page().value("resolver_inherited_sockets") == 0


def test_two_that_start_at_once(place: Place) -> None:
    old = place.start()
    warm(place)
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        first, second = place.start(serves=False), place.start(serves=False)
        for new in (first, second):
            new.said("node-resolver ")
        # Both came to the old one, or the second to the first, which served by then.
        until(lambda: place.outputs().count("a successor serves") == 2, 20.0, place.outputs)
        assert old.stop() == 0
        wait(0.2)
        assert first.stop() == 0
        wait(0.2)
    assert not load.tally.troubles, place.outputs()
    assert second.lives
    assert len(place.files()) == 1 + ("cache.snapshot" in place.files())


def test_the_successor_may_end_first(place: Place) -> None:
    """An update that is rolled back: the new one ends, the old one has never stopped."""
    old = place.start()
    warm(place)
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        for _ in range(2):
            new = place.start()
            old.said("a successor serves")
            assert new.stop() == 0
            until(lambda: "the successor ends; we go on" in old.output(), 10.0, old.output)
        new = follow(place, old)
    assert not load.tally.troubles, place.outputs()
    assert new.lives


def test_places_that_come_and_go(place: Place) -> None:
    """The new configuration listens elsewhere, too: what it has not it closes at once, the rest it binds."""
    other = place.port + 1 if place.port < 65_000 else place.port - 1
    old = place.start()
    both = old.sockets_bound_to(place.port)
    there = place.port
    place.port = other
    new = place.start()
    assert not new.sockets_bound_to(there)
    assert len(new.sockets_bound_to(other)) == 2
    assert old.sockets_bound_to(there) == both
    assert old.stop() == 0
    place.port = there
    third = place.start()
    assert len(third.sockets_bound_to(there)) == 2
    assert not third.sockets_bound_to(other)


@pytest.mark.parametrize("lane", ["compiled", "python"])
def test_a_wildcard_address_answers_from_where_it_was_asked(place: Place, lane: str) -> None:
    """The options of inherited sockets are right: connected clients take no answer from another address."""
    place.bind = ""
    old = place.start(flags=("-lane", lane))
    place.host = "127.3.2.1"
    warm(place)
    load, stream = Load(address(place), KNOWN, PER_S), TcpLoad(address(place), KNOWN, 100)
    with asking(load, stream):
        new = place.start(flags=("-lane", lane))
        old.said("a successor serves")
        assert old.stop() == 0
        wait(0.3)
    assert not load.tally.troubles, place.outputs()
    assert not stream.tally.troubles
    assert new.page().value("resolver_inherited_sockets") == 4
    assert new.page().value("resolver_lane_listeners", lane=lane) == 2


def test_both_are_healthy_while_they_share_sockets(place: Place) -> None:
    """Each asks itself every second, and the other one is faster: what it reads is not lost."""
    old = place.start()
    new = place.start()
    old.said("a successor serves")
    wait(3.5)
    for each in (old, new):
        assert each.page().value("coredns_health_request_failures_total") == 0
        assert "did not answer our own question" not in each.output()
    used_s = [each.page().value("process_cpu_seconds_total") for each in (old, new)]
    wait(1.0)
    more_s = [each.page().value("process_cpu_seconds_total") for each in (old, new)]
    assert all(more - used < 0.3 for used, more in zip(used_s, more_s, strict=True))


def test_nothing_leaks_into_children_and_nothing_is_left(place: Place) -> None:
    old = place.start()
    before = len(old.descriptors())
    for _ in range(3):
        new = place.start()
        old.said("a successor serves")
        new.kill()
        old.said("a successor is gone; we go on")
    until(lambda: len(old.descriptors()) == before, 10.0, lambda: str(old.descriptors()))
    new = follow(place, old)
    for number, what in new.descriptors().items():
        if what.startswith(("socket:", "pipe:")):
            assert new.is_closed_on_exec(number), f"{number}: {what} would go to children"
    assert "Traceback" not in place.outputs()
