"""What node-resolver means to reach, and what one set of results says of it; and where others are better."""

from collections.abc import Iterator
from dataclasses import dataclass

from perf.results import METRICS, Results
from perf.show import FLOOR, PEER

COMPILED, PYTHON = "ours, compiled", "ours, python"
NODE_CACHE = "node-cache"
WORSE = 1.03  # differences below this are noise


@dataclass(frozen=True)
class Target:
    """A limit on one server's median: times that of the server `against`, or of another `case`, or as it is."""

    workload: str
    case: str
    metric: str
    limit: float
    against: str = ""
    server: str = COMPILED
    against_case: str = ""

    @property
    def text(self) -> str:
        """As people read it."""
        sign = "≤" if METRICS[self.metric].less_is_better else "≥"
        of = self.against or (f"at {self.against_case}" if self.against_case else "")
        limit = f"{sign} {self.limit:g}" + (f" × {of}" if of else "")
        return f"{self.server}, {self.workload}, {self.case}: {METRICS[self.metric].heading} {limit}"

    def measured(self, results: Results) -> float | None:
        """The number that the limit is for; None where it was not measured."""
        block = results.get(self.workload)
        if block is None:
            return None
        if self.against:
            return block.ratio(self.case, self.server, self.against, self.metric)
        row = block.find(self.case, self.server)
        median = row.median(self.metric) if row else None
        if median is None or not self.against_case:
            return median
        other = block.find(self.against_case, self.server)
        base = other.median(self.metric) if other else None
        return median / base if base else None

    def holds(self, measured: float) -> bool:
        """Whether the limit is kept."""
        return measured <= self.limit if METRICS[self.metric].less_is_better else measured >= self.limit


TARGETS = (
    Target("cached-udp", "flat out", "cpu_us", 1.15, FLOOR),
    Target("cached-udp", "flat out", "cpu_us", 0.85, PEER),
    Target("cached-udp", "flat out", "cpu_us", 0.28, NODE_CACHE),
    Target("cached-udp", "flat out", "cpu_us", 1.3, PEER, PYTHON),
    Target("cached-bare", "flat out", "cpu_us", 1.15, FLOOR),
    Target("cached-bare", "flat out", "cpu_us", 0.85, PEER),
    Target("cached-bare", "flat out", "cpu_us", 0.28, NODE_CACHE),
    Target("cached-bare", "flat out", "cpu_us", 1.3, PEER, PYTHON),
    Target("growth-names", "1,000,000 names", "cpu_us", 1.3, against_case="1,000 names"),
    Target("stored", "flat out", "cpu_us", 2.5, FLOOR),
    Target("unseen", "flat out", "cpu_us", 0.95, PEER),
    Target("unseen", "flat out", "cpu_us", 0.75, NODE_CACHE),
    Target("tcp-pipelined", "20 in the air on each of 10", "cpu_us", 0.25, NODE_CACHE),
    Target("tcp-connections", "100 at a time", "cpu_us", 0.6, NODE_CACHE),
    Target("latency", "1,000 q/s", "p50_us", 1.1, PEER),
    Target("latency", "1,000 q/s", "p99_us", 1.1, PEER),
    Target("latency", "1,000 q/s", "p999_us", 1.0, NODE_CACHE),
    Target("day", "2,000 q/s", "cpu_us", 0.4, NODE_CACHE),
    Target("day", "2,000 q/s", "hit_percent", 1.0, NODE_CACHE),
    Target("memory", "0 entries", "rss_mib", 40),
    Target("memory", "10,000 entries", "rss_mib", 1.0, NODE_CACHE),
    Target("start", "first right answer", "start_ms", 600),
    Target("idle", "no questions", "cpu_percent", 0.2),
)


def verdicts(results: Results) -> Iterator[tuple[Target, float | None, str]]:
    """Each target with what was measured and a word for it."""
    for target in TARGETS:
        measured = target.measured(results)
        word = "not measured" if measured is None else "held" if target.holds(measured) else "missed"
        yield target, measured, word


def worse(results: Results, metrics: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, str, str, str, str, float]]:
    """Where a peer is better than one of ours: (workload, case, metric, ours, peer, how many times as good).

    `metrics` says which numbers of a workload are compared. The floor serves nothing and is no peer.
    """
    for workload, block in results.items():
        for case in block.cases():
            for mine in (name for name in block.servers() if name.startswith("ours")):
                for peer in (name for name in block.servers() if not name.startswith("ours") and name != FLOOR):
                    for metric in metrics.get(workload, ()):
                        ratio = block.ratio(case, mine, peer, metric)
                        if ratio and not METRICS[metric].less_is_better:
                            ratio = 1 / ratio
                        if ratio and ratio > WORSE:
                            yield workload, case, metric, mine, peer, ratio
