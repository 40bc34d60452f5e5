"""What a process cannot do to its node is said once, counted each time and tried again; crashes make it slow."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system import deadman
from tests.support.fake_node import OPTIONS, A, B, bench
from tests.support.lines import heard

NO_NFT = CommandFailed("nft", "missing", "not found; install Debian's package nftables")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with heard() as said:
        yield said


@pytest.fixture(autouse=True)
def dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own process may go on to write a core."""
    monkeypatch.setattr(deadman, "no_core_dump", lambda: None)


async def test_without_nft_one_line_counters_and_another_try_later(lines: list[str]) -> None:
    async with bench() as here:
        here.fakes.wrong["rules.start"] = NO_NFT
        beginning = await here.begin()
        await beginning  # whoever waits for pods learns that there will be none
        await here.go_on(8)
        assert here.fakes.done.count("rules.start") == 4, "after 0, 1, 2 and 4 more seconds"
        assert [line for line in lines if "error" in line] == [
            "error node rules: nft: not found; install Debian's package nftables; pods stay at the cluster's DNS"
        ]
        counters = here.registry.node
        assert here.shown() == ({"1": 0, "2": 0}, 1)
        assert counters.commands_failed["nft"] == counters.failed_open["setup_failed"] == 4
        assert here.registry.process.setup_errors["iptables"] == 4

        del here.fakes.wrong["rules.start"]
        await here.go_on(8)
        assert lines[-1] == "info node rules: works again"
        here.round(A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert counters.put_back["rules"] == 0, "nobody had taken them away"


async def test_rules_that_cannot_be_put_back_leave_pods_at_kube_dns_and_our_health_alone(lines: list[str]) -> None:
    async with bench() as here:
        await here.begin()
        here.round(A, B)
        assert here.guard_is_open()
        here.fakes.wrong["rules.start"] = NO_NFT
        here.rules.die()
        await here.go_on(2)
        assert not here.guard_is_open(), "kube-proxy would have our questions"
        assert here.shown() == ({"1": 0, "2": 0}, 1)
        del here.fakes.wrong["rules.start"]
        await here.go_on(8)
        assert here.guard_is_open()
        here.round(A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0), "no fault of the addresses: one good round is enough"
        assert here.registry.node.put_back["rules"] == 1


#        what fails, with which error, node-cache's word for it, what is counted, what the line says
NO = "no such thing; remedy"
FAILURES = [
    pytest.param("device.ensure", CommandFailed("ip", "permission", NO), "interface_add", "ip",
                 f"device: ip: {NO}; ", id="device"),
    pytest.param("accept.ensure", CommandFailed("ip6tables-legacy", "lock", NO), "iptables_lock", "iptables",
                 f"ACCEPT rules: ip6tables-legacy: {NO}; ", id="lock"),
    pytest.param("accept.ensure", CommandFailed("iptables", "failed", NO), "iptables", "iptables",
                 f"ACCEPT rules: iptables: {NO}; ", id="accept"),
    pytest.param("leftovers", CommandFailed("iptables-save", "timeout", NO), "iptables", "iptables",
                 f"leftovers of node-local-dns: iptables-save: {NO}; ", id="leftovers"),
    pytest.param("standing.update", CommandFailed("nft", "failed", NO), "iptables", "nft",
                 f"standing nat: nft: {NO}; ", id="standing nat"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "error", "errortype", "command", "says"), FAILURES)
async def test_what_cannot_be_done_leaves_the_rest_as_it_should_be(
    what: str, error: CommandFailed, errortype: str, command: str, says: str, lines: list[str]
) -> None:
    async with bench(replace(OPTIONS, standing_nat=("10.244.0.5",))) as here:
        here.fakes.wrong[what] = error
        await here.begin()
        here.round(A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert here.registry.process.setup_errors == dict.fromkeys(here.registry.process.setup_errors, 0) | {
            errortype: 1
        }
        assert here.registry.node.commands_failed[command] == 1
        (said,) = [line for line in lines if "error" in line]
        assert said.startswith(f"error node {says}")


def crashed(directory: Path, began_s: float) -> None:
    """What a process leaves behind that was killed."""
    (directory / f"intercepting-{os.urandom(8).hex()}").write_text(f"{began_s}\n")


def files(directory: Path) -> int:
    return len(list(directory.iterdir()))


async def test_after_a_crash_pods_come_later(tmp_path: Path, lines: list[str]) -> None:
    now_s = asyncio.get_running_loop().time()
    crashed(tmp_path, now_s - 5)
    crashed(tmp_path, now_s - 3600)
    async with bench(directory=str(tmp_path)) as here:
        await here.begin()
        here.round(A, B)
        assert here.shown() == ({"1": 0, "2": 0}, 1)
        assert here.registry.node.failed_open["crashed"] == 1
        await here.go_on(7, A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert any("1 of us crashed lately" in line for line in lines)
        assert files(tmp_path) == 2, "the crash of an hour ago means nothing any more"
        await asyncio.gather(here.node.release(), here.go_on(1))
        assert files(tmp_path) == 1, "our own mark goes: this end is no crash"


async def test_a_directory_that_is_not_there_remembers_nothing(tmp_path: Path, lines: list[str]) -> None:
    async with bench(directory=str(tmp_path / "none")) as here:
        await here.begin()
        here.round(A, B)
        assert here.shown() == ({"1": 1, "2": 1}, 0)
        assert lines[0].endswith("No such file or directory; crashes are not remembered")
