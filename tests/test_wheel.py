"""The wheel as a user's machine builds it: with a C compiler the compiled lane is in it, without one it is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def wheel(folder: Path, **environment: str) -> Path:
    """Build the wheel into `folder` from what git knows, as a clean checkout has it."""
    source = folder / "source"
    source.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    for name in names.decode().split("\0"):
        if name.startswith("resolver/") or name in {"pyproject.toml", "setup.py", "README.md", "LICENSE"}:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                target.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("node_resolver-*.whl")
    return found


@pytest.mark.parametrize(
    ("compiler", "lane"),
    [pytest.param("cc", "compiled", id="cc"), pytest.param("false", "python", id="no compiler")],
)
def test_the_wheel_installs_and_says_its_lane(tmp_path: Path, compiler: str, lane: str) -> None:
    built = wheel(tmp_path, CC=compiler)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(built) as archive:
        assert any(
            name.startswith("resolver/accept/lane.") and name.endswith(".so") for name in archive.namelist()
        ) is (lane == "compiled")
        archive.extractall(installed)
    command = [sys.executable, "-m", "resolver", "-version"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{lane} lane" in done.stdout
