"""Who ended without saying goodbye is counted; who lives, left in order, or is long gone is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resolver.system import crashes

HOLD = "import sys\nfrom resolver.system import crashes\ncrashes.begin(sys.argv[1], float(sys.argv[2]))\n"


def crash(directory: Path, now_s: float) -> None:
    """A process that takes traffic and is killed."""
    program = HOLD + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program, str(directory), str(now_s)], check=False, timeout=20)


def count(directory: Path, now_s: float) -> int:
    mark, found = crashes.begin(str(directory), now_s)
    mark.remove()
    return found


def test_crashes_are_counted_and_an_end_in_order_is_none(tmp_path: Path) -> None:
    assert count(tmp_path, 100.0) == 0
    crash(tmp_path, 101.0)
    assert count(tmp_path, 102.0) == 1
    crash(tmp_path, 103.0)
    assert count(tmp_path, 104.0) == 2


def test_a_predecessor_that_lives_is_no_crash(tmp_path: Path) -> None:
    older, _ = crashes.begin(str(tmp_path), 100.0)
    assert count(tmp_path, 101.0) == 0
    older.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("now_s", [101.0 + crashes.RECENT_S + 1, 100.0], ids=["long ago", "before the last boot"])
def test_what_was_long_ago_is_forgotten_and_removed(tmp_path: Path, now_s: float) -> None:
    crash(tmp_path, 101.0)
    assert count(tmp_path, now_s) == 0
    assert not list(tmp_path.iterdir())


def test_files_are_bounded(tmp_path: Path) -> None:
    for number in range(crashes.FILES_MAX + 4):
        (tmp_path / f"intercepting-{number:016x}").write_text(f"{number}\n")
    assert count(tmp_path, 50.0) == crashes.FILES_MAX
    assert len(list(tmp_path.iterdir())) == crashes.FILES_MAX


@pytest.mark.parametrize("text", ["", "soon", "nan", "1e999", "-5"], ids=ascii)
def test_a_file_that_says_nothing_is_no_crash(tmp_path: Path, text: str) -> None:
    (tmp_path / f"intercepting-{7:016x}").write_text(text)
    assert count(tmp_path, 1000.0) == 0


def test_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("1")
    (tmp_path / "intercepting-not-ours").write_text("1")
    count(tmp_path, 1000.0)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("1")
    os.symlink(tmp_path / "elsewhere", tmp_path / f"intercepting-{7:016x}")
    with pytest.raises(OSError, match="symbolic"):
        crashes.begin(str(tmp_path), 1000.0)
