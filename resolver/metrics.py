"""The numbers that this process keeps of itself: plain integers where things happen, read by a scrape.

What callers may rely on:

- Counting is an addition on an attribute, or one call of `Histogram.observe`; no locks, no label look-ups.
- Counters outlive reloads: `Registry.cache` and `Registry.upstream` give the same object for the same labels.
- Their number is bounded (`UPSTREAMS_MAX`), never by names or clients.
- Numbers that have no class here are read through a `Source`: a callable that returns readings when asked.

What is not here: names and labels as Prometheus sees them (`status.families`), text and HTTP (`status`), what
is counted for each answer (`report.series`). The counters are not prometheus_client's, whose `labels().inc()` costs
1.3 us; it writes the text of a scrape (docs/decisions/0002).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

TIME_BUCKETS_S = tuple(0.00025 * 2**n for n in range(16))
"""CoreDNS plugin.TimeBuckets: 0.25 ms to 8.192 s."""

SLIM_BUCKETS_S = tuple(0.00025 * 10**n for n in range(5))
"""CoreDNS plugin.SlimTimeBuckets: 0.25 ms to 2.5 s."""

UPSTREAMS_MAX = 512
"""Upstream addresses with counters of their own. Each has some 20 samples an rcode: 10,000 lines a scrape."""

SETUP_ERRORS = ("configmap", "interface_add", "interface_check", "iptables", "iptables_lock")
"""node-cache's error types; they are exported from 0 on, so that the first error is an increase."""


FAIL_OPEN_REASONS = ("crashed", "no_answer", "rules_lost", "setup_failed")
"""Processes before us crashed, so pods come later; our own question was not answered; what brings pods to us was
taken away; it could not be set up."""

PUT_BACK_KINDS = ("accept_rules", "address", "leftovers", "rules", "standing_nat")
"""What the node's check can find changed by others. `leftovers`: rules of node-local-dns that were there again."""

NODE_COMMANDS = ("ip", "iptables", "nft")


class Histogram:
    """Observations by bucket, each counted once; the scrape makes them cumulative. The last count is +Inf."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value` into the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def _nothing() -> tuple[int, int]:
    return 0, 0


@dataclass(slots=True)
class CacheCounters:
    """What one cache did for the questions of one server address.

    zones        The comma-joined origins that it caches for: CoreDNS's label.
    block_zones  The zones of the server block, as the series have them; empty: `zones` says it.
    entries      Returns how many answers it holds: (success, denial).
    evictions    Returns how many it gave up for want of room: (success, denial).
    evictions    Returns how many it has given up for others: (success, denial).
    requests     Questions that it did not answer when they came. Hits are counted by the series
                 (`plugin` cache), so that the packet cache need not count twice; the scrape adds them.
    """

    server: str
    zones: str
    view: str
    block_zones: tuple[str, ...] = ()
    entries: Callable[[], tuple[int, int]] = _nothing
    evictions: Callable[[], tuple[int, int]] = _nothing
    requests: int = 0
    misses: int = 0
    prefetches: int = 0
    drops: int = 0  # answers not kept because they do not fit their question
    served_stale: int = 0


@dataclass(slots=True)
class ConnCounts:
    """How often a question found an open connection or socket, and how often one had to be opened."""

    hits: int = 0
    misses: int = 0
    wrong_answers: int = 0  # what came over them and matched no question of ours, waited past


@dataclass(slots=True)
class UpstreamCounters:
    """What one upstream address (`10.0.0.2:53`) did.

    by_rcode     Durations of answered questions, by rcode.
    connections  By protocol as CoreDNS labels it: `udp`, `tcp`, `tcp-tls`.
    users        How many parts ask this upstream, two during a reload; without any, its counters may make room.
    """

    to: str
    by_rcode: dict[int, Histogram] = field(default_factory=dict)
    connections: dict[str, ConnCounts] = field(default_factory=dict)
    users: int = 0
    healthcheck_failures: int = 0
    timeouts: int = 0
    truncated: int = 0  # answers with TC, asked again over TCP

    def answered(self, rcode: int, duration_s: float) -> None:
        """Count one answer: one Python call, `Histogram.observe` written out."""
        histogram = self.by_rcode.get(rcode)
        if histogram is None:
            histogram = self.by_rcode[rcode] = Histogram(TIME_BUCKETS_S)
        histogram.counts[bisect_left(TIME_BUCKETS_S, duration_s)] += 1
        histogram.total += duration_s


@dataclass(slots=True)
class ForwardCounters:
    """What all `forward` directives did together."""

    healthcheck_broken: int = 0  # questions that found every upstream down
    max_concurrent_rejects: int = 0
    fallbacks: int = 0  # questions put to the fallback


@dataclass(slots=True)
class HealthCounters:
    """The questions that this process puts to itself through its own socket."""

    durations: Histogram = field(default_factory=lambda: Histogram(SLIM_BUCKETS_S))
    failures: int = 0


@dataclass(slots=True)
class ProcessCounters:
    """What belongs to the process and not to a stage. `config_digest`: sha512 of the settings in force."""

    panics: int = 0  # exceptions that reached the loop's handler
    reload_failed: int = 0
    config_digest: str = ""
    loop_longest_turn_s: float = 0.0
    loop_stalls: int = 0
    setup_errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SETUP_ERRORS, 0))


@dataclass(slots=True)
class NodeCounters:
    """What the set-up of the node is and did (`resolver.node`).

    intercepted  By family, `1` for IPv4 and `2` for IPv6: 1 while pods are brought to every local address of it.
                 Empty where nobody asked for that.
    fail_open    We live, we should be asked, and are not: 1. Not while we start or stop.
    """

    intercepted: dict[str, int] = field(default_factory=dict)
    fail_open: int = 0
    failed_open: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAIL_OPEN_REASONS, 0))
    put_back: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PUT_BACK_KINDS, 0))
    beats_failed: int = 0  # rounds in which a local address did not answer our own question
    commands_failed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NODE_COMMANDS, 0))


class PluginEnabled(NamedTuple):
    """One directive in force, as `coredns_plugin_enabled` shows it."""

    server: str
    zone: str
    view: str
    name: str


class Reading(NamedTuple):
    """One number of a `Source`. `labels` are in the order in which they are shown; readings of one name have
    the same help, kind and label names."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: tuple[tuple[str, str], ...]
    value: float


