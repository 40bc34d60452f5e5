"""TCP clients that are slow: idle time, and the time for one message."""

from resolver.wire.framing import frame
from tests.accept.serving import OPTIONS, Served, is_closed, is_open, question, response, serving
from tests.support import codecs

lane = codecs.both(Served.__module__, "visits")


async def test_a_silent_client_is_closed_after_its_idle_time() -> None:
    async with serving() as served, await served.connect() as silent, await served.connect() as talker:
        await served.settled()
        served.clock.jump(OPTIONS.tcp_idle_s - 1)
        talker.send(question(1))
        await talker.receive()
        served.clock.jump(1.5)
        assert await is_closed(silent)
        assert is_open(talker)
        assert served.server.counters.closed_idle == 1


async def test_a_flight_that_fails_at_once_leaves_no_debt() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"at once"))
        await client.receive()
        served.clock.jump(OPTIONS.tcp_idle_s + 0.5)
        assert await is_closed(client)


async def test_waiting_for_our_answer_is_not_idling() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"later"))
        await served.until(lambda: served.answers.waiting)
        served.clock.jump(OPTIONS.tcp_idle_s * 2)
        await served.ticks(3)
        served.answers.release()
        assert await client.receive() == response(1, b"later")


async def test_a_question_that_is_never_answered_does_not_hold_its_connection_for_ever() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(question(1, b"never"))
        await served.until(lambda: served.answers.asked)
        served.clock.jump(OPTIONS.tcp_idle_s * 3 + 1)
        assert await is_closed(client)


async def test_a_message_that_has_begun_must_become_whole_in_time() -> None:
    """Byte by byte does not help: the time counts from the first byte."""
    stream = frame(question(1))
    async with serving() as served, await served.connect() as slow, await served.connect() as quick:
        for position in range(4):
            slow.send_raw(stream[position : position + 1])
            quick.send(question(1))
            await quick.receive()
            served.clock.jump(OPTIONS.tcp_read_s / 3)
        assert await is_closed(slow)
        assert served.server.counters.closed_read == 1
        assert is_open(quick)


async def test_each_message_has_its_own_time() -> None:
    """A client that is always in the middle of a message, and never long in the same one, is fine."""
    stream = b"".join(frame(question(number)) for number in range(6))
    size = len(frame(question(0)))
    async with serving() as served, await served.connect() as client:
        client.send_raw(stream[: size // 2])
        for number in range(5):
            start = size // 2 + number * size
            client.send_raw(stream[start : start + size])
            assert await client.receive() == response(number)
            served.clock.jump(OPTIONS.tcp_read_s * 0.9)
            await served.ticks(2)
        assert served.server.counters.closed_read == 0
