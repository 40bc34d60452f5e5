"""Programs off the loop: bounded in time and output, and every way to fail has its remedy."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.commands import OUTPUT_MAX_BYTES, classify, run

#        what the program said, its status, kind, what the one line says
SAYINGS = [
    pytest.param("", 3, "failed", "prog: ended with status 3", id="nothing said"),
    pytest.param("", -9, "failed", "prog: killed by signal 9", id="a signal"),
    pytest.param("\n^^^\nError: bad rule\nmore\n", 1, "failed", "prog: bad rule", id="the first line that says"),
    pytest.param("Error: Could not process rule: Operation not permitted", 1, "permission",
                 "Operation not permitted; give the container the capability NET_ADMIN, or run as root",
                 id="nft without NET_ADMIN"),
    pytest.param("iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied "
                 "(you must be root)", 4, "permission", "NET_ADMIN", id="iptables-nft without NET_ADMIN"),
    pytest.param("RTNETLINK answers: Operation not permitted", 2, "permission", "NET_ADMIN", id="ip without it"),
    pytest.param("Another app is currently holding the xtables lock. Stopped waiting after 5s.", 4, "lock",
                 "another program holds the xtables lock", id="the lock"),
    pytest.param("Can't lock /run/xtables.lock: Resource temporarily unavailable", 4, "lock",
                 "another program holds the xtables lock", id="the lock, as told by legacy"),
    pytest.param("Fatal: can't open lock file /run/xtables.lock: Read-only file system", 4, "failed",
                 "mount the host's /run/xtables.lock", id="no lock file"),
    pytest.param("Error: Unknown device type.", 2, "unsupported",
                 "this kernel, or this version of prog, cannot do it", id="no dummy devices"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "status", "kind", "line"), SAYINGS)
def test_what_a_program_says_becomes_one_line_with_its_remedy(said: str, status: int, kind: str, line: str) -> None:
    failure = classify("prog", status, said)
    assert failure.kind == kind
    assert line in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize(
    ("program", "package"),
    [("ip", "iproute2"), ("nft", "nftables"), ("ip6tables-legacy-save", "iptables"), ("conntrack", "conntrack")],
)
async def test_a_missing_program_names_its_package(
    program: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(commands, "_SEARCH", str(tmp_path))
    with pytest.raises(
        CommandFailed, match=f"^{program}: not found; install Debian's package {package},"
    ) as caught:
        await run((program,))
    assert caught.value.kind == "missing"


async def test_a_program_that_may_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "nft").write_text("")
    with pytest.raises(CommandFailed, match="cannot be started: Permission denied") as caught:
        await run((str(tmp_path / "nft"),))
    assert caught.value.kind == "permission"


async def test_what_goes_in_and_what_comes_out() -> None:
    said = await run(("sh", "-c", "cat; echo oops >&2"), text="one\ntwo\n")
    assert said == ("one\ntwo\n", "oops\n")
    assert (await run(("cat",))).stdout == "", "nothing is nobody's standard input"
    with pytest.raises(CommandFailed, match=r"^sh: oops$"):
        await run(("sh", "-c", "echo fine; echo oops >&2; exit 1"))


async def test_more_than_a_pipe_holds_goes_both_ways() -> None:
    text = "line\n" * 100_000
    assert (await run(("cat",), text=text)).stdout == text


async def test_a_program_that_does_not_read_decides_by_its_status() -> None:
    assert (await run(("true",), text="x" * 1_000_000)).stdout == ""


async def test_a_program_that_does_not_end_is_killed() -> None:
    began_s = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not end within 0\.2 s: sh -c") as caught:
        await run(("sh", "-c", "exec sleep 60"), timeout_s=0.2)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began_s < 5


async def test_one_that_closes_its_output_and_stays_is_killed_too() -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        await run(("sh", "-c", "exec >&- 2>&-; exec sleep 60"), timeout_s=0.2)


async def test_output_is_bounded() -> None:
    said = await run(("sh", "-c", f"head -c {3 * OUTPUT_MAX_BYTES} /dev/zero"))
    assert len(said.stdout) == OUTPUT_MAX_BYTES


async def test_only_lines_that_are_wanted_are_kept() -> None:
    said = await run(("seq", "300000"), containing=("99999", "1234567"))
    assert said.stdout.split() == ["99999", "199999", "299999"]
    assert (await run(("printf", "a1\nb\na2"), containing=("a",))).stdout == "a1\na2"


async def test_the_loop_goes_on_and_a_caller_may_leave() -> None:
    asked = asyncio.create_task(run(("sh", "-c", "sleep 0.2")))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_a_program_inherits_none_of_our_descriptors_and_speaks_english() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        said = await run(("sh", "-c", "ls /proc/self/fd; echo $LC_ALL"))
    finally:
        os.close(reading)
        os.close(writing)
    *descriptors, language = said.stdout.split()
    assert len(descriptors) <= 4
    assert language == "C"


def test_the_legacy_variant_needs_a_raw_socket_too() -> None:
    said = "iptables v1.8.9 (legacy): can't initialize iptables table `raw': Permission denied (you must be root)"
    assert "the capabilities NET_ADMIN and NET_RAW" in str(classify("iptables-legacy-save", 3, said))
    assert "NET_RAW" not in str(classify("iptables-nft-save", 4, said))
