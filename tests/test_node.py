"""What a process does to its node, in which order, and what it says: with fakes of all that needs a kernel.

The kernel's part is in tests/system (rules, device, iptables) and tests/test_node_process.py (the whole process).
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from resolver.node import STAY
from resolver.status.health import Target
from resolver.system import deadman
from resolver.system.interface import Missing
from resolver.system.iptables import Rule
from resolver.system.options import ALIVE_S, NodeOptions
from tests.support.fake_node import OPTIONS, A, B, bench
from tests.support.lines import heard


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with heard() as said:
        yield said


@pytest.fixture(autouse=True)
def dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own process may go on to write a core."""
    monkeypatch.setattr(deadman, "no_core_dump", lambda: None)


async def test_from_start_to_stop_everything_has_its_order() -> None:
    async with bench() as here:
        beginning = await here.begin()
        assert here.fakes.done == ["device.ensure", "leftovers", "accept.ensure", "rules.start"]
        assert here.shown() == ({"1": 0, "2": 0}, 0), "a start is no failure"
        assert not beginning.done()
        here.round(A, B)
        await beginning
        assert here.fakes.done[-2:] == ["beat", "rules.check"], "pods do come when it returns"
        assert here.rules.lives == {A: ALIVE_S, B: ALIVE_S}
        assert here.shown() == ({"1": 1, "2": 1}, 0)

        here.fakes.done.clear()
        await asyncio.gather(here.node.release(), here.go_on(1))
        assert here.fakes.done == ["alarm off", "rules.disarm"]
        here.round(A, B)
        assert "beat" not in here.fakes.done, "nobody comes back after that"
        assert here.shown() == ({"1": 0, "2": 0}, 0)
        await here.node.leave()
        assert here.fakes.done[2:] == ["alarm off", "rules.close", "accept.remove", "device.remove"]


async def test_a_kernel_without_owners_is_said_once(lines: list[str]) -> None:
    async with bench() as here:
        here.fakes.owned = False
        await here.begin()
    assert [line for line in lines if "no owned tables" in line] == [
        "warning node no owned tables here (Linux 5.12, nft 1.0): after a crash pods come back in 2.4 s"
    ]


async def test_the_deadman_is_told_once_a_second_whatever_the_rounds_say() -> None:
    async with bench() as here:
        await here.begin()

        async def between_beats() -> tuple[int, int]:
            """Go on to the middle of a second; return which it is, and how often the deadman was told."""
            while True:
                here.clock.jump((0.5 - here.clock()) % 1)
                now_s = here.clock()
                await here.settle()
                if int(now_s) == int(here.clock()):  # else this machine has stood still for half a second
                    return int(now_s), here.alarm.armed

        began_s, before = await between_beats()
        for _ in range(50):
            here.clock.jump(0.1)
            await here.settle()
        ended_s, after = await between_beats()
        assert after - before == ended_s - began_s >= 5


