"""The child that holds the table: who outlives whom, and every way in which it can be unwell."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.nft import BEATS_UNANSWERED_MAX, Rules
from resolver.system.options import NodeOptions
from tests.system.network import CLUSTER4, KUBE_DNS, LONG_S, US, Network, first_in_path, needs_root, until

pytestmark = needs_root

OURS = (CLUSTER4,)
LIVES = {CLUSTER4: LONG_S}
OPTIONS = NodeOptions(OURS, alive_s=LONG_S)
PREFIX = "node_resolver"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network")) as network:
        network.add_addresses(*OURS)
        network.serve_us(*OURS)
        yield network


@pytest.fixture
def node(made: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    made.clean()
    made.kube_proxy(v6="")
    first_in_path(made, monkeypatch)
    return made


@asynccontextmanager
async def rules_of(options: NodeOptions = OPTIONS) -> AsyncIterator[tuple[Rules, list[CommandFailed]]]:
    """Rules that have beaten once, and what their child failed with."""
    failures: list[CommandFailed] = []
    rules = Rules(options, on_failure=failures.append)
    await rules.start()
    try:
        rules.beat(LIVES)
        assert await rules.check()
        yield rules, failures
    finally:
        await rules.close()


def tables(node: Network) -> str:
    return node.run("nft", "list", "tables")


async def gone(node: Network) -> bool:
    return PREFIX not in tables(node)


async def told(failures: list[CommandFailed]) -> bool:
    return bool(failures)


async def ended(process: int) -> bool:
    return not os.path.exists(f"/proc/{process}")  # noqa: ASYNC240  # procfs does not block


def child_of(process: int) -> int:
    """The process `nft` that `process` started."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            if Path(f"/proc/{child}/comm").read_text() == "nft\n":
                return child
    raise AssertionError("no child")


async def test_the_death_of_the_child_is_told_once_and_mended_by_a_start(node: Network) -> None:
    async with rules_of() as (rules, failures):
        name = rules.name
        os.kill(child_of(os.getpid()), signal.SIGKILL)
        await until(partial(told, failures))
        assert [str(failure) for failure in failures] == ["nft: has ended, and interception with it"]
        assert not rules.alive
        assert not rules.armed
        assert PREFIX not in tables(node)
        assert await node.who(node.pod, CLUSTER4) == KUBE_DNS
        assert not rules.beat(LIVES)
        assert not await rules.check()
        await rules.disarm()

        await rules.start()
        rules.beat(LIVES)
        assert await rules.check()
        assert await node.who(node.pod, CLUSTER4) == US
        assert rules.name != name
        assert len(failures) == 1


