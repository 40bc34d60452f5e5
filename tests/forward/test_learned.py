"""What a pool does about upstreams that close early, refuse, or are gone: tables, no sockets."""

import pytest

from resolver.forward.learned import (
    CONNECTIONS_MAX,
    GROWTH_MAX_S,
    IN_FLIGHT_MAX,
    LEARNED_S,
    RETRY_MAX_S,
    SHORT_LIVED_MAX,
    Learned,
)

#    usable, leaving, connecting, whether one more may be opened by a pool that knows nothing
BOUNDS = [
    pytest.param(0, 0, 0, True, id="the first"),
    pytest.param(0, 0, 7, True, id="the last of a first burst"),
    pytest.param(0, 0, 8, False, id="all are on their way"),
    pytest.param(4, 0, 4, False, id="some there, some on their way"),
    pytest.param(CONNECTIONS_MAX, 0, 0, False, id="all are there"),
    pytest.param(0, CONNECTIONS_MAX, 0, True, id="as many leave"),
    pytest.param(0, 2 * CONNECTIONS_MAX, 0, False, id="too many leave"),
]


@pytest.mark.parametrize(("usable", "leaving", "connecting", "may"), BOUNDS)
def test_bounds(usable: int, leaving: int, connecting: int, may: bool) -> None:
    assert Learned().may_connect(usable, leaving, connecting, 100.0) is may


#    failures in a row, pause before the next attempt without and with connections that work
PAUSES = [
    pytest.param(0, 0.0, 0.0, id="none"),
    pytest.param(1, 0.0, 1.0, id="one: again at once"),
    pytest.param(2, 0.1, 2.0, id="two"),
    pytest.param(3, 0.2, 4.0, id="three"),
    pytest.param(4, 0.4, 8.0, id="four"),
    pytest.param(50, RETRY_MAX_S, GROWTH_MAX_S, id="fifty"),
]


@pytest.mark.parametrize(("failures", "retry_s", "growth_s"), PAUSES)
def test_pauses(failures: int, retry_s: float, growth_s: float) -> None:
    learned = Learned()
    for _ in range(failures):
        learned.failed(100.0)
    for usable, pause_s in ((0, retry_s), (2, growth_s)):
        assert learned.may_connect(usable, 0, 0, 100.0 + pause_s + 0.001)
        assert not pause_s or not learned.may_connect(usable, 0, 0, 100.0 + pause_s - 0.001)


def test_one_at_a_time_while_nothing_works() -> None:
    learned = Learned()
    learned.failed(100.0)
    assert not learned.may_connect(0, 0, 1, 200.0)
    learned.proven(born_s=99.0)
    assert not learned.may_connect(0, 0, 1, 200.0)
    learned.proven(born_s=101.0)
    assert learned.may_connect(0, 0, 1, 200.0)


#    answers before the upstream closed, questions left on it, what one connection carries from then on
CLOSED = [
    pytest.param(1, 3, 1, id="no pipelining"),
    pytest.param(128, 5, 128, id="CoreDNS"),
    pytest.param(1, 0, None, id="it was idle"),
    pytest.param(0, 3, None, id="it never answered"),
]


@pytest.mark.parametrize(("answers", "outstanding", "carries"), CLOSED)
def test_early_closing(answers: int, outstanding: int, carries: int | None) -> None:
    learned = Learned()
    learned.closed(answers, outstanding, 100.0)
    for now_s, expected in ((100.0, carries), (100.0 + LEARNED_S - 1, carries), (100.0 + LEARNED_S, None)):
        assert learned.questions_max(now_s) == (expected or 1_000_000_000)
        assert learned.in_flight_max(now_s) == min(expected or IN_FLIGHT_MAX, IN_FLIGHT_MAX)
        assert learned.connections_max(now_s) == (SHORT_LIVED_MAX if expected == 1 else CONNECTIONS_MAX)


def test_closing_without_an_answer_is_a_failure() -> None:
    learned = Learned()
    learned.closed(0, 1, 100.0)
    learned.closed(0, 1, 100.0)
    assert not learned.may_connect(0, 0, 0, 100.05)