async def test_an_address_that_does_not_answer_fails_open_and_comes_back_after_five_good_rounds(
    lines: list[str],
) -> None:
    async with bench() as here:
        await here.begin()
        here.round(A, B)
        await here.go_on(3, A)
        assert here.shown() == ({"1": 1, "2": 0}, 1)
        assert here.rules.lives == {A: ALIVE_S}
        counters = here.registry.node
        assert (counters.beats_failed, counters.failed_open["no_answer"]) == (3, 1)
        await here.go_on(7, A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert [line for line in lines if "interception" in line] == [
            f"info node interception on for {A}, {B}, table node_resolver_fake",
            f"warning node interception off for {B}: our own question was not answered; {STAY}",
            f"info node interception on for {B}, table node_resolver_fake",
        ]


async def test_a_failed_round_has_the_device_looked_at() -> None:
    async with bench() as here:
        await here.begin()
        here.round(A, B)
        await here.settle()
        here.fakes.done.clear()
        here.fakes.missing = Missing("nodelocaldns", (A, B))
        here.round()
        await here.settle()
        assert here.fakes.done == ["device.ensure"]
        assert here.registry.node.put_back["address"] == 1
        await here.go_on(4, A)
        assert here.fakes.done.count("device.ensure") == 1, "not more often than every five seconds"


async def test_the_end_of_the_rules_is_mended_at_once_with_what_was_left_to_each_address(lines: list[str]) -> None:
    async with bench() as here:
        await here.begin()
        here.round(A, B)
        await here.go_on(1, A)
        await here.settle()
        here.fakes.done.clear()
        here.rules.die()
        await here.settle()
        assert here.fakes.done == ["rules.start", "beat"]
        assert here.rules.lives == {A: pytest.approx(ALIVE_S, abs=0.1), B: pytest.approx(ALIVE_S - 1, abs=0.1)}
        counters = here.registry.node
        assert (counters.failed_open["rules_lost"], counters.put_back["rules"]) == (1, 1)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert [line for line in lines if "rules" in line] == [
            "warning node rules: nft: killed by signal 9; they are put back",
            "info node rules: put back",
        ]


async def test_rules_that_die_again_and_again_are_not_mended_in_a_loop() -> None:
    async with bench() as here:
        await here.begin()
        here.rules.die()
        await here.settle()
        here.fakes.done.clear()
        await here.go_on(1, A, B)
        here.rules.die()
        await here.settle()
        here.rules.die()
        await here.settle()
        assert here.fakes.done.count("rules.start") <= 1


async def test_every_interval_what_others_took_away_is_put_back_counted_and_said(lines: list[str]) -> None:
    async with bench(replace(OPTIONS, standing_nat=("10.244.0.5",))) as here:
        here.fakes.leftovers = 12
        await here.begin()
        here.round(A, B)
        await here.settle()
        assert "info node removed 12 rules that node-local-dns left behind" in lines
        here.fakes.done.clear()
        here.fakes.missing = Missing("nodelocaldns", (A, B))
        here.fakes.inserted = (Rule("iptables", "INPUT", ("-j", "ACCEPT")),)
        await here.go_on(61, A, B)
        assert [one for one in here.fakes.done if one != "beat"] == [
            "device.ensure", "leftovers", "accept.ensure", "standing.check", "rules.check",
        ]  # fmt: skip
        assert here.registry.node.put_back == {
            "accept_rules": 1, "address": 1, "leftovers": 1, "rules": 0, "standing_nat": 1,
        }  # fmt: skip
        assert lines[-4:] == [
            f"warning node nodelocaldns {A} {B} was missing; put right",
            "warning node 12 rules of node-local-dns were there again (does it still run?); put right",
            "warning node 1 ACCEPT rules were missing; put right",
            "warning node the standing nat table was missing; put right",
        ]


async def test_a_successor_that_serves_keeps_rules_and_device() -> None:
    async with bench() as here:
        await here.begin()
        here.round(A, B)
        await here.settle()
        here.successor = True
        here.fakes.done.clear()
        await here.node.release()
        here.clock.jump(1.0)
        here.round(A, B)
        assert here.fakes.done == ["beat"], "our rules stay until we have stopped reading"
        await here.node.leave()
        assert here.fakes.done[1:] == ["alarm off", "rules.close"]


async def test_a_successor_that_dies_while_we_end_leaves_the_release_to_us() -> None:
    async with bench() as here:
        await here.begin()
        here.successor = True
        await here.node.release()
        here.successor = False
        await asyncio.gather(here.node.release(), here.go_on(1))
        assert "rules.disarm" in here.fakes.done


async def test_another_generation_without_hand_over_keeps_the_device_too() -> None:
    async with bench() as here, bench() as other:
        await here.begin()
        await other.begin()
        await here.node.leave()
        assert here.fakes.done[-1] == "rules.close"
        await other.node.leave()
        assert other.fakes.done[-3:] == ["rules.close", "accept.remove", "device.remove"]


async def test_skipteardown_leaves_what_does_not_bring_pods_here() -> None:
    async with bench(replace(OPTIONS, skip_teardown=True)) as here:
        await here.begin()
        await here.node.leave()
        assert here.fakes.done[-1] == "rules.close"


NOTHING = [
    pytest.param(NodeOptions(()), [], id="a laptop"),
    pytest.param(replace(OPTIONS, setup_interface=False, setup_iptables=False), [], id="both off"),
    pytest.param(replace(OPTIONS, setup_iptables=False), ["device.ensure", "device.remove"], id="device only"),
    pytest.param(
        replace(OPTIONS, setup_interface=False),
        ["leftovers", "accept.ensure", "rules.start", "rules.close", "accept.remove"],
        id="rules only",
    ),
]


@pytest.mark.parametrize(("options", "done"), NOTHING)
async def test_nothing_is_done_that_nobody_asked_for(options: NodeOptions, done: list[str]) -> None:
    async with bench(options) as here:
        await here.node.prepare()
        here.node.aim([(A, 53), (B, 53)])
        beginning = asyncio.create_task(here.node.intercept())
        await here.settle()
        here.round(A, B)
        await asyncio.gather(here.node.release(), beginning, here.go_on(1))
        await here.node.leave()
        assert [
            one for one in here.fakes.done if one not in {"alarm off", "beat", "rules.check", "rules.disarm"}
        ] == done


#        places that are served, what is asked at once, what is asked while the rules stand
AIMS: list[tuple[list[tuple[str, int]], set[Target], set[Target]]] = [
    ([(A, 53), ("10.96.0.10", 53)], {(A, 53)}, {("10.96.0.10", 53)}),
    ([("0.0.0.0", 53)], {("127.0.0.1", 53)}, {(A, 53), ("10.96.0.10", 53)}),
    ([(A, 53), ("127.0.0.1", 5353)], {(A, 53), ("127.0.0.1", 5353)}, set()),
]


@pytest.mark.parametrize(("places", "at_once", "later"), AIMS, ids=["named", "wildcard", "one is not served"])
async def test_a_service_address_is_asked_only_while_our_rules_bring_the_question_here(
    places: list[tuple[str, int]], at_once: set[Target], later: set[Target]
) -> None:
    async with bench(NodeOptions((A, "10.96.0.10"))) as here:
        here.node.aim(places)
        assert here.prober.targets - here.prober.guarded == at_once
        assert here.prober.guarded == later
        assert not here.prober.is_open


async def test_standing_nat_would_have_our_question_to_a_link_local_address(lines: list[str]) -> None:
    async with bench(NodeOptions((A, "10.96.0.10"), standing_nat=("10.244.0.5",))) as here:
        here.node.aim([(A, 53)])
        assert here.prober.guarded == {(A, 53)}
        assert lines == [f"warning node no block answers on 10.96.0.10, port 53: {STAY} there"]
