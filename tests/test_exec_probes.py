"""Exec probes against our real process: alive, not ready, stopped, stuck, killed; by both clients."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mirror, process
from tests.support.addresses import free_port, loopback
from tests.support.surroundings import PATIENCE_S, ask, block, said

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "deploy/probe/probe.c"
LATE = "no answer within 1 s"

Probe = Callable[[str, Path], tuple[int, str]]
"""Asks a question at a path; exit code and what was printed."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[mirror.Mirror]:
    with mirror.in_a_thread() as running:
        yield running


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        pytest.skip("no C compiler on this machine")
    built = tmp_path_factory.mktemp("probe") / "probe"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["cc", *strict, "-o", str(built), str(SOURCE)], check=True, timeout=60)
    return built


@pytest.fixture(params=["C", "Python"])
def probe(request: pytest.FixtureRequest) -> Probe:
    if request.param == "C":
        command = [str(request.getfixturevalue("program"))]
    else:
        command = [sys.executable, "-m", "resolver", "probe"]

    def asked(question: str, path: Path) -> tuple[int, str]:
        done = subprocess.run(
            [*command, question, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.removesuffix("\n")

    return asked


def until(probe: Probe, question: str, path: Path, wanted: tuple[int, str]) -> None:
    """Probe until the answer is `wanted`; each probe takes its time, so this does not spin."""
    end_s = time.monotonic() + PATIENCE_S
    while (found := probe(question, path)) != wanted:
        assert time.monotonic() < end_s, found


def test_from_start_to_end(upstream: mirror.Mirror, probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    text = block(upstream, "health 127.0.0.1:0 {\nlameduck 60s\n}")
    with process.running(text, flags=["-probe-socket", str(path)]) as server:
        until(probe, "health", path, (0, "OK"))
        ask(server, "web.example.")
        assert probe("ready", path) == (0, "OK")
        assert probe("wealth", path) == (1, "unknown question; accepted: health, ready")
        server.send(signal.SIGTERM)
        until(probe, "ready", path, (1, "Shutting down"))
        assert probe("health", path) == (0, "OK")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert probe("health", path) == (1, f"{path}: No such file or directory")


def test_not_ready_before_an_upstream_has_answered(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    nobody = loopback()
    text = f".:{{port}} {{\n    bind {{host}}\n    forward . {nobody}:{free_port(nobody)}\n}}\n"
    with process.running(text, flags=["-probe-socket", str(path)]):
        until(probe, "health", path, (0, "OK"))
        assert probe("ready", path) == (1, "forward .")


def test_a_process_that_is_stopped_fails_within_a_second_and_is_well_again(
    upstream: mirror.Mirror, probe: Probe, tmp_path: Path
) -> None:
    path = tmp_path / "probe"
    with process.running(block(upstream), flags=["-probe-socket", str(path)]) as server:
        until(probe, "health", path, (0, "OK"))
        server.send(signal.SIGSTOP)
        started_s = time.monotonic()
        assert probe("health", path) == (1, LATE)
        # More of them than the kernel keeps for a process that takes none.
        impatient = [threading.Thread(target=probe, args=("health", path)) for _ in range(20)]
        for each in impatient:
            each.start()
        assert probe("ready", path) == (1, LATE)
        assert time.monotonic() - started_s < PATIENCE_S
        for each in impatient:
            each.join()
        server.send(signal.SIGCONT)
        until(probe, "health", path, (0, "OK"))


def test_killed_and_started_again_at_the_same_path(upstream: mirror.Mirror, probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    with process.running(block(upstream), flags=["-probe-socket", str(path)]) as server:
        until(probe, "health", path, (0, "OK"))
        server.stop(signal.SIGKILL)
    assert probe("health", path) == (1, f"{path}: Connection refused")
    with process.running(block(upstream), flags=["-probe-socket", str(path)]):
        until(probe, "health", path, (0, "OK"))


def test_a_second_process_at_the_same_path_ends_with_one_line(upstream: mirror.Mirror, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    flags = ["-probe-socket", str(path)]
    with process.running(block(upstream), flags=flags) as server:
        with pytest.raises(process.ServerError) as caught, process.running(block(upstream), flags=flags):
            pass
        assert f"-probe-socket {path} is another process's, which lives" in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert path.is_socket()
        said(server, "uvloop")


def test_who_says_nothing_is_not_well(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "probe"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def close_the_next() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(64)

        thread = threading.Thread(target=close_the_next)
        thread.start()
        assert probe("health", path) == (1, "closed without an answer")
        thread.join()


@pytest.mark.parametrize("words", [[], ["health"], ["health", "a", "b"], ["h" * 40, "a"], ["health", "a" * 200]])
def test_a_command_line_that_is_none(program: Path, words: list[str]) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "accepted: probe health PATH or probe ready PATH\n"


def test_the_python_command_says_what_it_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resolver", "probe"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("command line: accepted: resolver probe health PATH")
