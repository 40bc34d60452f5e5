"""`python -m perf.smoke`: microseconds of processor time for one answer, ours beside unbound's, in under a minute.

Three kinds of question, all over UDP, as many as the server takes:

    hit      names asked before, written as a stub resolver writes them: our packet cache has the bytes
    stored   the same names in capitals: the packet cache does not take those, the answer is in the store
    miss     names that nobody asked before, fetched from an authoritative unbound

Both servers forward to the same upstream, run pinned to one processor, and are measured in turns; the load and
the upstream have the other processor. What counts is the server's user and system time (`perf.cpu`) for each
question of a run. A run with a lost question, another rcode than NOERROR or an answer of an unexpected size
does not count and is shown. The table has medians over the rounds and, in brackets, the extremes.

    --rounds N       rounds (5)
    --scale X        questions per run, as a factor (1.0); 0.02 shows in seconds that everything runs
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from perf import cpu, loadgen
from tests.support import process, unbound, zones

NAMES = 1000
ZONE = """\
$ORIGIN perf.example.
@       3600 IN SOA ns.perf.example. hostmaster.perf.example. 1 7200 1800 86400 60
@       3600 IN NS ns.perf.example.
ns      3600 IN A 192.0.2.53
*       3600 IN A 192.0.2.1
"""
ANSWER_BYTES = 16  # one A record with a compressed name: what an answer is longer than its question

COREFILE = """\
.:{port} {
    bind {host}
    errors
    cache 3600
    forward . UPSTREAM
}
"""


@dataclass(frozen=True)
class Kind:
    """A kind of question: how many different ones in a run, and how often each is asked."""

    name: str
    different: int
    repeat: int

    def questions(self, run: str) -> Iterator[str]:
        """The questions of one run. `run` is part of names that must be new."""
        for number in range(self.different):
            if self.name == "miss":
                yield f"{run}-{number}.perf.example A"
            else:
                name = f"name{number}.perf.example"
                yield f"{name.upper() if self.name == 'stored' else name} A"


KINDS = (Kind("hit", NAMES, 40), Kind("stored", NAMES, 15), Kind("miss", 4000, 1))


@dataclass
class Contestant:
    """One server, and what was measured: microseconds and answers per second by kind."""

    name: str
    host: str
    port: int
    pid: int
    us: dict[str, list[float]] = field(default_factory=dict)
    rate: dict[str, list[float]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 when a kind has no run that counts."""
    parser = argparse.ArgumentParser(prog="python -m perf.smoke", description="CPU time per answer beside unbound.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args(argv)
    kinds = [Kind(k.name, max(1, int(k.different * min(1, options.scale))), k.repeat) for k in KINDS]
    server_cpu, load_cpu = cpu.cores()
    if server_cpu == load_cpu:
        print("one processor only: load and server disturb each other, compare nothing but the ratio")
    with ExitStack() as stack:
        contestants = start(stack, server_cpu, load_cpu)
        for contestant in contestants:
            for kind in kinds[:2]:  # known names are known before the first measured run
                warm_up = loadgen.run(contestant.host, contestant.port, kind.questions(""), repeat=2, cpu=load_cpu)
                if not warm_up.clean:
                    contestant.rejected.append(f"{kind.name}, warming up: {warm_up.describe()}")
        for number in range(options.rounds):
            for kind in kinds:
                # Each goes first in every other round: what drifts falls on both alike.
                for contestant in contestants if number % 2 else reversed(contestants):
                    measure(contestant, kind, f"r{number}", load_cpu)
    print(table(contestants, kinds))
    return int(any(not contestant.us.get(kind.name) for contestant in contestants for kind in kinds))


def start(stack: ExitStack, server_cpu: int, load_cpu: int) -> list[Contestant]:
    """Start upstream and contestants, for as long as `stack` lasts."""
    zone = {".": zones.ROOT, "perf.example.": ZONE}
    upstream = stack.enter_context(unbound.running(served=zone, pin_to_cpu=load_cpu))
    corefile = COREFILE.replace("UPSTREAM", f"{upstream.host}:{upstream.port}")
    ours = stack.enter_context(process.running(corefile, pin_to_cpu=server_cpu))
    peer = stack.enter_context(
        unbound.running(
            served={},
            forward_to=(upstream.host, upstream.port),
            pin_to_cpu=server_cpu,
            server_lines=["verbosity: 0"],
        )
    )
    return [
        Contestant("node-resolver", ours.host, ours.port, ours.pid),
        Contestant("unbound", peer.host, peer.port, peer.pid),
    ]


def measure(contestant: Contestant, kind: Kind, run: str, load_cpu: int) -> None:
    """One run of one kind against one server; notes what it cost, or why it does not count."""
    before_ns = cpu.used_ns(contestant.pid)
    result = loadgen.run(contestant.host, contestant.port, kind.questions(run), repeat=kind.repeat, cpu=load_cpu)
    used_ns = cpu.used_ns(contestant.pid) - before_ns
    wrong_size = (
        abs(result.response_bytes - result.request_bytes - ANSWER_BYTES) > 1
    )  # averages are cut to integers
    if not result.clean or wrong_size:
        contestant.rejected.append(f"{kind.name} {run}: {result.describe()}")
        return
    contestant.us.setdefault(kind.name, []).append(used_ns / 1000 / result.sent)
    contestant.rate.setdefault(kind.name, []).append(result.completed / result.seconds)


def table(contestants: Sequence[Contestant], kinds: Sequence[Kind]) -> str:
    """Return what was measured, for people and for a commit message."""
    ours, peer = contestants
    rows = [f"{'CPU µs per answer':<18}{ours.name:>22}{peer.name:>22}{'ratio':>8}{'answers/s (ours, peer)':>26}"]
    for kind in kinds:
        cells = [f"{kind.name:<18}", spread(ours.us.get(kind.name)), spread(peer.us.get(kind.name))]
        both = ours.us.get(kind.name), peer.us.get(kind.name)
        ratio = f"{statistics.median(both[0]) / statistics.median(both[1]):.2f}" if both[0] and both[1] else "-"
        rates = ", ".join(f"{statistics.median(c.rate.get(kind.name, [0])):,.0f}" for c in contestants)
        rows.append("".join([*cells, f"{ratio:>8}", f"{rates:>26}"]))
    for contestant in contestants:
        rows += [f"does not count: {contestant.name} {reason}" for reason in contestant.rejected]
    return "\n".join(rows)


def spread(values: Sequence[float] | None) -> str:
    """Median and extremes as one cell."""
    if not values:
        return f"{'none':>22}"
    return f"{f'{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]':>22}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
