"""Wheels of this tree, and virtual environments for them, as a user's machine or an image's builder makes them.

What callers may rely on: the tree that is built from holds what git knows, with the changes that are not
committed yet, and nothing that another build left behind.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 300.0
PACKAGE = ("resolver/", "pyproject.toml", "setup.py", "README.md", "LICENSE")
"""What the wheel is made of."""


def copy_tracked(target: Path, names: Iterable[str] = PACKAGE) -> None:
    """Copy the files that git knows under `names` into `target`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


def run(command: Iterable[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; AssertionError with all of it when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-8000:]}"
    return done.stdout


def build(folder: Path, **environment: str) -> Path:
    """Build the wheel into `folder` and return its path."""
    source = folder / "source"
    copy_tracked(source)
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source],
        env=environment,
    )
    (found,) = folder.glob("node_resolver-*.whl")
    return found


def clean_environment(folder: Path, *requirements: str | Path) -> Path:
    """Make a virtual environment in `folder` with these packages; return its Python."""
    run([sys.executable, "-m", "venv", folder])
    python = folder / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", *requirements])
    return python
