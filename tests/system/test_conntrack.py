"""The kernel's connection tracking as we read it: any text, missing files, and a real kernel that loses packets."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.readings import conntrack_readings
from resolver.system import conntrack
from resolver.system.conntrack import Losses, Table

ROOT = Path(__file__).parents[2]
FILL_MAX = 300_000
"""Entries that a test may make: 90 MiB of the kernel's memory, 3 s."""

NEW = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error
00000007 00000000 00000000 00000000 0000000b 00000000 00000000 00000000 00000000 00000001 00000010 00000000 00000000
00000007 00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 0000000a 000000ff 00000003 00000000
"""
OLD = """\
entries searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error
00000007 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000002 00000003 00000000
"""

#        the text, the sums
TEXTS = [
    pytest.param(NEW, Losses(11, 271, 3), id="two CPUs"),
    pytest.param(OLD, Losses(1, 2, 3), id="other columns"),
    pytest.param("insert_failed drop early_drop\n1 2 3", Losses(1, 2, 3), id="no line feed at the end"),
    pytest.param("early_drop drop insert_failed\nffffffff 0 1\n", Losses(1, 0, 2**32 - 1), id="another order"),
    pytest.param(
        "insert_failed drop early_drop\n1 2\n1 2 3 4\n4 5 6\n", Losses(4, 5, 6), id="lines that do not fit"
    ),
    pytest.param("insert_failed drop early_drop\n+1 -2 1_0\n", Losses(0, 0, 0), id="what only int() would take"),
    pytest.param(f"insert_failed drop early_drop\n{'f' * 17} 0 0\n", Losses(0, 0, 0), id="a number out of range"),
    pytest.param("insert_failed drop early_drop\n", None, id="no CPU"),
    pytest.param("insert_failed drop\n1 2\n", None, id="a column is missing"),
    pytest.param("", None, id="nothing"),
]


@pytest.mark.parametrize(("text", "sums"), TEXTS)
def test_sums_over_all_cpus(text: str, sums: Losses | None) -> None:
    assert conntrack.parse(text) == sums


WORDS = st.sampled_from(["insert_failed", "drop", "early_drop", "0000000f", "-1", "\n", " ", "٣", "f" * 40])


@given(text=st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
def test_any_text_is_sums_or_nothing(text: str) -> None:
    sums = conntrack.parse(text)
    assert sums is None or all(0 <= number < 2**80 for number in sums)


def proc(folder: Path, count: bytes | None, limit: bytes | None, statistics: bytes | None) -> str:
    """Return a folder that looks like /proc with these files."""
    for name, content in (
        (conntrack.COUNT, count), (conntrack.LIMIT, limit), (conntrack.STATISTICS, statistics)
    ):  # fmt: skip
        if content is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return str(folder)


#        the files' contents, what they say
FILES = [
    pytest.param(b"7\n", b"262144\n", NEW.encode(), Table(7, 262144), Losses(11, 271, 3), id="all"),
    pytest.param(None, None, None, None, None, id="no connection tracking"),
    pytest.param(b"7\n", b"9\n", None, Table(7, 9), None, id="a kernel without the statistics"),
    pytest.param(None, b"9\n", NEW.encode(), None, Losses(11, 271, 3), id="no count"),
    pytest.param("٣".encode(), b"9\n", b"\xff\x00", None, None, id="rubbish"),
    pytest.param(b"1" * 5000, b"9" * 17, NEW.encode() * 20_000, None, Losses(11, 271, 3), id="much too long"),
]


@pytest.mark.parametrize(("count", "limit", "statistics", "table", "losses"), FILES)
def test_what_the_files_say(
    tmp_path: Path,
    count: bytes | None,
    limit: bytes | None,
    statistics: bytes | None,
    table: Table | None,
    losses: Losses | None,
) -> None:
    where = proc(tmp_path, count, limit, statistics)
    assert conntrack.table(where) == table
    found = conntrack.losses(where)
    if statistics is not None and len(statistics) > 100_000:
        # Cut in the middle of a line, after 1 MiB: what was read counts.
        assert found is not None
        assert losses is not None
        assert found.dropped % losses.dropped in {0, 16}
    else:
        assert found == losses


def test_without_files_there_is_no_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "_text", lambda path: "")
    assert conntrack_readings() == []


SCRIPT = """
set -eu
ip link set lo up
nft add table ip tracked
nft 'add chain ip tracked out {{ type filter hook output priority 0; }}'
nft add rule ip tracked out ct state new counter
{commands}
"""
SAY = "from resolver.readings import conntrack_readings as read; print({r.name: r.value for r in read()})"


def in_a_namespace(*commands: str) -> list[dict[str, float]]:
    """Run commands in a new network namespace with connection tracking on; return what each `say` read there."""
    for program in ("unshare", "ip", "nft", "conntrack"):
        if not shutil.which(program):
            pytest.skip(f"no {program} on this machine")
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    say = f"{sys.executable} -c '{SAY}'"
    script = SCRIPT.format(commands="\n".join(say if command == "say" else command for command in commands))
    # The namespace has no name: it ends with the last process in it.
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{")]


def send(count: int) -> str:
    """Return a command that begins so many connections; what the kernel does not let out is no error."""
    program = (
        "import contextlib, socket\n"
        f"for number in range({count}):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):\n"
        '        s.sendto(b"x", ("127.0.0.1", 4000 + number))\n'
    )
    return f"{sys.executable} -c '{program}'"


def test_connections_appear_in_the_count() -> None:
    before, after = in_a_namespace("say", send(20), "say")
    assert before["resolver_conntrack_entries"] == 0
    assert after["resolver_conntrack_entries"] == 20
    assert before["resolver_conntrack_entries_limit"] > 0
    assert after["resolver_conntrack_drops_total"] == 0


def test_a_full_table_drops_and_the_drops_are_counted(tmp_path: Path) -> None:
    """Filled with entries that are in use, which the kernel does not give up for others."""
    table = conntrack.table()
    if table is None or table.limit > FILL_MAX:
        pytest.skip(f"{FILL_MAX} entries do not fill the table of this machine: {table}")
    entries = tmp_path / "entries"
    with entries.open("w") as lines:
        for number in range(table.limit + 1):
            source = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            lines.write(
                f"-A -s {source} -d 192.0.2.1 -p udp --sport 1000 --dport 53 -t 300 -u ASSURED,SEEN_REPLY\n"
            )
    # One entry more than there is room for: so it ends with an error once the table is full.
    before, after = in_a_namespace(f"! conntrack -R {entries}", "say", send(10), "say")
    assert before["resolver_conntrack_entries"] >= before["resolver_conntrack_entries_limit"]
    assert after["resolver_conntrack_drops_total"] - before["resolver_conntrack_drops_total"] == 10
