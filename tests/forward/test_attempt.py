"""What is done for one question after its first try, without a socket: times and steps as tables."""

from dataclasses import dataclass, replace

import pytest

from resolver.forward import choose
from resolver.forward.attempt import STREAM_TRY_S, TRY_S, Ask, Attempt, Fail, Use, Wait
from resolver.forward.options import ForwardOptions


@dataclass(eq=False)
class Up:
    name: str
    down: bool = False


OPTIONS = ForwardOptions()
NOERROR, TC, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = (
    b"\0\0\x81\x80", b"\0\0\x83\x80", b"\0\0\x81\x81", b"\0\0\x81\x82", b"\0\0\x81\x83", b"\0\0\x81\x85",
)  # fmt: skip


def begun(*upstreams: Up, fallback: tuple[Up, ...] = (), options: ForwardOptions = OPTIONS) -> Attempt[Up]:
    """Return an attempt whose first question has just gone to the first upstream over UDP, at 0 s."""
    attempt = Attempt(upstreams, fallback, options, False, 0.0, first_is_out=True)
    attempt.sent(False, 0.0)
    return attempt


def test_the_next_upstream_is_asked_after_a_while_and_the_first_may_still_answer() -> None:
    a, b = Up("a"), Up("b")
    attempt = begun(a, b)
    assert attempt.next_step(0.0, 0.0) == Wait(TRY_S)
    assert attempt.next_step(TRY_S, 0.0) == Ask(b, False)
    attempt.sent(False, TRY_S)
    attempt.answered(a, False, False, NOERROR, 0.5)
    assert attempt.next_step(0.5, 0.5) == Use(NOERROR)


def test_a_single_upstream_is_asked_twice() -> None:
    a = Up("a")
    attempt = begun(a)
    assert attempt.next_step(TRY_S, 0.0) == Ask(a, False)
    attempt.sent(False, TRY_S)
    assert attempt.next_step(1.0, 0.0) == Wait(OPTIONS.deadline_s)


@pytest.mark.parametrize(
    ("heard_s", "ends_s"),
    [pytest.param(0.0, 2.0, id="nobody was heard"), pytest.param(1.0, 4.5, id="somebody was")],
)
def test_the_deadline_depends_on_whether_any_upstream_is_alive(heard_s: float, ends_s: float) -> None:
    attempt = begun(Up("a"))
    attempt.next_step(TRY_S, 0.0)
    attempt.sent(False, TRY_S)
    assert attempt.next_step(ends_s - 0.01, heard_s) == Wait(ends_s)
    assert isinstance(attempt.next_step(ends_s, heard_s), Fail)


def test_a_refused_try_is_followed_at_once() -> None:
    a, b = Up("a"), Up("b")
    attempt = begun(a, b)
    attempt.failed("a: Connection refused", 0.01)
    assert attempt.next_step(0.01, 0.0) == Ask(b, False)


def test_when_every_try_was_refused_nobody_waits() -> None:
    attempt = begun(Up("a"), options=replace(OPTIONS, max_connect_attempts=1))
    attempt.failed("a: Connection refused", 0.01)
    assert attempt.next_step(0.01, 0.0) == Fail("a: Connection refused")


def test_truncation_asks_the_same_upstream_over_tcp() -> None:
    a, b = Up("a"), Up("b")
    attempt = begun(a, b)
    attempt.answered(a, False, False, TC, 0.01)
    assert attempt.next_step(0.01, 0.01) == Ask(a, True)
    attempt.sent(True, 0.01)
    assert attempt.next_step(0.02, 0.01) == Wait(0.01 + STREAM_TRY_S)
    attempt.answered(a, True, False, NOERROR, 0.03)
    assert attempt.next_step(0.03, 0.03) == Use(NOERROR)


def test_servfail_asks_one_other_and_then_is_the_answer() -> None:
    a, b, c = Up("a"), Up("b"), Up("c")
    attempt = begun(a, b, c)
    attempt.answered(a, False, False, SERVFAIL, 0.01)
    assert attempt.next_step(0.01, 0.01) == Ask(b, False)
    attempt.sent(False, 0.01)
    attempt.answered(b, False, False, SERVFAIL, 0.02)
    assert attempt.next_step(0.02, 0.02) == Use(SERVFAIL)


def test_servfail_with_nobody_else_to_ask_is_the_answer() -> None:
    a = Up("a")
    attempt = begun(a)
    attempt.answered(a, False, False, SERVFAIL, 0.01)
    assert attempt.next_step(0.01, 0.01) == Use(SERVFAIL)


