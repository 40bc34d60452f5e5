"""The workloads: what is asked, of whom, how fast. `WORKLOADS` has them in the order in which they run.

Each is a function that takes a `Bench` and notes its runs in the bench's block. Sizes are constants at the top of
their files; `Bench.scaled` shrinks them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from perf.bench import Bench
from perf.workloads import hot, whole


@dataclass(frozen=True)
class Workload:
    """One of the things to measure.

    metrics  Columns of its table; the first is the one that pictures and the summary show.
    bare     Measured without nodes: on loopback addresses, where nobody has rules and no connection is tracked.
    once_s   Seconds that it takes for each server, about, at full scale,
    round_s  and for each server in each round.
    """

    name: str
    title: str
    about: str
    metrics: tuple[str, ...]
    run: Callable[[Bench], None]
    once_s: float
    round_s: float
    picture: Literal["bars", "lines"] = "bars"
    bare: bool = False

    def planned_s(self, deciding: int, others: int, rounds: int) -> float:
        """About how long it takes with so many servers; `others` have one round only."""
        return self.once_s * (deciding + others) + self.round_s * (deciding * rounds + others)


_COST = ("cpu_us", "rate", "asked_percent")

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "cached-udp",
            "Cached, UDP",
            f"{hot.NAMES:,} known names of TTL 30, popular as Zipf says, half of the questions with EDNS; flat out "
            "from 50 ports with dnsperf, then at steady rates from 50 addresses.",
            _COST,
            hot.cached_udp,
            1,
            15,
        ),
        Workload(
            "cached-bare",
            "Cached, UDP, without nodes",
            "The same questions, flat out, on bare loopback addresses: no packet meets a rule, no connection is "
            "tracked. What is left is the server and the kernel's sockets.",
            _COST,
            hot.cached_bare,
            1,
            4,
            bare=True,
        ),
        Workload(
            "latency",
            "Latency, cached, open loop",
            "The same questions at steady rates, whether or not answers come: from just before the send to the "
            "kernel's stamp on the answer. `load late` is how late the generator itself was. Each round is divided "
            f"into {hot.LATENCY_PARTS} parts with everybody's turns in each; medians are over the parts.",
            ("p50_us", "p99_us", "p999_us", "late_us", "cpu_us"),
            hot.latency,
            1,
            25,
        ),
        Workload(
            "stored",
            "Stored, not rendered",
            "Known names in capitals: the answer is in the store, but no packet cache has these bytes.",
            _COST,
            hot.stored,
            1,
            1.5,
        ),
        Workload(
            "unseen",
            "Unseen names",
            "Names that nobody asked for before: each is fetched from upstream and kept.",
            _COST,
            hot.unseen,
            1,
            1.2,
        ),
        Workload(
            "tcp-pipelined",
            "Cached, TCP, pipelined",
            "Known names over TCP connections that stay open. With 2 questions in the air on each, as stub "
            "resolvers ask, hardly any read brings more than one; with 20, as a forwarder asks, pipelining is in "
            "earnest: the target is about that case.",
            _COST,
            hot.tcp_pipelined,
            1,
            4,
        ),
        Workload(
            "tcp-connections",
            "Cached, TCP, one question a connection",
            f"{hot.CONNECTIONS:,} connections of one question each, {hot.CONNECTIONS_TIMES} times over, 100 at a "
            "time from 50 addresses.",
            ("cpu_us", "rate", "p50_us", "p99_us"),
            hot.tcp_connections,
            1,
            0.5,
        ),
        Workload(
            "day",
            "A day in a cluster",
            f"Pairs of A and AAAA through `ndots:5` search lists at {whole.DAY_RATE:,} q/s, 5 % of lookups for "
            "names outside; TTL 5 s in the cluster, 30 s outside. Expired answers that were served are no hits: "
            "neither stale ones nor those with TTL 0, which have outlived the TTL of their record.",
            ("cpu_us", "hit_percent", "asked_percent", "p50_us", "p99_us"),
            whole.a_day,
            1,
            27,
        ),
        Workload(
            "growth-names",
            "Cost as names grow",
            "Known names of TTL 3600, asked for evenly, CPU per answer by how many there are.",
            ("cpu_us", "rate", "rss_mib"),
            whole.growth_names,
            50,
            5,
            "lines",
        ),
        Workload(
            "growth-sockets",
            "Cost as client sockets grow",
            "1,000 known names, CPU per answer by the number of client sockets.",
            ("cpu_us", "rate"),
            whole.growth_sockets,
            1,
            4.5,
            "lines",
        ),
        Workload(
            "memory",
            "Memory",
            "Resident memory of the whole process tree by the number of names kept, each with one address.",
            ("rss_mib",),
            whole.memory,
            0,
            5,
        ),
        Workload(
            "start",
            "Start",
            "From the start of the process to the first right answer to a forwarded question.",
            ("start_ms",),
            whole.start,
            0,
            1,
        ),
        Workload(
            "idle",
            "Idle",
            "CPU while nobody asks, all servers at once; metrics are scraped every 2 s where there are any.",
            ("cpu_percent",),
            whole.idle,
            1,
            10,
        ),
    )
}
