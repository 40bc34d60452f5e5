"""Other generations are seen while they live, also by a process that has just killed one."""

import os
import signal
import subprocess
import sys

from resolver.system.generations import Presence

NAME = f"nr{os.getpid()}"


def test_who_is_there_is_seen_and_who_has_gone_is_not() -> None:
    one = Presence(NAME)
    assert one.others() == 0
    two, elsewhere = Presence(NAME), Presence(f"{NAME}x")
    assert (one.others(), two.others(), elsewhere.others()) == (1, 1, 0)
    one.close()
    assert two.others() == 0
    two.close()
    elsewhere.close()


def test_a_killed_process_is_gone() -> None:
    program = (
        "import sys\nfrom resolver.system.generations import Presence\n"
        f"one = Presence({NAME!r})\nprint('here', flush=True)\nsys.stdin.read()"
    )
    mine = Presence(NAME)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"here\n"
        assert mine.others() == 1
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert mine.others() == 0
    mine.close()
