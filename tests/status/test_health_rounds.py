"""Rounds of questions to ourselves, and addresses that are asked only while our rules stand."""

from resolver.status.health import Target
from tests.status.asking import Bench, answered, serve
from tests.system.network import needs_root

A = ("127.0.0.1", 53)


async def test_a_round_tells_who_answered_when_the_last_has_or_the_second_is_over(lines: list[str]) -> None:
    bench = Bench()
    rounds: list[frozenset[Target]] = []
    bench.prober.on_round = lambda now_s, answered: rounds.append(answered)
    daemon, first = await serve(answered)
    other, second = await serve(answered)
    bench.prober.aim([first, second])
    while not rounds:
        await bench.timers.sleep(0.01)
    assert rounds == [{first, second}]

    other.reply = lambda query: None
    other.asked.clear()
    bench.clock.jump(1.0)
    await other.asked.wait()
    await bench.until_counted(3)
    assert len(rounds) == 1, "the round waits for the one that is silent"
    bench.clock.jump(1.0)
    while len(rounds) < 2:
        await bench.timers.sleep(0.01)
    assert rounds[1] == {first}
    bench.close()
    daemon.transport.close()
    other.transport.close()


async def test_a_guarded_target_is_asked_only_while_the_guard_is_open(lines: list[str]) -> None:
    bench = Bench()
    daemon, open_to_all = await serve(answered)
    elsewhere, guarded = await serve(answered)
    bench.prober.aim([open_to_all, guarded], [guarded])
    await bench.until_counted(1)
    assert bench.problem() is None, "what cannot be asked is not ill"
    assert elsewhere.questions == 0

    bench.prober.open_guard(True)
    assert bench.problem() == f"127.0.0.1:{guarded[1]}/udp has not answered yet"
    await bench.until_counted(2)
    assert bench.problem() is None

    elsewhere.reply = lambda query: None
    bench.prober.open_guard(False)
    for seconds in range(1, 6):
        bench.clock.jump(1.0)
        await bench.until_counted(2 + seconds)
    assert bench.problem() is None
    assert bench.counters.failures == 0
    bench.close()
    daemon.transport.close()
    elsewhere.transport.close()


async def test_where_all_is_guarded_nothing_is_ill(lines: list[str]) -> None:
    bench = Bench()
    bench.prober.aim([A], [A])
    assert bench.problem() is None
    bench.close()


async def test_a_guarded_way_to_a_socket_is_none_of_our_health(lines: list[str]) -> None:
    # A wildcard socket is asked on loopback; the node's address is another way to it.
    bench = Bench()
    daemon, loopback = await serve(answered)
    silent, address = await serve(lambda query: None)
    bench.prober.aim([loopback], [address])
    bench.prober.open_guard(True)
    await silent.asked.wait()
    await bench.until_counted(1)
    for _ in range(5):
        silent.asked.clear()
        bench.clock.jump(1.0)
        await silent.asked.wait()
        while bench.problem():
            await bench.timers.sleep(0.01)
    assert bench.counters.failures >= 4
    bench.close()
    daemon.transport.close()
    silent.transport.close()


async def test_a_port_is_kept_while_we_answer_on_it_and_only_then(lines: list[str]) -> None:
    bench = Bench()
    daemon, target = await serve(answered)
    bench.prober.aim([target])
    await bench.until_counted(1)
    for rounds in range(2, 5):
        bench.clock.jump(1.0)
        await bench.until_counted(rounds)
    assert (daemon.questions, len(daemon.ports)) == (4, 1)

    daemon.reply = lambda query: None
    daemon.asked.clear()
    bench.clock.jump(1.0)
    await daemon.asked.wait()
    daemon.reply = answered
    bench.clock.jump(1.0)
    await bench.until_counted(6)
    assert len(daemon.ports) == 2, "nobody answered the old one: there may be more than one reason"

    bench.close()
    daemon.transport.close()


@needs_root
async def test_whose_packets_get_a_mark_leaves_its_port(lines: list[str]) -> None:
    bench = Bench(mark=0x35)
    daemon, target = await serve(answered)
    bench.prober.open_guard(True)
    bench.prober.aim([target])
    await bench.until_counted(1)
    bench.prober.aim([target], [target])
    await bench.until_counted(2)
    bench.prober.aim([target], [target])
    await bench.until_counted(3)
    assert (daemon.questions, len(daemon.ports)) == (3, 2)
    bench.close()
    daemon.transport.close()


async def test_an_answer_that_comes_twice_is_one(lines: list[str]) -> None:
    bench = Bench()
    daemon, target = await serve(answered)
    rounds: list[frozenset[Target]] = []
    bench.prober.on_round = lambda now_s, heard: rounds.append(heard)

    def twice(query: bytes) -> bytes:
        (port,) = daemon.ports
        daemon.transport.sendto(answered(query), ("127.0.0.1", port))
        return answered(query)

    daemon.reply = twice
    bench.prober.aim([target])
    for count in range(1, 4):
        await bench.until_counted(count)
        await bench.timers.sleep(0.02)  # the second one is read as well
        assert rounds == [{target}] * count
        bench.clock.jump(1.0)
    assert bench.counters.failures == 0
    bench.close()
    daemon.transport.close()
