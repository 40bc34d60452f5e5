"""Load from dnsperf, pinned to one processor, and what came of it.

`run` sends every question of a list, `repeat` times over, as fast as answers come with `outstanding` questions
in the air, and returns when all are answered or lost. Bounded by the number of questions and `LIMIT_S`.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

LIMIT_S = 60
TIMEOUT_S = 5  # a question without an answer by then is lost


@dataclass(frozen=True)
class Result:
    """One run. Sizes are averages in whole bytes, as dnsperf prints them."""

    sent: int
    completed: int
    lost: int
    rcodes: dict[str, int]
    seconds: float
    request_bytes: int
    response_bytes: int

    @property
    def clean(self) -> bool:
        """Whether every question was answered, with NOERROR."""
        return self.lost == 0 and self.sent > 0 and self.rcodes == {"NOERROR": self.sent}

    def describe(self) -> str:
        """What was lost and which rcodes came, for people."""
        rcodes = ", ".join(f"{name} {number}" for name, number in sorted(self.rcodes.items()))
        return f"{self.sent} sent, {self.lost} lost, {rcodes or 'no answer'}, {self.response_bytes} bytes each"


def run(
    host: str,
    port: int,
    questions: Iterable[str],
    *,
    repeat: int = 1,
    outstanding: int = 100,
    clients: int = 10,
    cpu: int,
) -> Result:
    """Send `questions` (lines of `name TYPE`) `repeat` times. Raises LoadError when dnsperf fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as data:
        data.write("".join(f"{question}\n" for question in questions))
        data.flush()
        command = ["taskset", "-c", str(cpu)]
        command += dnsperf(host, port, data.name, repeat=repeat, outstanding=outstanding, clients=clients)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise LoadError(f"dnsperf: {problem}") from problem
    if done.returncode:
        raise LoadError(f"dnsperf: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def dnsperf(
    host: str, port: int, path: str, *, repeat: int, outstanding: int, clients: int, more: Iterable[str] = ()
) -> list[str]:
    """The command that asks the questions of the file at `path`; `more` are dnsperf's own options."""
    command = ["dnsperf", "-s", host, "-p", str(port), "-d", path, "-n", str(repeat)]
    return [*command, "-q", str(outstanding), "-c", str(clients), "-T", "1", "-t", str(TIMEOUT_S), *more]


class LoadError(Exception):
    """dnsperf did not run, or printed something else than its statistics."""


def parse(text: str) -> Result:
    """Read dnsperf's statistics. Raises LoadError."""

    def number(pattern: str) -> str:
        found = re.search(pattern, text)
        if found is None:
            raise LoadError(f"dnsperf printed no line like {pattern!r}")
        return found.group(1)

    codes = re.search(r"Response codes: +(.*)", text)
    rcodes = re.findall(r"([A-Z0-9]+) (\d+) \(", codes.group(1)) if codes else []
    return Result(
        sent=int(number(r"Queries sent: +(\d+)")),
        completed=int(number(r"Queries completed: +(\d+)")),
        lost=int(number(r"Queries lost: +(\d+)")),
        rcodes={name: int(count) for name, count in rcodes},
        seconds=float(number(r"Run time \(s\): +([\d.]+)")),
        request_bytes=int(number(r"Average packet size: +request (\d+)")),
        response_bytes=int(number(r"Average packet size: +request \d+, response (\d+)")),
    )
