"""What the README shows a newcomer works: `make run`, the questions to ask it, and the sample Corefile."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolver.tools import check
from tests.support.addresses import free_port
from tests.support.process import answers

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DIGS = [line for line in README.splitlines() if line.startswith("dig ")]
SAMPLES = re.findall(r"```\n([^`]*\n)```", README)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """What `make run` starts, on another port; it ends at SIGTERM and leaves nothing behind."""
    own, demo = free_port("127.0.0.1"), free_port("127.0.0.1")
    environment = {**os.environ, "PORT": str(own), "DEMO_PORT": str(demo), "BIN": str(Path(sys.executable).parent)}
    process = subprocess.Popen(["sh", "deploy/local/run.sh"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        assert answers("127.0.0.1", own, lambda: process.poll() is not None)
        yield own
    finally:
        process.terminate()
        assert process.wait(15) == 0
    assert not answers("127.0.0.1", own, lambda: False, within_s=0.2)
    assert not answers("127.0.0.1", demo, lambda: False, within_s=0.2)


@pytest.mark.parametrize("line", DIGS)
def test_the_questions_have_answers(port: int, line: str) -> None:
    assert shutil.which("dig"), "dig is not installed; `make test` as root installs it"
    words = [str(port) if word == "5300" else word for word in shlex.split(line)]
    run = subprocess.run([*words, "+tries=1", "+time=5"], capture_output=True, text=True, timeout=30, check=True)
    assert "status: NOERROR" in run.stdout
    assert "ANSWER: 0" not in run.stdout


def test_the_sample_corefile_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sample,) = SAMPLES
    (tmp_path / "Corefile").write_text(sample)
    assert check.main([str(tmp_path / "Corefile")]) == 0, capsys.readouterr().err
