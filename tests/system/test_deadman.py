"""The kernel ends a process whose loop is stuck: as itself, as PID 1 of a container, after a stop."""

import os
import signal
import subprocess
import sys
import time

import pytest

STUCK = """
from resolver.system.deadman import Deadman, no_core_dump
no_core_dump()
deadman = Deadman(limit_s=0.3)
deadman.arm()
{then}
print("armed", flush=True)
{stuck}
"""

BUSY = "while True: pass"
ONE_LONG_STEP = "sum(range(10**12))"  # Python's own handlers would wait for its end
BLOCKED = "import socket; a, b = socket.socketpair(); a.recv(1)"


def started(stuck: str, then: str = "", prefix: list[str] | None = None) -> subprocess.Popen[bytes]:
    program = STUCK.format(stuck=stuck, then=then)
    return subprocess.Popen([*(prefix or []), sys.executable, "-c", program], stdout=subprocess.PIPE)


@pytest.mark.parametrize("stuck", [BUSY, ONE_LONG_STEP, BLOCKED], ids=["busy", "one long step", "blocked"])
def test_a_stuck_process_is_ended(stuck: str) -> None:
    with started(stuck) as process:
        assert process.wait(10) == 14


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")
def test_pid_1_of_a_container_is_ended_too() -> None:
    # The default action of SIGALRM is ignored there.
    with started(BUSY, prefix=["unshare", "--pid", "--fork", "--mount-proc"]) as process:
        assert process.wait(10) == 14


def test_who_arms_again_in_time_lives() -> None:
    again = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: deadman.arm()\ndeadman.disarm()"
    with started("import signal; print(signal.getitimer(signal.ITIMER_REAL))", then=again) as process:
        assert process.stdout
        assert process.stdout.read() == b"armed\n(0.0, 0.0)\n"
        assert process.wait(10) == 0


def test_a_child_does_not_inherit_the_timer() -> None:
    child = "import subprocess, sys\nlate = subprocess.Popen(['sleep', '1'])\nprint(late.pid, flush=True)"
    with started(BUSY, then=child) as process:
        assert process.stdout
        late = int(process.stdout.readline())
        assert process.wait(10) == 14
        assert os.path.exists(f"/proc/{late}")


def test_a_stopped_process_ends_when_it_goes_on() -> None:
    with started(BUSY) as process:
        assert process.stdout
        assert process.stdout.readline() == b"armed\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        end_s = time.monotonic() + 0.6
        while time.monotonic() < end_s:
            assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(10) == 14


def test_no_core_is_written() -> None:
    # `ptrace_may_access` of another user is what dumpable decides; the flag itself is read back.
    read = "import ctypes\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)"
    with started("deadman.disarm()", then=read) as process:
        assert process.stdout
        assert process.stdout.readline() == b"0\n"
        assert process.wait(10) == 0