def test_servfail_of_the_only_upstream_asks_the_fallback() -> None:
    a, f = Up("a"), Up("f")
    attempt = begun(a, fallback=(f,))
    attempt.answered(a, False, False, SERVFAIL, 0.01)
    assert attempt.next_step(0.01, 0.01) == Ask(f, False)


def test_failover_goes_on_until_all_were_tried_and_then_the_last_answer_counts() -> None:
    a, b = Up("a"), Up("b")
    options = replace(OPTIONS, failover_rcodes=frozenset({5}), max_connect_attempts=2)
    attempt = begun(a, b, options=options)
    attempt.answered(a, False, False, REFUSED, 0.01)
    assert attempt.next_step(0.01, 0.01) == Ask(b, False)
    attempt.sent(False, 0.01)
    attempt.answered(b, False, False, REFUSED, 0.02)
    assert attempt.next_step(0.02, 0.02) == Use(REFUSED)


def test_formerr_is_asked_again_without_edns_once() -> None:
    a = Up("a")
    attempt = begun(a)
    attempt.answered(a, False, False, FORMERR, 0.01)
    assert attempt.next_step(0.01, 0.01) == Ask(a, False, plain=True)
    attempt.sent(False, 0.01)
    attempt.answered(a, False, True, FORMERR, 0.02)
    assert attempt.next_step(0.02, 0.02) == Use(FORMERR)


@pytest.mark.parametrize("packet", [NXDOMAIN, REFUSED])
def test_any_other_rcode_is_the_answer(packet: bytes) -> None:
    a = Up("a")
    attempt = begun(a, Up("b"))
    attempt.answered(a, False, False, packet, 0.01)
    assert attempt.next_step(0.01, 0.01) == Use(packet)


@pytest.mark.parametrize(
    ("upstreams", "asked"),
    [pytest.param(1, "aaf", id="one"), pytest.param(2, "abfab", id="two"), pytest.param(3, "abcfa", id="three")],
)
def test_the_fallback_joins_when_all_were_tried(upstreams: int, asked: str) -> None:
    order = [Up(name) for name in "abc"[:upstreams]]
    attempt = begun(*order, fallback=(Up("f"),))
    names, now_s = "a", 0.0
    while now_s < OPTIONS.deadline_s:
        step = attempt.next_step(now_s, 0.0)
        if isinstance(step, Ask):
            names += step.upstream.name
            attempt.sent(step.tcp, now_s)
        elif isinstance(step, Wait):
            now_s = step.until_s
        else:
            break
    assert names == asked
    assert isinstance(attempt.next_step(OPTIONS.deadline_s, 0.0), Fail)


def test_the_fallback_is_first_when_every_upstream_is_down() -> None:
    attempt = Attempt([Up("a", down=True)], [Up("f")], OPTIONS, False, 0.0)
    step = attempt.next_step(0.0, 0.0)
    assert isinstance(step, Ask)
    assert step.upstream.name == "f"


def test_no_upstream_at_all_fails_at_once() -> None:
    attempt: Attempt[Up] = Attempt([], [], OPTIONS, False, 0.0)
    assert isinstance(attempt.next_step(0.0, 0.0), Fail)


def test_max_connect_attempts_bounds_the_tries() -> None:
    attempt = begun(Up("a"), Up("b"), options=replace(OPTIONS, max_connect_attempts=1))
    assert attempt.next_step(TRY_S, 0.0) == Wait(OPTIONS.deadline_s)


@pytest.mark.parametrize(
    ("policy", "turn", "first"),
    [("sequential", 5, "a"), ("round_robin", 0, "a"), ("round_robin", 1, "b"), ("round_robin", 5, "c")],
)
def test_policies(policy: str, turn: int, first: str) -> None:
    upstreams = [Up("a"), Up("b"), Up("c")]
    order = choose.order(upstreams, policy, turn)  # type: ignore[arg-type] # a table of literals
    assert order[0].name == first
    assert sorted(upstream.name for upstream in order) == ["a", "b", "c"]


def test_random_uses_all_and_those_that_are_down_come_last() -> None:
    upstreams = [Up("a", down=True), Up("b"), Up("c")]
    orders = [choose.order(upstreams, "random", 0) for _ in range(200)]
    assert {order[0].name for order in orders} == {"b", "c"}
    assert {order[-1].name for order in orders} == {"a"}
