"""Runs `ip`, `nft` and `iptables` off the loop: bounded in time and output, and with one kind of failure.

What callers may rely on:

- `run` never blocks the loop: a thread of the loop's own pool starts the program and reads what it says.
- A program that has not ended after `timeout_s` is killed; of its output at most `OUTPUT_MAX_BYTES` are kept, and
  only lines that contain one of `containing`, so that a long list of somebody else's rules costs no memory.
- Whatever goes wrong is a `CommandFailed` with the remedy in its one line. Nothing else is raised but cancellation.
- No program inherits a descriptor of ours, and all speak English (`LC_ALL=C`): what they say is compared.
"""

import asyncio
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resolver.errors import CommandFailed

OUTPUT_MAX_BYTES = 1024 * 1024
"""Of one run. `ip -j addr` on a node of 250 pods prints some 200 KiB."""

LINE_MAX_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_SEARCH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Looked into after PATH: for a plain user, or in a unit without one, sbin is not in it."""

PACKAGES = {"ip": "iproute2", "nft": "nftables", "conntrack": "conntrack"}
"""Debian's package of a program; the many names of iptables have one package."""

_PERMISSION = ("Operation not permitted", "Permission denied", "you must be root")
_LOCK = ("holding the xtables lock", "Can't lock ")
_LOCK_FILE = "open lock file"
_UNSUPPORTED = (
    "not supported",
    "Unknown device type",
    "Protocol wrong type",
    "does not exist (do you need to insmod?)",
)


class Output(NamedTuple):
    """What a program that ended well said."""

    stdout: str
    stderr: str


async def run(
    command: Sequence[str], *, text: str = "", timeout_s: float = 5.0, containing: tuple[str, ...] = ()
) -> Output:
    """Run `command`, a program and its arguments, with `text` on its standard input; return what it printed.

    Raises CommandFailed when it cannot be started, does not end in time, or ends with another status than 0.
    A caller that is cancelled does not wait; the program still ends, at the latest after `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(None, lambda: _run(tuple(command), text, timeout_s, containing))
    except RuntimeError as error:  # no thread to be had, or the pool is shut down
        raise CommandFailed(command[0], "failed", f"cannot be started: {error}") from None


def environment() -> Mapping[str, str]:
    """What programs find around them: nothing of ours but where programs are, and English.

    No home: `nft -i` reads and writes a history there, and with a large one it ends ten times as slowly.
    """
    path = f"{os.environ.get('PATH', '')}:{_SEARCH}".lstrip(":")
    return {"PATH": path, "LC_ALL": "C", "LANG": "C", "HOME": "/dev/null"}


def not_started(program: str, error: OSError) -> CommandFailed:
    """Return why `program` could not be started."""
    if isinstance(error, FileNotFoundError):
        return CommandFailed(program, "missing", f"not found; {_package_remedy(program)}")
    kind = "permission" if isinstance(error, PermissionError) else "failed"
    return CommandFailed(program, kind, f"cannot be started: {error.strerror}")


def classify(program: str, status: int, said: str) -> CommandFailed:
    """Return the failure of a `program` that ended with `status` (negative: the signal) and `said` something.

    iptables says 4 for a lock that it could not have, and for much else; the words decide.
    """
    line = _first_line(said) or (f"killed by signal {-status}" if status < 0 else f"ended with status {status}")
    if any(words in said for words in _LOCK):
        return CommandFailed(program, "lock", f"{line}; another program holds the xtables lock")
    if _LOCK_FILE in said:
        return CommandFailed(
            program, "failed", f"{line}; mount the host's /run/xtables.lock, so that it can be written"
        )
    if any(words in said for words in _PERMISSION):
        # The legacy variant opens a raw socket.
        needed = "capabilities NET_ADMIN and NET_RAW" if "legacy" in program else "capability NET_ADMIN"
        return CommandFailed(program, "permission", f"{line}; give the container the {needed}, or run as root")
    if any(words in said for words in _UNSUPPORTED):
        return CommandFailed(
            program, "unsupported", f"{line}; this kernel, or this version of {program}, cannot do it"
        )
    return CommandFailed(program, "failed", line)


def _package_remedy(program: str) -> str:
    base = program.rpartition("/")[2]
    package = "iptables" if base.startswith(("iptables", "ip6tables")) else PACKAGES.get(base, base)
    return f"install Debian's package {package}, or use an image that has it"


def _first_line(said: str) -> str:
    """Return what is worth a log line: the first line that is no echo of the command and no empty one."""
    for line in said.splitlines():
        stripped = line.strip()
        if stripped and set(stripped) != {"^"}:
            return stripped.removeprefix("Error: ")[:300]
    return ""


def _run(command: tuple[str, ...], text: str, timeout_s: float, containing: tuple[str, ...]) -> Output:
    """In a thread: start, feed, read, wait."""
    program = command[0]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if text else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    except OSError as error:
        raise not_started(program, error) from None
    with process:
        try:
            out, err = _converse(
                process, text.encode(), time.monotonic() + timeout_s, tuple(words.encode() for words in containing)
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(
                program, "timeout", f"did not end within {timeout_s:g} s: {' '.join(command)[:200]}"
            ) from None
        except OSError as error:
            raise CommandFailed(program, "failed", f"could not be talked to: {error.strerror}") from None
        finally:
            process.kill()  # does nothing once it was waited for
    said = Output(out.decode(errors="replace"), err.decode(errors="replace"))
    if process.returncode:
        raise classify(program, process.returncode, said.stderr or said.stdout)
    return said


class _Kept:
    """The lines of one stream that are worth keeping, within the bound."""

    def __init__(self, containing: tuple[bytes, ...]) -> None:
        self._containing = containing
        self._part = b""
        self.kept = bytearray()

    def feed(self, data: bytes) -> None:
        if not self._containing:
            self._keep(data)
            return
        *lines, rest = (self._part + data).split(b"\n")
        self._part = rest[-LINE_MAX_BYTES:]
        for line in lines:
            if self._wanted(line):
                self._keep(line + b"\n")

    def end(self) -> bytes:
        if self._wanted(self._part):
            self._keep(self._part)
        return bytes(self.kept)

    def _wanted(self, line: bytes) -> bool:
        return any(words in line for words in self._containing)

    def _keep(self, data: bytes) -> None:
        self.kept += data[: OUTPUT_MAX_BYTES - len(self.kept)]


def _converse(
    process: "subprocess.Popen[bytes]", text: bytes, until_s: float, containing: tuple[bytes, ...]
) -> tuple[bytes, bytes]:
    """Write `text`, read both streams to their ends and wait; `subprocess.communicate` would keep everything."""
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout: _Kept(containing), process.stderr: _Kept(())}
    view = memoryview(text)
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            os.set_blocking(process.stdin.fileno(), False)
        while selector.get_map():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in selector.select(left_s):
                if key.fileobj is process.stdin:
                    view = view[_write(key.fd, view) :]
                    if not view:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif data := os.read(key.fd, _READ_BYTES):
                    kept[key.fileobj].feed(data)  # type: ignore[index]  # only what was registered comes back
                else:
                    selector.unregister(key.fileobj)
    process.wait(max(0.01, until_s - time.monotonic()))
    return kept[process.stdout].end(), kept[process.stderr].end()


def _write(descriptor: int, view: memoryview) -> int:
    try:
        return os.write(descriptor, view)
    except BrokenPipeError:  # it reads no further: its status will say why
        return len(view)
