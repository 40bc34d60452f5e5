"""Generations of our real process on one address, one port and one hand-over directory.

    with generations.place("cache 300") as place:
        old, new = place.start(), place.start()
        old.stop()

What callers may rely on: `start` returns when the process serves; all of them have ended when the block is left,
whatever state they were in; nothing that a test ends is anybody else's.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support import mirror
from tests.support.addresses import free_port, loopback
from tests.support.process import ROOT
from tests.support.scrape import Scrape, fetch

PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.01

OTHER_VERSION = "import sys; from resolver.system import handover; handover.VERSION = 2; "
RUN = "from resolver.cli import main; sys.exit(main())"


class Generation:
    """One process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, status: tuple[str, int]) -> None:
        self.pid = process.pid
        self.status = status
        self._process = process
        self._log = log

    def output(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def said(self, text: str, within_s: float = PATIENCE_S) -> None:
        """Wait until it has said `text`."""
        until(lambda: text in self.output(), within_s, self.output)

    def send(self, which: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        self._process.send_signal(which)

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end; return the exit status."""
        return self._process.wait(within_s)

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.send(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL, whatever it does, and wait for the end."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def page(self) -> Scrape:
        """Its own metrics page."""
        return fetch(*self.status)

    def descriptors(self) -> dict[int, str]:
        """Its open descriptors and what they are."""
        folder = Path(f"/proc/{self.pid}/fd")
        found = {}
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = os.readlink(entry)
        return found

    def is_closed_on_exec(self, number: int) -> bool:
        """Whether no child inherits the descriptor."""
        lines = Path(f"/proc/{self.pid}/fdinfo/{number}").read_text().splitlines()
        flags = next(line.split()[1] for line in lines if line.startswith("flags"))
        return bool(int(flags, 8) & os.O_CLOEXEC)

    def sockets_bound_to(self, port: int) -> set[str]:
        """Its UDP and TCP sockets that are bound to the port, by inode."""
        inodes = set()
        for name in ("udp", "tcp"):
            for line in Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                bound_to = int(fields[1].rpartition(":")[2], 16)
                if bound_to == port and (name == "udp" or fields[3] == "0A"):
                    inodes.add(f"socket:[{fields[9]}]")
        return inodes & set(self.descriptors().values())


class Place:
    """Where the generations serve. `folder` has the hand-over directory and the logs."""

    def __init__(self, folder: Path, upstream: mirror.Mirror, text: str) -> None:
        self.host = loopback()
        self.port = free_port(self.host)
        self.upstream = upstream
        self.text = text
        self.bind = f"bind {self.host}"
        self.directory = folder / "handover"
        self.started: list[Generation] = []
        self._folder = folder

    def start(
        self, *, before: str = "", flags: Sequence[str] = (), serves: bool = True, directory: bool = True
    ) -> Generation:
        """Start one.

        before     Python that runs first, in the same process.
        serves     Wait until it does.
        directory  Give it the hand-over directory.
        """
        number = len(self.started)
        status = loopback()
        page = (status, free_port(status))
        corefile = self._folder / f"Corefile{number}"
        corefile.write_text(
            f".:{self.port} {{\n    {self.bind}\n    prometheus {page[0]}:{page[1]}\n    {self.text}\n"
            f"    forward . {self.upstream.host}:{self.upstream.port} {{\n        prefer_udp\n    }}\n}}\n"
        )
        log = self._folder / f"log{number}"
        handover = ["-handover-dir", str(self.directory)] if directory else []
        program = ["-c", before + RUN] if before else ["-m", "resolver"]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                [sys.executable, *program, "-conf", str(corefile), *handover, *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
            )
        generation = Generation(process, log, page)
        self.started.append(generation)
        if serves:
            generation.said("node-resolver ")
        return generation

    def outputs(self) -> str:
        """What everyone has said, for a test that fails."""
        return "\n".join(f"--- {number}\n{each.output()}" for number, each in enumerate(self.started))

    def files(self) -> list[str]:
        """What is in the hand-over directory."""
        return sorted(os.listdir(self.directory))


@contextlib.contextmanager
def place(text: str = "cache 300") -> Iterator[Place]:
    """Make room for generations with these directives."""
    with tempfile.TemporaryDirectory(prefix="generations-") as name, mirror.in_a_thread() as upstream:
        made = Place(Path(name), upstream, text)
        try:
            yield made
        finally:
            for generation in made.started:
                if generation.lives:
                    generation.kill()


def until(happened: Callable[[], bool], within_s: float, why: Callable[[], str] = str) -> None:
    """Look until it has happened: files and processes tell nobody."""
    end_s = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end_s, why()
        select.select([], [], [], LOOK_AGAIN_S)