@pytest.fixture
def holder(node: Network) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that holds the rules."""
    command = [sys.executable, "-m", "tests.system.holding", CLUSTER4]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(PREFIX)
            yield process
        finally:
            process.kill()


async def test_the_table_dies_with_our_process(node: Network, holder: "subprocess.Popen[str]") -> None:
    """While another program that we started still runs: it does not hold our end of the pipe."""
    assert await node.who(node.pod, CLUSTER4) == US
    holder.kill()
    killed_s = time.monotonic()
    while PREFIX in await asyncio.to_thread(tables, node):
        assert time.monotonic() - killed_s < 10
    print(f"gone after {time.monotonic() - killed_s:.3f} s")
    assert await node.who(node.pod, CLUSTER4) == KUBE_DNS


async def test_signals_for_the_whole_group_leave_the_child_to_us(node: Network) -> None:
    async with rules_of() as (rules, failures):
        child = child_of(os.getpid())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(child, number)
        assert await rules.check()
        assert failures == []
        assert os.getpgid(child) != os.getpgid(0)
    await until(partial(ended, child))


async def test_a_child_that_hangs_is_found_by_its_beats(node: Network) -> None:
    async with rules_of() as (rules, failures):
        child = child_of(os.getpid())
        os.kill(child, signal.SIGSTOP)
        beats = [rules.beat(LIVES) for _ in range(BEATS_UNANSWERED_MAX + 2)]  # the first repeats one that went well
        assert beats == [True] * (BEATS_UNANSWERED_MAX + 1) + [False]
        (failure,) = failures
        assert (failure.kind, rules.alive) == ("timeout", False)
        await until(partial(ended, child))
        assert PREFIX not in tables(node)


async def test_a_child_that_hangs_is_found_by_a_check(node: Network) -> None:
    async with rules_of(replace(OPTIONS, command_s=0.1)) as (rules, failures):
        child = child_of(os.getpid())
        os.kill(child, signal.SIGSTOP)
        assert not await rules.check()
        assert [failure.kind for failure in failures] == ["timeout"]
        await until(partial(gone, node))


async def test_disarm_ends_what_does_not_listen(node: Network) -> None:
    async with rules_of(replace(OPTIONS, command_s=0.1)) as (rules, _):
        os.kill(child_of(os.getpid()), signal.SIGSTOP)
        await rules.disarm()
        await until(partial(gone, node))
        assert await node.who(node.pod, CLUSTER4) == KUBE_DNS


async def test_close_leaves_nothing_behind(node: Network) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with rules_of():
            child = child_of(os.getpid())
        assert await ended(child)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # a socket of the loop's, made when first needed
    assert PREFIX not in tables(node)


async def test_a_start_that_is_cancelled_leaves_nothing_behind(node: Network) -> None:
    rules = Rules(OPTIONS, on_failure=lambda failure: pytest.fail(str(failure)))
    for _ in range(5):
        starting = asyncio.create_task(rules.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await until(partial(gone, node))


async def test_a_day_of_beats_costs_the_child_no_memory(node: Network) -> None:
    """It keeps every line that differs from the one before, and writes all of them home at its end."""

    def resident_kib() -> int:
        status = Path(f"/proc/{child_of(os.getpid())}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    async with rules_of() as (rules, failures):
        sizes = []
        for _ in range(4):
            for _ in range(150):  # as fast as it can follow
                rules.beat(LIVES)
                await asyncio.to_thread(os.sched_yield)
                while rules._child and not rules._child.is_well:  # noqa: ASYNC110 it says nothing
                    await asyncio.sleep(0.0005)
            sizes.append(resident_kib())
        assert sizes[-1] - sizes[0] < 20, "a line and its probe are some 150 bytes"
        assert failures == []
    assert not os.path.exists("/.nft.history")  # noqa: ASYNC240  # nothing else of ours would make it


@pytest.mark.usefixtures("node")
async def test_without_nft_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(commands, "_SEARCH", str(tmp_path))
    rules = Rules(OPTIONS, on_failure=lambda failure: pytest.fail(str(failure)))
    with pytest.raises(CommandFailed, match="nft: not found; install Debian's package nftables") as caught:
        await rules.start()
    assert caught.value.kind == "missing"
    assert not rules.alive
    assert not rules.beat(LIVES)


async def test_without_net_admin_the_remedy_is_told(node: Network) -> None:
    real = (node.programs / "nft").read_text().splitlines()[1].split("nsenter", 1)[1]
    inside, _, program = real.partition("/run/netns/")
    space, _, program = program.partition(" ")
    drop = "setpriv --bounding-set -net_admin --inh-caps -net_admin"
    node.wrap("nft", f"exec nsenter{inside}/run/netns/{space} {drop} {program}")
    rules = Rules(OPTIONS, on_failure=lambda failure: pytest.fail(str(failure)))
    with pytest.raises(CommandFailed, match="NET_ADMIN") as caught:
        await rules.start()
    assert caught.value.kind == "permission"


async def test_a_program_that_is_no_nft_is_not_waited_for(node: Network) -> None:
    node.wrap("nft", "exec sleep 60")
    rules = Rules(replace(OPTIONS, start_s=0.1), on_failure=lambda failure: pytest.fail(str(failure)))
    with pytest.raises(CommandFailed, match="did not answer within") as caught:
        await rules.start()
    assert caught.value.kind == "timeout"
    node.wrap("nft", "exit 3")
    with pytest.raises(CommandFailed, match=r"has ended|takes no commands"):
        await rules.start()


@pytest.fixture
def ownerless(node: Network) -> Network:
    """An nft that does not know `owner`, as before 1.0."""
    real = (node.programs / "nft").read_text().splitlines()[1].removeprefix("exec ")
    node.wrap("nft", f'[ "$1" = -i ] || exec {real}\nsed -u "s/flags owner/flags unheard-of/" | {real}')
    return node


async def test_without_owners_the_timeouts_alone_are_left(ownerless: Network) -> None:
    node = ownerless
    async with rules_of() as (rules, failures):
        assert not rules.owned
        assert await node.who(node.pod, CLUSTER4) == US
        node.run("nft", "delete", "table", "inet", rules.name)
        assert await node.who(node.pod, CLUSTER4) == KUBE_DNS
        while not failures:
            rules.beat(LIVES)
            await asyncio.to_thread(node.run, "true")
        assert "our table is not there any more" in str(failures[0])
        await rules.start()
        rules.beat(LIVES)
        assert await rules.check()
        assert await node.who(node.pod, CLUSTER4) == US
    assert PREFIX not in tables(node)


async def test_what_ownerless_processes_left_behind_is_swept_away(node: Network) -> None:
    for name, element in (
        ("node_resolver_1_dead", ""),
        ("node_resolver_2_living", f"elements = {{ {CLUSTER4} }};"),
    ):
        node.run("nft", "-f", "-", text=(
            f"table inet {name} {{ set alive4 {{ type ipv4_addr; flags timeout; timeout 1h; {element} }}\n"
            "set connections4 { type ipv4_addr; flags timeout; elements = { 10.0.0.1 timeout 60s }; }\n}"
        ))  # fmt: skip
    node.run("nft", "add", "table", "inet", "somebody_elses")
    async with rules_of() as (rules, _):
        left = node.run("nft", "list", "tables", "inet").split()[2::3]
    assert sorted(left) == sorted(["node_resolver_2_living", "somebody_elses", rules.name])
