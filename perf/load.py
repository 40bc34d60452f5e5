"""Load on one server: dnsperf where it can, our own generator (native/load.c) where it cannot, and what came of it.

dnsperf asks as fast as answers come. Ours keeps a steady rate whatever comes back, measures percentiles, asks
from many addresses, opens a TCP connection for each question and looks into every answer.

What callers may rely on: programs that were started here have ended when a function returns or raises, and
nothing runs longer than `limit_s`. Raises LoadError.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from perf import loadgen
from perf.loadgen import LoadError
from perf.places import Place
from perf.questions import Ask, lines, pack

LIMIT_S = 60
BUILD_S = 60.0
SOURCES = 50  # client addresses, as of so many pods
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
NATIVE = Path(__file__).resolve().parent / "native"


@dataclass(frozen=True)
class Outcome:
    """What came back. Latency is in microseconds by percentile; `late_us` tells how late questions went out.

    expired  Answers with TTL 0, which no zone here has: they have outlived it. Counted by our generator only.
    """

    sent: int
    answered: int
    lost: int
    wrong: int
    rcodes: dict[str, int]
    seconds: float
    latency_us: dict[str, float] = field(default_factory=dict)
    late_us: dict[str, float] = field(default_factory=dict)
    expired: int = 0

    @property
    def problem(self) -> str:
        """Why this run does not count; empty when it does."""
        if self.lost or self.wrong or self.answered != self.sent or not self.sent:
            rcodes = ", ".join(f"{name} {number}" for name, number in sorted(self.rcodes.items()))
            return f"{self.sent} sent, {self.lost} lost, {self.wrong} wrong, {rcodes or 'no answer'}"
        return ""


class Prepared:
    """Questions as files, each written when it is first needed and used for all servers."""

    def __init__(self, asks: Sequence[Ask], folder: Path) -> None:
        self.asks = asks
        self._folder = Path(tempfile.mkdtemp(dir=folder))

    def packed(self, judged: bool) -> Path:
        """For our generator."""
        path = self._folder / f"packed-{judged}"
        if not path.exists():
            path.write_bytes(pack(self.asks, judged=judged))
        return path

    def text(self, edns: bool) -> Path:
        """For dnsperf, which asks all or none with EDNS: one file for each."""
        path = self._folder / f"text-{edns}"
        if not path.exists():
            path.write_text("".join(f"{line}\n" for line in lines(a for a in self.asks if a.edns == edns)))
        return path

    def forget(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def compile_native(folder: Path) -> tuple[Path, Path]:
    """Compile load generator and floor into `folder`. Raises LoadError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadError("no C compiler (Debian: apt-get install gcc libc6-dev); load and floor are compiled here")
    made = []
    for name in ("load", "echo"):
        command = [compiler, "-O2", "-o", str(folder / name), str(NATIVE / f"{name}.c"), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
        if done.returncode:
            raise LoadError(f"{name}.c does not compile: {done.stderr.strip()[-500:]}")
        made.append(folder / name)
    return made[0], made[1]


class Load:
    """Asks one server at a time; this process and what it starts must be on the load's processor already."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def prepare(self, asks: Iterable[Ask]) -> Prepared:
        """Questions that are asked more than once, of several servers."""
        return Prepared(list(asks), self._folder)

    def dnsperf(
        self,
        place: Place,
        questions: Prepared,
        *,
        repeat: int = 1,
        clients: int = 50,
        outstanding: int = 100,
        tcp: bool = False,
        judged: bool = True,
    ) -> Outcome:
        """Ask as fast as answers come, `outstanding` in the air of all clients.

        Those with EDNS are asked by a dnsperf of their own.

        Without `judged` an answer may be as short as its question: the floor sends questions back.
        """
        kinds = sorted({ask.edns for ask in questions.asks})
        commands = []
        for edns in kinds:
            more = ["-a", place.source, *(["-e"] if edns else []), *(["-m", "tcp"] if tcp else [])]
            path = str(questions.text(edns))
            share = {"outstanding": outstanding // len(kinds), "clients": max(1, clients // len(kinds))}
            commands.append(loadgen.dnsperf(place.host, place.port, path, repeat=repeat, more=more, **share))
        with place.inside():
            results = [loadgen.parse(text) for text in run(commands, LIMIT_S)]
        rcodes: Counter[str] = Counter()
        for result in results:
            rcodes.update(result.rcodes)
        completed = sum(result.completed for result in results)
        # An answer without its record is as long as its question.
        empty = sum(r.completed for r in results if r.response_bytes - r.request_bytes < 15)
        return Outcome(
            sent=sum(result.sent for result in results),
            answered=completed,
            lost=sum(result.lost for result in results),
            wrong=max(empty if judged else 0, completed - rcodes["NOERROR"]),
            rcodes=dict(rcodes),
            seconds=max(result.seconds for result in results),
        )

    def own(
        self,
        place: Place,
        questions: Prepared,
        *,
        tcp: bool = False,
        judged: bool = True,
        sockets: int = SOURCES,
        window: int = 100,
        rate: int = 0,
        burst: int = 1,
        repeat: int = 1,
        limit_s: int = LIMIT_S,
    ) -> Outcome:
        """Ask with our own generator; see the head of native/load.c for the options."""
        command = [str(self._program), "tcp" if tcp else "udp", place.host, str(place.port)]
        command.append(str(questions.packed(judged)))
        options = {"sockets": sockets, "source": place.source, "sources": SOURCES, "window": window, "rate": rate}
        options |= {"burst": burst, "repeat": repeat, "limit_s": limit_s}
        command += [f"{name}={value}" for name, value in options.items()]
        with place.inside():
            (printed,) = run([command], limit_s + 10)
        return read_own(printed)


def read_own(printed: str) -> Outcome:
    """Read the line that native/load.c prints. Raises LoadError."""
    try:
        said = json.loads(printed)
        return Outcome(
            sent=said["sent"],
            answered=said["answered"],
            lost=said["lost"],
            wrong=said["wrong"],
            rcodes={RCODES.get(int(code), code): number for code, number in said["rcodes"].items()},
            seconds=said["seconds"],
            latency_us=said["latency_us"],
            late_us=said["late_us"],
            expired=said["expired"],
        )
    except (ValueError, KeyError) as problem:
        raise LoadError(f"the load generator printed something else: {printed[:200]!r}") from problem


def run(commands: Sequence[Sequence[str]], limit_s: float) -> list[str]:
    """Run all commands at once and return what they printed. None of them outlives this call."""
    until_s = time.monotonic() + limit_s
    printed = []
    with ExitStack() as stack:
        started = []
        for command in commands:
            try:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            except OSError as problem:
                raise LoadError(f"{command[0]}: {problem.strerror}") from problem
            stack.callback(_end, process)
            started.append(process)
        for process in started:
            try:
                out, err = process.communicate(timeout=max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired as problem:
                raise LoadError(f"the load was not over after {limit_s:.0f} s") from problem
            if process.returncode:
                raise LoadError(f"{(err or out).strip()[-300:] or 'the load generator failed'}")
            printed.append(out)
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()
