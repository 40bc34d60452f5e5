"""Our real process with a weak point: the lab starts it when it is to be hit where no signal from outside can.

    python -m tests.lab.victim BALLAST_MIB FLAG...

It is `resolver FLAG...`, with so much memory besides that is really in use, and
- SIGUSR2 reads address 0: a real memory fault, in the middle of whatever the loop does;
- SIGWINCH never returns: the loop is stuck, and no other signal handler of Python's runs any more;
- SIGTTIN takes memory until the kernel ends it.
"""

import ctypes
import signal
import sys
from types import FrameType

from resolver.cli import main


def fault(_signal: int, _frame: FrameType | None) -> None:
    ctypes.string_at(0)


def stick(_signal: int, _frame: FrameType | None) -> None:
    while True:
        pass


def swell(_signal: int, _frame: FrameType | None) -> None:
    kept = []
    while True:
        kept.append(b"\1" * (1 << 20))


def run() -> int:
    """Prepare to be hit, and serve."""
    ballast = bytearray(b"\1") * (int(sys.argv[1]) << 20)
    signal.signal(signal.SIGUSR2, fault)
    signal.signal(signal.SIGWINCH, stick)
    signal.signal(signal.SIGTTIN, swell)
    try:
        return main(sys.argv[2:])
    finally:
        del ballast


if __name__ == "__main__":
    sys.exit(run())
