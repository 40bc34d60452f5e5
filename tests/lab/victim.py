"""Our real process with a weak point: the lab starts it when it is to be hit where no signal from outside can.

    python -m tests.lab.victim BALLAST_MIB DIES_AT TURNS FLAG...

It is `resolver FLAG...`, with so much memory besides that is really in use, and
- DIES_AT, unless it is 0, is the step of a hand-over at which it is killed: what it hears from the process before
  it and says to it is counted from 1; with -1 it lives, and prints each step;
- TURNS, unless it is empty, is a file for the longest turns of the loop, which is asyncio's then (`turns`);
- SIGUSR2 reads address 0: a real memory fault, in the middle of whatever the loop does;
- SIGWINCH never returns: the loop is stuck, and no other signal handler of Python's runs any more;
- SIGTTIN takes memory until the kernel ends it, in a thread that leaves the loop alone until then.
"""

import ctypes
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from resolver.cli import main
from resolver.system import runtime
from tests.lab import turns


def fault(_signal: int, _frame: FrameType | None) -> None:
    ctypes.string_at(0)


def stick(_signal: int, _frame: FrameType | None) -> None:
    while True:
        pass


def swell(_signal: int, _frame: FrameType | None) -> None:
    def fill() -> None:
        kept = mmap.mmap(-1, 1 << 30)
        # A foreign function runs without the interpreter's lock.
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(kept)), 1, len(kept))

    threading.Thread(target=fill, daemon=True).start()


def die_at(step: int) -> None:
    """Kill this process when the hand-over's channel is used for the `step`th time, in either direction."""
    from resolver.system.channel import Channel

    done = 0

    def counted(use: Callable[..., Any]) -> Callable[..., Any]:
        async def used(*words: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if step < 0:
                print(f"step {done} of the hand-over: {use.__name__}", flush=True)
            if done == step:
                print(f"killed at step {step} of the hand-over: {use.__name__}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
                os._exit(9)  # process 1 of a pid namespace is immune to its own signals
            return await use(*words, **named)

        return used

    for name in ("raw", "receive", "send_raw"):
        setattr(Channel, name, counted(getattr(Channel, name)))


def run() -> int:
    """Prepare to be hit, and serve."""
    ballast = bytearray(b"\1") * (int(sys.argv[1]) << 20)
    if int(sys.argv[2]):
        die_at(int(sys.argv[2]))
    if sys.argv[3]:
        measured = turns.factory(Path(sys.argv[3]))
        runtime.loop_factory = lambda: measured
    signal.signal(signal.SIGUSR2, fault)
    signal.signal(signal.SIGWINCH, stick)
    signal.signal(signal.SIGTTIN, swell)
    try:
        return main(sys.argv[4:])
    finally:
        del ballast


if __name__ == "__main__":
    sys.exit(run())
