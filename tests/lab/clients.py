"""Pods as clients: what applications do (glibc's and musl's getaddrinfo, dig) and load at a steady rate.

    lookups = Lookups(pod, program, names)     # one after another until `end`; each with its result and time
    load = Load(pod, program, "udp", CLUSTER_4, pace=Pace(rate=1000), names=["a.lab", "*.b.lab"], folder=folder)

Every program here runs in its pod's network namespace and in a mount namespace with the pod's resolv.conf. Both
kinds can be asked what they saw and print themselves as a time line; times are those of `time.monotonic`.
"""

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.addresses import author
from tests.lab.spaces import LabError, Space

END_S = 20.0
BUCKET_S = 0.1
NATIVE = Path(__file__).resolve().parent / "native"
_ETC = """\
set -e
mount --bind "$1" "$(readlink -f /etc/resolv.conf)"
mount --bind "$2" "$(readlink -f /etc/nsswitch.conf)"
shift 2
exec "$@"
"""


@dataclass(frozen=True)
class Programs:
    """The compiled clients."""

    glibc: Path
    musl: Path
    steady: Path


def compile_all(folder: Path) -> Programs:
    """Compile them into `folder`. Raises LabError."""
    made = Programs(folder / "lookup-glibc", folder / "lookup-musl", folder / "steady")
    for compiler, source, target in (
        (["cc"], "lookup.c", made.glibc),
        (["musl-gcc", "-static"], "lookup.c", made.musl),
        (["cc"], "steady.c", made.steady),
    ):
        words = [*compiler, "-O2", "-Wall", "-Werror", "-o", str(target), str(NATIVE / source)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise LabError(f"{' '.join(words)}: {done.stderr}")
    return made


class Pod:
    """A namespace with a resolv.conf; the node itself is one too, as a client."""

    def __init__(self, space: Space, folder: Path, nameserver: str, *, options: str = "ndots:5") -> None:
        """Prepare its /etc."""
        self.space = space
        self.what = space.what
        self._resolv_conf = folder / f"{space.what}.resolv.conf"
        self._nsswitch = folder / f"{space.what}.nsswitch.conf"
        self._nsswitch.write_text("hosts: files dns\n")
        self.point_at(nameserver, options=options)

    def point_at(self, nameserver: str, *, options: str = "ndots:5") -> None:
        """Write its resolv.conf; who is already running has read the old one."""
        self._resolv_conf.write_text(
            f"nameserver {nameserver}\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n"
            f"options {options}\n"
        )

    def command(self, *words: str) -> list[str]:
        """Return the command that runs these words as a program of this pod."""
        inside = ["sh", "-c", _ETC, "sh", str(self._resolv_conf), str(self._nsswitch), *words]
        return self.space.command("unshare", "--mount", *inside)

    def run(self, *words: str) -> str:
        """Run a program of this pod to its end and return what it printed, complaints too."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=END_S, check=False)
        return done.stdout + done.stderr

    def dig(self, *words: str) -> list[str]:
        """Return the short answer of dig, line by line."""
        return self.run("dig", "+short", "+time=2", "+tries=1", *words).split("\n")[:-1]


@dataclass(frozen=True)
class Lookup:
    """One getaddrinfo. `error` is empty when it found addresses."""

    at_s: float
    taken_ms: float
    name: str
    error: str
    addresses: tuple[str, ...]

    @property
    def by(self) -> str:
        """Who answered: the authors of its addresses."""
        return "+".join(sorted({author(address) for address in self.addresses})) or "nobody"


class Lookups:
    """getaddrinfo in a pod, one after another, until `end`."""

    def __init__(
        self, pod: Pod, program: Path, names: Sequence[str], *, every_ms: float, times: int, folder: Path
    ) -> None:
        """Begin."""
        self.who = f"{pod.what} {program.name}"
        self._out = folder / f"lookups-{time.monotonic_ns()}"
        with self._out.open("wb") as output:
            self._process = subprocess.Popen(
                pod.command("setpriv", "--pdeathsig", "KILL", str(program), str(every_ms), str(times), *names),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def seen(self) -> list[Lookup]:
        """All lookups that have had their result by now."""
        found = []
        for line in self._out.read_text().splitlines(keepends=True):
            words = line.split()
            if not line.endswith("\n") or len(words) < 4 or words[3] not in {"ok", "error"}:
                continue  # a line that is being written, or a complaint of another program
            failed = words[3] == "error"
            error = " ".join(words[4:]) if failed else ""
            addresses = () if failed else tuple(words[4:])
            found.append(Lookup(float(words[0]), float(words[1]), words[2], error, addresses))
        return found

    def end(self, *, finish: bool = False) -> list[Lookup]:
        """Stop it (or let it `finish` its `times`) and return all lookups that have had their result."""
        if not finish:
            self._process.terminate()
        try:
            self._process.wait(END_S)
        finally:
            self.kill()
        found = self.seen
        if not found:
            raise LabError(f"{self.who} has looked nothing up: {self._out.read_text()}")
        return found

    def kill(self) -> None:
        """End it without asking what it saw. Doing so twice is fine."""
        _kill(self._process)

    def describe(self, zero_s: float) -> list[tuple[float, str]]:
        """Return a time line: whenever who answered changes, and each lookup that failed or took over a second."""
        lines = []
        last = ""
        for each in self.seen:
            if each.error or each.taken_ms > 1000 or each.by != last:
                told = each.error or f"answered by {each.by}"
                lines.append((each.at_s - zero_s, f"{self.who}: {each.name} {told} in {each.taken_ms:.1f} ms"))
            last = each.by
        return lines


@dataclass(frozen=True)
class Fate:
    """One question of a load: when it was asked and what became of it."""

    at_s: float
    taken_us: int
    fate: str  # answered, lost, refused, reset, closed
    rcode: int
    by: str
    again: int  # 1: its connection was closed in order, and it was asked on the next one


@dataclass(frozen=True)
class Pace:
    """How a load asks: questions in a second, for how long, over how many sockets that live `turn` questions."""

    rate: int = 1000
    seconds: float = 60.0
    sockets: int = 16
    turn: int = 50
    timeout_ms: int = 1000


class Load:
    """Questions at a steady rate from one pod, each with its fate."""

    def __init__(
        self,
        pod: Pod,
        program: Path,
        protocol: str,
        host: str,
        *,
        pace: Pace,
        names: Sequence[str],
        folder: Path,
    ) -> None:
        """Begin; returns once the first question is about to go out."""
        self.who = f"{pod.what} {protocol} {host}"
        self._out = folder / f"load-{time.monotonic_ns()}"
        sizes = [str(size) for size in (pace.rate, pace.seconds, pace.sockets, pace.turn, pace.timeout_ms)]
        self._process = subprocess.Popen(
            pod.space.command(
                "setpriv", "--pdeathsig", "KILL", str(program), protocol, host, "53", *sizes, str(self._out), *names
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "asking\n":
            self._process.kill()
            raise LabError(f"load does not begin: {self._process.communicate()[0]}")
        self._limit_s = pace.seconds + pace.timeout_ms / 1e3 + END_S
        self.seen: list[Fate] = []

    def end(self, *, early: bool = False) -> list[Fate]:
        """Wait for its end (or stop asking now) and return every question's fate."""
        if self.seen:
            return self.seen
        if early:
            self._process.terminate()
        try:
            printed, _ = self._process.communicate(timeout=self._limit_s)
        finally:
            self._process.kill()
        if self._process.returncode:
            raise LabError(f"load ended with {self._process.returncode}: {printed}")
        for line in self._out.read_text().splitlines():
            at, taken, fate, rcode, address, again = line.split()
            self.seen.append(Fate(float(at), int(taken), fate, int(rcode), author(address), int(again)))
        return self.seen

    def kill(self) -> None:
        """End it without asking what it saw. Doing so twice is fine."""
        _kill(self._process)

    def sum_up(self, since_s: float = 0.0, until_s: float = float("inf")) -> "Sum":
        """Return what became of the questions that were asked within these times."""
        return Sum([each for each in self.seen if since_s <= each.at_s < until_s])

    def describe(self, zero_s: float) -> list[tuple[float, str]]:
        """Return a time line: one line for each `BUCKET_S` that differs from the one before."""
        buckets: dict[int, list[Fate]] = {}
        for each in self.seen:
            buckets.setdefault(int((each.at_s - zero_s) / BUCKET_S), []).append(each)
        lines = []
        last: object = None
        for number, fates in sorted(buckets.items()):
            found = Sum(fates)
            kinds = (frozenset(found.by), frozenset(found.rcodes), found.failed > 0)
            if kinds != last or found.failed:
                lines.append((number * BUCKET_S, f"{self.who}: {found}"))
            last = kinds
        return lines


class Sum:
    """What became of some questions."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self.asked = len(fates)
        self.fates = Counter(each.fate for each in fates)
        answered = [each for each in fates if each.fate == "answered"]
        self.rcodes = Counter(each.rcode for each in answered)
        self.by = Counter(each.by for each in answered)
        self.max_ms = max((each.taken_us / 1e3 for each in answered), default=0.0)
        self.again = sum(each.again for each in fates)
        self.failed = self.asked - len(answered)
        self.last_failed_s = max((each.at_s for each in fates if each.fate != "answered"), default=None)

    @property
    def clean(self) -> bool:
        """Whether every question was answered with NOERROR."""
        return self.asked > 0 and self.failed == 0 and set(self.rcodes) == {0}

    def __str__(self) -> str:
        return (
            f"{self.asked} asked, {dict(self.fates)}, rcodes {dict(self.rcodes)}, by {dict(self.by)},"
            f" longest {self.max_ms:.1f} ms" + (f", {self.again} asked again" if self.again else "")
        )


def _kill(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(END_S)
    if process.stdout is not None:
        process.stdout.close()
