"""One child `nft -i`: its process, its two pipes, and who waits for what it says.

What callers may rely on:

- Nothing here blocks the loop: threads of its pool start the program and wait for its end, the pipes do not block.
- Nobody but this process holds the writing end of the child's standard input, so it ends when we do. Where there is
  `setpriv`, it ends sooner: with the thread that started it.
- `failed` is called at most once, when the child is already being killed.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import termios
import threading
from collections import deque
from collections.abc import Callable

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

Judged = Callable[[Verdict | CommandFailed], None]


class Child:
    """A running `nft -i`, made by `Child.start`."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        program: str,
        dialogue: Dialogue,
        failed: "Callable[[Child, CommandFailed], None]",
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._loop = asyncio.get_running_loop()
        self._process = process
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
        loop = asyncio.get_running_loop()
        try:
            started = loop.run_in_executor(None, _popen, program)
        except RuntimeError as error:  # no thread to be had, or the pool is shut down
            raise CommandFailed(program, "failed", f"cannot be started: {error}") from None
        try:
            process = await asyncio.shield(started)
        except asyncio.CancelledError:
            started.add_done_callback(_unwanted)
            raise
        return cls(process, program, dialogue, failed)

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
            _reap_aside(self._process)

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
            ended = self._loop.run_in_executor(None, _reap, self._process, _REAP_S)
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
    """Return the program as it is started: to be killed with the thread that starts it, where `setpriv` is there.

    Our death closes the child's standard input, but only after the kernel has freed our memory. A thread of ours is
    gone before that (measured with 75 MiB: the child ends after 4 ms instead of 18, median). Threads of the loop's
    pool live as long as the loop.
    """
    words = [program, "-i"]
    if shutil.which(program, path=path) and shutil.which(_WITH_US[0], path=path):
        return [*_WITH_US, *words]
    return words


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


def _reap(process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    """In a thread: wait for its end, and make sure of it."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reap_aside(process: "subprocess.Popen[bytes]") -> None:
    """Reap in a thread of its own: the loop's pool may be at its end, and nobody waits for this."""
    threading.Thread(target=_reap, args=(process, _REAP_S), daemon=True).start()


def _unwanted(started: "asyncio.Future[subprocess.Popen[bytes]]") -> None:
    """The child came after its caller was cancelled."""
    if started.cancelled() or started.exception() is not None:
        return
    process = started.result()
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    _reap_aside(process)
