"""The pidfile: ours while we serve, and nobody's problem when it cannot be."""

import os
from pathlib import Path

import pytest

from resolver import logs
from resolver.system import pidfile


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(logs, "warning", said.append)
    return said


def test_written_and_removed(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "pid"
    pidfile.write(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove(str(path))
    assert not path.exists()
    pidfile.remove(str(path))
    assert warnings == []


def test_that_of_another_generation_stays(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    pidfile.remove(str(path))
    assert path.read_text() == "1\n"


def test_what_cannot_be_written_or_removed_is_a_warning(tmp_path: Path, warnings: list[str]) -> None:
    pidfile.write(str(tmp_path))
    pidfile.remove(str(tmp_path))
    assert [warning.split(":")[0] for warning in warnings] == [
        f"cannot write the pidfile {tmp_path}",
        f"cannot remove the pidfile {tmp_path}",
    ]
