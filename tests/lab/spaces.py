"""Network namespaces of this test run: made, entered, emptied and removed by their own names.

A name is `nr-<pid>-lab-<start>-<number>-<what>`: the process that made it, when that process began (process numbers
come round), a running number, and what it stands for. `remove_stale` removes what a process that is gone has left
behind, with the processes in it; it looks at nothing that is not named so. Work folders and memory cgroups of the
lab carry the same names and go with them.

Sockets are opened inside a namespace by a thread that visits it; afterwards they work from anywhere.
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

NETNS = Path("/run/netns")
WORK = Path(tempfile.gettempdir())
COMMAND_S = 20.0
EMPTY_S = 5.0
WAIT_S = 20.0
LOOK_AGAIN_S = 0.005

_OURS = re.compile(r"nr-(\d+)-lab-(\d+)-\d+-[a-z0-9-]+")
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab itself does not work; the text says which command said what."""


def run(words: Sequence[str], given: str = "", *, check: bool = True) -> str:
    """Run a command to its end and return what it printed. Raises LabError with its complaint."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode and check:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}\n{given}")
    return done.stdout + (done.stderr if done.returncode else "")


def began(pid: int) -> str | None:
    """When this process began, in the kernel's ticks; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def new_name(what: str) -> str:
    """Return a name that nobody else uses and that `remove_stale` knows once we are gone."""
    return f"nr-{os.getpid()}-lab-{began(os.getpid())}-{next(_numbers)}-{what}"


class Space:
    """One network namespace."""

    def __init__(self, what: str) -> None:
        """Make it."""
        self.name = new_name(what)
        self.what = what
        self.path = NETNS / self.name
        run(["ip", "netns", "add", self.name])
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str) -> list[str]:
        """Return the command that runs these words in here."""
        return ["nsenter", f"--net={self.path}", *words]

    def run(self, *words: str, given: str = "", check: bool = True) -> str:
        """Run a command in here to its end and return what it printed."""
        return run(self.command(*words), given, check=check)

    def write(self, settings: dict[str, str]) -> None:
        """Write kernel settings of this namespace: what sysctl calls a.b.c is `a/b/c` here."""
        text = "".join(f"echo {value} >/proc/sys/{name}\n" for name, value in settings.items())
        self.run("sh", "-e", given=text)

    def connect(self, kind: socket.SocketKind, host: str, port: int, *, timeout_s: float) -> socket.socket:
        """Return a socket that lives in here and is connected. Raises OSError."""
        made = self._socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        try:
            made.settimeout(timeout_s)
            made.connect((host, port))
        except OSError:
            made.close()
            raise
        return made

    def _socket(self, family: int, kind: socket.SocketKind) -> socket.socket:
        made: list[socket.socket | OSError] = []

        def visit() -> None:
            try:
                with self.path.open("rb") as here:
                    if _libc.setns(here.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                made.append(socket.socket(family, kind))
            except OSError as error:
                made.append(error)

        # The thread ends with the namespace that it is in; no other thread ever leaves its own.
        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def pids(self) -> list[int]:
        """Return who is in here."""
        return _pids_in(self.path)

    def remove(self) -> None:
        """Kill whoever is still in here and remove it. Doing so twice is fine."""
        _remove_space(self.path)


def _pids_in(path: Path) -> list[int]:
    try:
        inode = path.stat().st_ino
    except OSError:
        return []
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if (process / "ns" / "net").stat().st_ino == inode:
                    found.append(int(process.name))
    return found


def _remove_space(path: Path) -> None:
    if not path.exists():
        return
    until_s = time.monotonic() + EMPTY_S
    while (pids := [pid for pid in _pids_in(path) if not _is_dead(pid)]) and time.monotonic() < until_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause(LOOK_AGAIN_S)
    run(["ip", "netns", "delete", path.name], check=False)


def _is_dead(pid: int) -> bool:
    """Whether it is gone, or only waits for its parent to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def pause(seconds: float) -> None:
    """Wait between two looks at something that tells nobody of a change."""
    threading.Event().wait(seconds)


def wait_for(
    what: str, condition: Callable[[], object], *, within_s: float = WAIT_S, every_s: float = LOOK_AGAIN_S
) -> float:
    """Look until `condition()` is true; return how long that took. Raises AssertionError naming `what`."""
    begun_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begun_s < within_s, f"not within {within_s:g} s: {what}"
        pause(every_s)
    return time.monotonic() - begun_s


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder with a short path (Unix sockets have 108 bytes), removed afterwards."""
    folder = WORK / new_name("work")
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(*more_folders: Path) -> list[str]:
    """Remove what labs of processes that are gone have left behind; `more_folders` hold cgroups of ours."""
    removed = []
    for folder in (NETNS, WORK, *more_folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            ours = _OURS.fullmatch(path.name)
            if ours is None or began(int(ours[1])) == ours[2]:
                continue
            if folder == NETNS:
                _remove_space(path)
            elif folder == WORK:
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.rmdir()
            removed.append(path.name)
    return removed
