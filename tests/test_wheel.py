"""The wheel as a user's machine builds it: with a C compiler the compiled lane is in it, without one it is not."""

import os
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support import wheel

ROOT = Path(__file__).parents[1]
CIBUILDWHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(tmp_path_factory.mktemp("compiled"), CC="cc")


def says(built: Path, folder: Path) -> str:
    """What `-version` prints when nothing but this wheel is installed, beside what it depends on."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    environment = {"PYTHONPATH": str(folder)}
    return wheel.run([sys.executable, "-m", "resolver", "-version"], cwd=folder, env=environment)


def lanes(built: Path) -> list[str]:
    with zipfile.ZipFile(built) as archive:
        return [name for name in archive.namelist() if re.fullmatch(r"resolver/accept/lane\..*\.so", name)]


def test_with_a_compiler_the_compiled_lane_is_in_it(compiled: Path, tmp_path: Path) -> None:
    assert len(lanes(compiled)) == 1
    assert "compiled lane" in says(compiled, tmp_path)


def test_without_a_compiler_it_installs_all_the_same(tmp_path: Path) -> None:
    built = wheel.build(tmp_path, CC="false")
    assert lanes(built) == []
    assert "python lane" in says(built, tmp_path)


def test_the_installed_wheel_passes_the_tests_of_its_lanes(compiled: Path, tmp_path: Path) -> None:
    """What cibuildwheel does with each wheel: its own environment, the test sources elsewhere, the command."""
    python = wheel.clean_environment(tmp_path / "clean", compiled, *CIBUILDWHEEL["test-requires"])
    elsewhere = tmp_path / "elsewhere"
    wheel.copy_tracked(elsewhere, CIBUILDWHEEL["test-sources"])
    assert not (elsewhere / "resolver").exists(), "the tests would run against the tree and not against the wheel"
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    printed = wheel.run(["sh", "-ec", CIBUILDWHEEL["test-command"]], cwd=elsewhere, env=environment)
    assert "compiled lane" in printed
    assert " passed" in printed
    where = wheel.run([python, "-c", "import resolver; print(resolver.__file__)"], cwd=elsewhere, env=environment)
    assert "site-packages" in where
