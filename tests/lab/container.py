"""Our process in a container: its own pid and mount namespaces, two capabilities, a read-only root.

    container = Container(node, Spec(corefile=..., flags=(...)), folders)

What callers may rely on: `pid` is the process itself (number 1 inside), as the machine numbers it; `output()` is
what it printed; `ended` is its exit status, negative for a signal, or None. Its cgroup is removed with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cgroup, turns
from tests.lab.spaces import LabError, Space, new_name, wait_for

ROOT = Path(__file__).resolve().parents[2]
BOX = Path(__file__).with_name("box.sh")
START_S = 10.0
TURNS = "turns"

_PARENT = '"$@"; exit $?'
"""A shell that stays outside: its first child is process 1 in there, and it passes on how that ended."""


@dataclass(frozen=True)
class Spec:
    """What a manifest would say."""

    corefile: Path
    flags: tuple[str, ...]
    shared: Path  # the node's hand-over directory, /run/node-resolver inside
    lock: Path  # the node's xtables.lock
    ballast_mib: int = 0
    memory_mib: int = 0  # a limit; 0 is none
    capabilities: tuple[str, ...] = ("net_admin", "net_bind_service")
    dies_at: int = 0  # a step of the hand-over, see `victim`
    measured: bool = False  # the turns of its loop, see `turns`


class Container:
    """One run of it."""

    def __init__(self, node: Space, spec: Spec, folder: Path) -> None:
        """Start it. `folder` becomes its own /run/pod."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.spec = spec
        self.log = folder / "log"
        self.group = cgroup.make(new_name("memory"), spec.memory_mib) if spec.memory_mib else None
        box = ["sh", str(BOX), str(folder), str(spec.shared), str(spec.lock), str(self.group or "")]
        box.append(",".join(f"+{name}" for name in spec.capabilities))
        victim = [sys.executable, "-B", "-m", "tests.lab.victim", str(spec.ballast_mib), str(spec.dies_at)]
        victim.append(f"/run/pod/{TURNS}" if spec.measured else "")
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                node.command(
                    *("unshare", "--mount", "--pid", "sh", "-c", _PARENT, "sh"),
                    *(*box, *victim, "-conf", str(spec.corefile), *spec.flags),
                ),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = 0
        with contextlib.suppress(LabError):
            self.pid = self._find_first()

    def _find_first(self) -> int:
        """Return the machine's number of process 1 in there."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found: list[int] = []

        def look() -> bool:
            if self._process.poll() is not None:
                raise LabError(f"the container did not start: {self.output()}")
            with contextlib.suppress(OSError):
                found[:] = [int(word) for word in children.read_text().split()]
            return bool(found)

        wait_for("a process in the container", look, within_s=START_S)
        return found[0]

    def output(self) -> str:
        """What it has printed so far, both streams."""
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone gets none."""
        if self.pid and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def ended(self) -> int | None:
        """Its exit status once it has ended: 0 and more by itself, negative by a signal."""
        status = self._process.poll()
        return None if status is None else _by_signal(status)

    def wait(self, within_s: float) -> int:
        """Wait for its end and return `ended`. Raises subprocess.TimeoutExpired."""
        return _by_signal(self._process.wait(within_s))

    def children(self) -> list[tuple[int, str]]:
        """Return the processes below it: number and name."""
        return _below(self.pid)

    def status(self, name: str) -> str:
        """Return a line of /proc/PID/status, like VmRSS."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
        raise KeyError(name)

    def rss_mib(self) -> float:
        """Memory that is really in use."""
        return int(self.status("VmRSS").split()[0]) / 1024

    def longest_turn(self) -> turns.Turn:
        """The longest turn of its loop until now, in CPU."""
        return turns.longest_in(self.folder / TURNS)

    def remove(self) -> None:
        """Kill it and remove its cgroup. Doing so twice is fine."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(START_S)
        if self.group is not None:
            cgroup.remove(self.group)
            self.group = None


def _by_signal(status: int) -> int:
    """A shell says 128 + N for a command that signal N has ended."""
    return 128 - status if status > 128 else status


def _below(pid: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError):
        # A child belongs to the thread that made it.
        tasks = [(each / "children").read_text() for each in Path(f"/proc/{pid}/task").iterdir()]
        for word in " ".join(tasks).split():
            with contextlib.suppress(OSError):
                found.append((int(word), Path(f"/proc/{word}/comm").read_text().strip()))
            found += _below(int(word))
    return found


Probe = Callable[[Container], bool]
"""Whether a container is Ready."""
