"""When /health is true, asked through real sockets."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.status.health import TRIES, Health, Target, build_query, is_ours, reachable
from tests.status.asking import Bench, answered, serve

A, B = ("127.0.0.1", 53), ("10.0.0.10", 53)

#        answers (target, at), asked at, what is wrong
TRUTHS = [
    pytest.param([], 0.0, "127.0.0.1:53/udp has not answered yet", id="nothing yet"),
    pytest.param([(A, 0.0)], 1.0, "10.0.0.10:53/udp has not answered yet", id="one of two"),
    pytest.param([(A, 0.0), (B, 0.5)], 3.0, None, id="both, not long ago"),
    pytest.param([(A, 0.0), (B, 0.5)], 3.2, "127.0.0.1:53/udp has not answered for 3.2 s", id="too long ago"),
    pytest.param([(A, 0.0), (B, 0.5), (A, 3.1)], 3.2, None, id="back"),
    pytest.param([(A, 0.0), (B, 0.5), (("10.9.9.9", 1), 9.0)], 3.0, None, id="a target that is not asked"),
]


@pytest.mark.parametrize(("answers", "now_s", "problem"), TRUTHS)
def test_truth(answers: list[tuple[Target, float]], now_s: float, problem: str | None) -> None:
    health = Health()
    health.expect([A, B])
    for target, at_s in answers:
        health.answered(target, at_s)
    assert health.problem(now_s) == problem


def test_without_sockets_there_is_no_health() -> None:
    assert Health().problem(0.0) == "no socket is open"


def test_a_reload_keeps_what_is_known_of_a_socket() -> None:
    health = Health()
    health.expect([A])
    health.answered(A, 1.0)
    health.expect([A, B])
    health.answered(B, 1.0)
    assert health.problem(2.0) is None
    health.expect([B])
    assert health.problem(9.0) == "10.0.0.10:53/udp has not answered for 8.0 s"


def test_wildcards_are_asked_on_loopback() -> None:
    assert [reachable(host, 53) for host in ("", "0.0.0.0", "::", "10.0.0.10")] == [
        ("127.0.0.1", 53), ("127.0.0.1", 53), ("::1", 53), ("10.0.0.10", 53),
    ]  # fmt: skip


def test_the_question_is_one_that_the_decoder_takes_and_we_answer() -> None:
    answer = answered(build_query(b"\x12\x34"))
    assert is_ours(answer, b"\x12\x34")
    assert not is_ours(answer, b"\x12\x35")


NOT_OURS = [
    pytest.param(build_query(b"\x12\x34"), id="the question itself"),
    pytest.param(b"\x12\x34\x80\x05" + build_query(b"\x12\x34")[4:], id="REFUSED"),
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x12\x34\x80\0" + bytes(60), id="another process's nonce"),
]


@pytest.mark.parametrize("packet", NOT_OURS)
def test_what_is_not_ours(packet: bytes) -> None:
    assert not is_ours(packet, b"\x12\x34")


@given(st.binary(max_size=200))
def test_no_bytes_are_ours_by_chance(packet: bytes) -> None:
    assert not is_ours(b"\x12\x34" + packet, b"\x12\x34")


async def test_answers_make_healthy_and_silence_ends_it(lines: list[str]) -> None:
    bench = Bench()
    daemon, target = await serve(answered)
    bench.prober.aim([target])
    await bench.until_counted(1)
    assert bench.problem() is None
    assert bench.counters.failures == 0

    daemon.reply = lambda query: None
    for seconds in range(1, 5):
        daemon.asked.clear()
        bench.clock.jump(1.0)
        await daemon.asked.wait()
        assert (bench.problem() is None) == (seconds <= 2), f"after {seconds} s"
    assert bench.counters.failures >= 2
    assert lines == [f"warning health 127.0.0.1:{target[1]}/udp did not answer our own question"]

    daemon.reply = answered
    bench.clock.jump(1.0)
    while bench.problem() is not None:
        await bench.timers.sleep(0.01)
    assert lines[1:] == [f"info health 127.0.0.1:{target[1]}/udp answers again"]
    assert len(daemon.ports) > 3, "silence ends the use of a port"
    bench.close()
    daemon.transport.close()


async def test_another_generation_that_answers_is_asked_past(lines: list[str]) -> None:
    bench = Bench()
    refusals = [True, True, True, False]
    daemon, target = await serve(
        lambda query: query[:2] + b"\x80\x05" + query[4:] if refusals.pop(0) else answered(query)
    )
    bench.prober.aim([target])
    await bench.until_counted(1)
    assert bench.problem() is None
    assert daemon.questions == 4
    assert bench.counters.failures == 0
    bench.close()
    daemon.transport.close()


async def test_a_socket_that_always_answers_wrong_is_ill(lines: list[str]) -> None:
    bench = Bench()
    daemon, target = await serve(lambda query: query[:2] + b"\x80\x05" + query[4:])
    bench.prober.aim([target])
    await bench.until_counted(1)
    assert bench.problem() is not None
    assert daemon.questions == TRIES
    assert bench.counters.failures == 1
    bench.close()
    daemon.transport.close()


async def test_a_port_that_nobody_has_is_ill_at_once(lines: list[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        target = unused.getsockname()
    bench = Bench()
    bench.prober.aim([target])
    await bench.until_counted(1)
    assert bench.counters.failures == 1
    bench.close()


async def test_an_address_that_cannot_be_asked_is_ill(lines: list[str]) -> None:
    bench = Bench()
    bench.prober.aim([("255.255.255.255", 53)])
    await bench.until_counted(1)
    assert bench.counters.failures == 1
    bench.close()


async def test_aiming_anew_asks_the_new_at_once_and_forgets_the_old(lines: list[str]) -> None:
    bench = Bench()
    silent, first = await serve(lambda query: None)
    daemon, second = await serve(answered)
    bench.prober.aim([first])
    await silent.asked.wait()
    bench.prober.aim([second, second])
    await bench.until_counted(1)
    assert bench.problem() is None
    bench.prober.aim([first, second])
    waiting = bench.prober._askers[first]
    bench.prober.aim([second])
    assert waiting._socket is None
    bench.clock.jump(1.0)
    await bench.until_counted(2)
    assert bench.counters.failures == 0, "the old target's question was forgotten, not failed"
    bench.prober.aim([first])
    waiting = bench.prober._askers[first]
    bench.close()
    assert waiting._socket is None
    silent.transport.close()
    daemon.transport.close()
