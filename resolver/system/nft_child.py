"""One child `nft -i`: its process, its two pipes, and who waits for what it says.

What callers may rely on:

- Nothing here blocks the loop: a thread starts the program and waits for its end, the pipes do not block.
- Nobody but this process holds the writing end of the child's standard input, so it ends when we do.
- When we are killed either the child ends at once, or our sockets close at once (`_hold`).
- `failed` is called at most once, when the child is already being killed.
"""

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import termios
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.dialogue import Dialogue, Verdict

GONE = "our table is not there any more: another program removed it"

_READ_BYTES = 64 * 1024
_REAP_S = 1.0  # a process that was killed ends when the kernel gets to it
_HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Not for the child: whoever ends a whole control group at once must not end it before we have said goodbye."""

_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Of util-linux."""

_LAST_FD, _CLOSE_RANGE_UNSHARE = 0xFFFFFFFF, 2

Judged = Callable[[Verdict | CommandFailed], None]


class Child:
    """A running `nft -i`, made by `Child.start`."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        holder: threading.Thread,
        program: str,
        dialogue: Dialogue,
        failed: "Callable[[Child, CommandFailed], None]",
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._holder = holder
        self._program = program
        self._stdin, self._stdout = process.stdin, process.stdout
        self._dialogue = dialogue
        self._failed = failed
        self._waiting: deque[Judged] = deque()
        self._ended = False
        self._loop.add_reader(self._stdout.fileno(), self._readable)

    @classmethod
    async def start(
        cls, program: str, dialogue: Dialogue, failed: "Callable[[Child, CommandFailed], None]"
    ) -> "Child":
        """Start the program. Raises CommandFailed."""
        starting: Future[subprocess.Popen[bytes]] = Future()
        holder = threading.Thread(target=_hold, args=(program, starting), name="nft", daemon=True)
        try:
            holder.start()
        except RuntimeError as error:  # no thread to be had
            raise CommandFailed(program, "failed", f"cannot be started: {error}") from None
        try:
            process = await asyncio.shield(asyncio.wrap_future(starting))
        except asyncio.CancelledError:
            starting.add_done_callback(_unwanted)
            raise
        return cls(process, holder, program, dialogue, failed)

    def say(self, line: str, judged: Judged) -> None:
        """Write `line`, one transaction; `judged` is called when nft has done it, or has ended."""
        if self._ended:
            judged(CommandFailed(self._program, "failed", "has ended"))
            return
        self._waiting.append(judged)
        self._write(f"{line}\n{self._dialogue.probe}\n")

    def repeat(self, line: str) -> None:
        """Write `line` once more, and do not ask how it went; see `is_well`.

        nft keeps each line that differs from the one before, for as long as it lives: a beat and a probe every
        second were 17 MB a day.
        """
        if not self._ended:
            self._write(f"{line}\n")

    @property
    def is_well(self) -> bool:
        """Whether nft has read all that was written, and complained of nothing since the last verdict."""
        if self._ended or self._waiting or self._dialogue.problem:
            return False
        unread = bytearray(4)
        fcntl.ioctl(self._stdin.fileno(), termios.FIONREAD, unread)
        return not any(unread)

    async def ask(self, line: str, timeout_s: float) -> None:
        """Write `line` and wait until it is done. Raises CommandFailed, and then the child is being killed."""
        future: asyncio.Future[Verdict] = self._loop.create_future()

        def judged(verdict: Verdict | CommandFailed) -> None:
            if future.done():
                return
            if isinstance(verdict, CommandFailed):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)

        self.say(line, judged)
        try:
            async with asyncio.timeout(timeout_s):
                verdict = await future
            if verdict.problem:
                raise commands.classify(self._program, 1, verdict.problem)
            if not verdict.table:
                raise CommandFailed(self._program, "failed", GONE)
        except TimeoutError:
            failure = CommandFailed(self._program, "timeout", f"did not answer within {timeout_s:g} s")
            self.fail(failure)
            raise failure from None
        except CommandFailed as failure:
            self.fail(failure)
            raise

    def fail(self, failure: CommandFailed) -> None:
        """Kill the child, and tell its owner why; once."""
        if not self._ended:
            self.kill(failure)
            self._failed(self, failure)

    def kill(self, reason: CommandFailed | None = None) -> None:
        """Kill the child without a word to its owner; who still waits is told `reason`."""
        if not self._ended:
            self._process.kill()
            self._detach(reason)

    async def close(self, last: str, timeout_s: float) -> None:
        """Say `last`, wait until it is done, close the pipes, and wait until the process has ended."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.say(last, lambda _: None if done.done() else done.set_result(None))
        try:
            # Before that the pipes stay: what nft still says to a closed one would end it too early.
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            self._process.kill()
        finally:
            if not self._ended:
                self._detach(None)
            ended = self._loop.run_in_executor(None, _until_ended, self._process, self._holder)
        await asyncio.shield(ended)

    def _write(self, text: str) -> None:
        data = text.encode()
        try:
            written = os.write(self._stdin.fileno(), data)
        except OSError:  # full: it reads no more; broken: it has ended
            written = 0
        if written != len(data):
            self.fail(self._last_words("takes no commands any more"))

    def _readable(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.fail(self._last_words("has ended, and interception with it"))
            return
        for verdict in self._dialogue.feed(data):
            if self._waiting:
                self._waiting.popleft()(verdict)
        if self._dialogue.hopeless:
            self.fail(self._last_words("can do nothing"))

    def _last_words(self, otherwise: str) -> CommandFailed:
        return commands.classify(self._program, 1, self._dialogue.problem or otherwise)

    def _detach(self, reason: CommandFailed | None) -> None:
        """Close our side of the pipes."""
        self._ended = True
        self._loop.remove_reader(self._stdout.fileno())
        self._stdin.close()
        self._stdout.close()
        while self._waiting:
            self._waiting.popleft()(reason or CommandFailed(self._program, "failed", "was ended"))


def _command(program: str, path: str) -> list[str]:
    """Return the program as it is started: killed with the thread that starts it, where `setpriv` is there."""
    words = [program, "-i"]
    if shutil.which(program, path=path) and shutil.which(_WITH_US[0], path=path):
        return [*_WITH_US, *words]
    return words


def _hold(program: str, starting: "Future[subprocess.Popen[bytes]]") -> None:
    """The thread of one child: start it, keep no file of ours, and last until it has ended.

    When we are killed, the last of our threads frees our memory (0.1 ms for each MiB on a virtual machine) before
    it closes files; the others are gone by then. If this thread is not the last, the child is killed with it at
    once, and the table is gone. If it is, then all those are gone whose files our sockets are, and the sockets are
    closed: the table sends pods only where a socket listens. Tried with 109 MiB at 1,000 questions a second: 28
    deaths lost one at most, where every third one lost 10 to 19 while this thread shared our files.
    """
    try:
        process = _popen(program)
    except BaseException as error:
        starting.set_exception(error)
        return
    starting.set_result(process)
    _let_go_of_files()
    process.wait()


def _let_go_of_files() -> None:
    """Have a table of files of this thread's own from now on, without ours in it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "close_range"):  # glibc 2.34; with less, and Linux before 5.9, files stay shared
        # Whatever Python does for a signal it does by writing to a file: another thread does it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        libc.close_range(ctypes.c_uint(3), ctypes.c_uint(_LAST_FD), ctypes.c_int(_CLOSE_RANGE_UNSHARE))


def _popen(program: str) -> "subprocess.Popen[bytes]":
    """In a thread: start the child, its pipes not blocking for us."""
    # A new process has the signal mask of the thread that starts it, and keeps it: no code runs in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        process = subprocess.Popen(
            _command(program, commands.environment()["PATH"]),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=commands.environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise commands.not_started(program, error) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin is not None
    assert process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    os.set_blocking(process.stdout.fileno(), False)
    return process


def _until_ended(process: "subprocess.Popen[bytes]", holder: threading.Thread) -> None:
    """In a thread: wait for the child's end, and make sure of it."""
    holder.join(_REAP_S)
    if holder.is_alive():
        process.kill()
        holder.join()


def _unwanted(starting: "Future[subprocess.Popen[bytes]]") -> None:
    """In a thread: the child came after its caller was cancelled."""
    if starting.exception() is not None:
        return
    process = starting.result()
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