Source = Callable[[], Iterable[Reading]]
"""Called in the loop once for each scrape; it must take well under a millisecond and not raise."""


@dataclass(slots=True)
class Registry:
    """Everything that a scrape reads, but the series. `plugins` is replaced as a whole at each reload.

    file_sources  As `sources`, for those that read files: called in a thread.
    """

    process: ProcessCounters = field(default_factory=ProcessCounters)
    health: HealthCounters = field(default_factory=HealthCounters)
    forward: ForwardCounters = field(default_factory=ForwardCounters)
    node: NodeCounters = field(default_factory=NodeCounters)
    caches: dict[tuple[str, str, str], CacheCounters] = field(default_factory=dict)
    upstreams: dict[str, UpstreamCounters] = field(default_factory=dict)
    plugins: tuple[PluginEnabled, ...] = ()
    sources: list[Source] = field(default_factory=list)
    file_sources: list[Source] = field(default_factory=list)

    def cache(self, server: str, zones: str, view: str = "") -> CacheCounters:
        """Return the counters with these labels; they are made once and live as long as the process."""
        counters = self.caches.get((server, zones, view))
        if counters is None:
            counters = self.caches[server, zones, view] = CacheCounters(server, zones, view)
        return counters

    def upstream(self, to: str) -> UpstreamCounters:
        """Return the counters of upstream `to` for one more user, who takes itself off `users` when it ends.

        Where the table is full, the oldest upstream that is not in use makes room; without one, `to` shares
        the counters named `other`.
        """
        counters = self.upstreams.get(to)
        if counters is None:
            if len(self.upstreams) >= UPSTREAMS_MAX:
                unused = next((name for name, kept in self.upstreams.items() if not kept.users), None)
                if unused is None:
                    return self.upstreams.setdefault("other", UpstreamCounters("other"))
                del self.upstreams[unused]
            counters = self.upstreams[to] = UpstreamCounters(to)
        counters.users += 1
        return counters


registry = Registry()
"""The one of this process. Tests make their own."""
