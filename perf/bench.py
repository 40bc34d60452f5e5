"""One run of the benchmark: who takes part, rounds, and the measuring of one server.

What callers may rely on: `field` ends everything it started; in each round another server begins, so what drifts
falls on all alike; every run is looked at, and one with a lost or wrong answer counts nowhere and is shown.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from perf import cpu, day, places, questions, servers
from perf.contestants import Contestant
from perf.load import Load, Outcome, Prepared
from perf.loadgen import LoadError
from perf.places import Place
from perf.results import Block
from perf.servers import Server, StartError
from perf.targets import TARGETS
from tests.support import unbound, zones

ENTRIES_LEAST = 20_000
DECIDING = {name for target in TARGETS for name in (target.server, target.against)}
"""Servers whose numbers are part of a target; the others stand beside them and have one round."""

OneOf = TypeVar("OneOf", Server, Contestant)
NOT_BROUGHT = "its rules do not bring questions to it"


class Progress(Protocol):
    """Tells people what is going on; see perf.show."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def warn(self, text: str) -> None:
        """Something that stays on the screen."""


@dataclass
class Bench:
    """What a workload needs. `block` is the workload's own; the others stay. `nodes`: each server has a node."""

    contestants: Sequence[Contestant]
    load: Load
    progress: Progress
    rounds: int
    scale: float
    server_cpu: int
    load_cpu: int
    block: Block
    workload: str = ""
    nodes: bool = False

    def scaled(self, number: float, least: int = 1) -> int:
        """A size at this run's scale."""
        return max(least, int(number * self.scale))

    @contextmanager
    def upstream(self) -> Iterator[unbound.Unbound]:
        """An authoritative unbound on the load's processor. Each server has one where it is; all are alike."""
        served = {".": zones.ROOT, "perf.example.": questions.PERF_ZONE, **day.zones()}
        lines = ["verbosity: 0", "so-rcvbuf: 4m", "incoming-num-tcp: 1100"]
        with unbound.running(served=served, pin_to_cpu=self.load_cpu, server_lines=lines) as running:
            yield running

    @contextmanager
    def place(self, contestant: Contestant) -> Iterator[Place]:
        """Where this server runs."""
        if not self.nodes:
            yield places.plain()
            return
        with places.node(address=not contestant.device, rules=not contestant.rules) as place:
            yield place

    @contextmanager
    def one(self, contestant: Contestant, entries: int) -> Iterator[Server | None]:
        """One server; None, and noted, when it does not start."""
        with ExitStack() as stack:
            self.progress.say(f"{self.workload}: starting {contestant.name}")
            server = None
            try:
                place = stack.enter_context(self.place(contestant))
                with place.inside():
                    upstream = stack.enter_context(self.upstream())
                running = servers.running(
                    contestant,
                    place,
                    upstream=upstream,
                    entries=max(entries, ENTRIES_LEAST),
                    on_cpu=self.server_cpu,
                )
                server = stack.enter_context(running)
            except (StartError, OSError) as problem:
                self.progress.warn(str(problem))
                self.block.missing[contestant.name] = str(problem)
            yield server

    @contextmanager
    def field(
        self, entries: int, takes_part: Callable[[Contestant], bool] = lambda _: True
    ) -> Iterator[list[Server]]:
        """All servers that take part, running at once; those that are not asked are idle."""
        with ExitStack() as stack:
            started = [
                stack.enter_context(self.one(contestant, entries))
                for contestant in self.contestants
                if takes_part(contestant)
            ]
            yield [server for server in started if server is not None]

    def turns(self, everybody: Sequence[OneOf], parts: int = 1) -> Iterator[tuple[int, OneOf]]:
        """Every server in every round, another one first each time; those that decide nothing in the first only.

        parts  Into which each round is divided.
        """
        for number in range(self.rounds * parts):
            for place in range(len(everybody)):
                one = everybody[(place + number) % len(everybody)]
                if number == 0 or one.name in DECIDING:
                    yield number, one

    def warm(self, case: str, server: Server, known: Prepared, *, limit_s: int = 60) -> bool:
        """Ask once for everything in `known`, unmeasured; False, and noted, when an answer is not right."""
        if not server.contestant.forwards:
            return True  # the floor knows no names
        self.progress.say(f"{self.workload}: {server.name}, filling the cache for {case}")
        try:
            problem = self.own(server, known, limit_s=limit_s).problem
        except LoadError as error:
            problem = str(error)
        if problem:
            self.block.note(case, server.name, {}, problem=f"filling the cache: {problem}")
        return not problem

    def own(
        self,
        server: Server,
        asked: Prepared,
        *,
        tcp: bool = False,
        sockets: int = 50,
        rate: int = 0,
        burst: int = 1,
        repeat: int = 1,
        limit_s: int = 60,
    ) -> Outcome:
        """Ask `server` with our generator. Raises LoadError."""
        return self.load.own(
            server.plan.place,
            asked,
            judged=server.contestant.forwards,
            tcp=tcp,
            sockets=sockets,
            rate=rate,
            burst=burst,
            repeat=repeat,
            limit_s=limit_s,
        )

    def dnsperf(
        self,
        server: Server,
        asked: Prepared,
        *,
        repeat: int = 1,
        clients: int = 50,
        outstanding: int = 100,
        tcp: bool = False,
    ) -> Outcome:
        """Ask `server` with dnsperf. Raises LoadError."""
        return self.load.dnsperf(
            server.plan.place,
            asked,
            repeat=repeat,
            clients=clients,
            outstanding=outstanding,
            tcp=tcp,
            judged=server.contestant.forwards,
        )

    def measure(
        self,
        case: str,
        server: Server,
        act: Callable[[], Outcome],
        *,
        sample: Prepared | None = None,
        hits: bool = False,
    ) -> None:
        """One run: its cost, its answers, how much was asked upstream. `sample` is looked into afterwards."""
        self.progress.say(f"{self.workload}: {server.name}, {case}")
        values: dict[str, float] = {}
        outcome = None
        try:
            if not server.brought():
                raise OSError(NOT_BROUGHT)
            asked_before = asyncio.run(server.upstream.queries())
            counts_before = server.cache_counts() if hits else None
            with servers.scraped(server):
                before_ns = cpu.tree_used_ns(server.pid)
                outcome = act()
                used_ns = cpu.tree_used_ns(server.pid) - before_ns
            counts_after = server.cache_counts() if hits else None
            asked = asyncio.run(server.upstream.queries()) - asked_before
            problem = outcome.problem or ("" if server.brought() else NOT_BROUGHT)
            problem = problem or (self.own(server, sample).problem if sample else "")
            if not problem:
                values = _values(outcome, used_ns, asked)
                if counts_before and counts_after:
                    hit, stale, number = (a - b for a, b in zip(counts_after, counts_before, strict=True))
                    values["hit_percent"] = 100 * (hit - stale - outcome.expired) / max(1, number)
        except (LoadError, OSError) as error:
            problem = str(error)
        if problem:
            self.progress.warn(f"does not count: {server.name}, {case}: {problem}")
        self.block.note(
            case,
            server.name,
            values,
            sent=outcome.sent if outcome else 0,
            lost=outcome.lost if outcome else 0,
            rcodes=outcome.rcodes if outcome else {},
            problem=problem,
        )


def _values(outcome: Outcome, used_ns: int, asked_upstream: int) -> dict[str, float]:
    values = {
        "cpu_us": used_ns / 1000 / outcome.answered,
        "rate": outcome.answered / outcome.seconds,
        "asked_percent": 100 * asked_upstream / outcome.sent,
    }
    if outcome.latency_us:
        for name, key in (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")):
            values[name] = outcome.latency_us[key]
        values["late_us"] = outcome.late_us["p99"]
    return values
