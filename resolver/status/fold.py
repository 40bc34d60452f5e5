"""From what is counted to what is exported: pure functions from counters to samples.

Each generator yields a family and its samples; nothing here waits, reads a clock or writes text. The series
(one object for each set of equal answers, `report.series`) are folded a few at a time: `SeriesFold.add` costs
about 3 us, and a busy node has thousands.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from resolver.metrics import CacheCounters, Histogram, Reading, Registry, UpstreamCounters
from resolver.report.series import RCODE_NAMES, SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, TYPE_NAMES, Series
from resolver.status import families as f

Labels = tuple[str, ...]
Counts = dict[Labels, int]
FamilyOf = tuple[f.Family, f.Samples]

PROXY_NAME = "forward"
"""CoreDNS's `proxy_name` label: the plugin that owns the upstreams."""

CACHE_PLUGIN = "cache"
"""CoreDNS's `plugin` label of an answer from the cache."""


def rcode_name(rcode: int) -> str:
    """Return the label of an rcode; those without a name are their number, as in CoreDNS."""
    return RCODE_NAMES[rcode] if rcode < len(RCODE_NAMES) else str(rcode)


def regroup(samples: Mapping[Labels, int], family: f.Family, to: f.Family) -> Counts:
    """Return `samples` of `family` summed over the labels that `to` does not have."""
    positions = [family.labels.index(label) for label in to.labels]
    sums: Counts = {}
    for values, value in samples.items():
        key = tuple(values[position] for position in positions)
        sums[key] = sums.get(key, 0) + value
    return sums


class SeriesFold:
    """The sums over series that CoreDNS's `coredns_dns_*` metrics show."""

    def __init__(self) -> None:
        self.requests: Counts = {}
        self.do_requests: Counts = {}
        self.responses: Counts = {}
        self.cache_hits: Counts = {}
        self.durations: dict[Labels, Histogram] = {}
        self.request_sizes: dict[Labels, Histogram] = {}
        self.response_sizes: dict[Labels, Histogram] = {}

    def add(self, series: Series) -> None:
        """Add one series. Its counts are read once, so that all families of one scrape agree."""
        key, uses = series.key, series.uses
        server, proto, family = key.listener
        zone, view = key.zone, key.view
        place = (server, zone, view)
        asked = (server, zone, view, proto, family, TYPE_NAMES.get(key.qtype, "other"))
        self.requests[asked] = self.requests.get(asked, 0) + uses
        if key.do:
            self.do_requests[place] = self.do_requests.get(place, 0) + uses
        answered = (server, zone, view, rcode_name(key.rcode), key.plugin)
        self.responses[answered] = self.responses.get(answered, 0) + uses
        if key.plugin == CACHE_PLUGIN:
            hit = (server, "success" if key.kind == "success" else "denial", zone, view)
            self.cache_hits[hit] = self.cache_hits.get(hit, 0) + uses
        self._add_durations(place, series, uses)
        by_proto = (server, zone, view, proto)
        for sizes, bucket, total in (
            (self.request_sizes, key.request_bucket, series.request_bytes),
            (self.response_sizes, key.response_bucket, series.response_bytes),
        ):
            histogram = sizes.get(by_proto)
            if histogram is None:
                histogram = sizes[by_proto] = Histogram(SIZE_BUCKETS_BYTES)
            histogram.counts[bucket] += uses
            histogram.total += total

    def _add_durations(self, place: Labels, series: Series, uses: int) -> None:
        """Answers faster than the first bucket's end are counted by nobody: they are the rest of `uses`."""
        durations = self.durations.get(place)
        if durations is None:
            durations = self.durations[place] = Histogram(TIME_BUCKETS_S)
        late = series.late_counts
        if late is None:
            durations.counts[0] += uses
            return
        # Late answers are counted with `uses`, but by other code: never let the first bucket fall below 0.
        durations.counts[0] += max(0, uses - sum(late[1:]))
        for bucket in range(1, len(late)):
            durations.counts[bucket] += late[bucket]
        durations.total += series.duration_sum_s

    def families(self) -> Iterator[FamilyOf]:
        """Yield the `coredns_dns_*` families, new names and old."""
        yield f.DNS_REQUESTS, self.requests
        yield f.DNS_DURATION, self.durations
        yield f.DNS_REQUEST_SIZE, self.request_sizes
        yield f.DNS_RESPONSE_SIZE, self.response_sizes
        yield f.DNS_DO_REQUESTS, self.do_requests
        yield f.DNS_RESPONSES, self.responses
        yield f.OLD_REQUESTS, regroup(self.requests, f.DNS_REQUESTS, f.OLD_REQUESTS)
        yield f.OLD_TYPES, regroup(self.requests, f.DNS_REQUESTS, f.OLD_TYPES)
        yield f.OLD_DO, regroup(self.do_requests, f.DNS_DO_REQUESTS, f.OLD_DO)
        yield f.OLD_RCODES, regroup(self.responses, f.DNS_RESPONSES, f.OLD_RCODES)


_CACHE_COUNTS: tuple[tuple[f.Family, Callable[[CacheCounters], int]], ...] = (
    (f.CACHE_MISSES, lambda cache: cache.misses),
    (f.CACHE_PREFETCHES, lambda cache: cache.prefetches),
    (f.CACHE_DROPS, lambda cache: cache.drops),
    (f.CACHE_STALE, lambda cache: cache.served_stale),
)


def cache_families(caches: Iterable[CacheCounters], series_hits: Counts) -> Iterator[FamilyOf]:
    """Yield the `coredns_cache_*` families. `series_hits`: `SeriesFold.cache_hits`, which has all hits.

    A kept failure is a denial, as in CoreDNS, whose denial store holds SERVFAIL too.
    """
    kept = list(caches)
    entries: Counts = {}
    hits: Counts = {}
    requests: Counts = {}
    evictions: Counts = {}
    for cache in kept:
        server, zones, view = cache.server, cache.zones, cache.view
        stored = cache.entries()
        evicted = cache.evictions()
        total = cache.requests
        for position, kind in enumerate(("success", "denial")):
            labels = (server, kind, zones, view)
            entries[labels] = stored[position]
            evictions[labels] = evicted[position]
            hits[labels] = sum(
                series_hits.get((server, kind, zone, view), 0) for zone in cache.block_zones or zones.split(",")
            )
            total += hits[labels]
        requests[server, zones, view] = total
    yield f.CACHE_ENTRIES, entries
    yield f.OLD_CACHE_SIZE, regroup(entries, f.CACHE_ENTRIES, f.OLD_CACHE_SIZE)
    yield f.CACHE_REQUESTS, requests
    yield f.CACHE_HITS, hits
    yield f.CACHE_EVICTIONS, evictions
    for family, read in _CACHE_COUNTS:
        yield family, {(cache.server, cache.zones, cache.view): read(cache) for cache in kept}


def upstream_families(upstreams: Iterable[UpstreamCounters]) -> Iterator[FamilyOf]:
    """Yield what is counted for each upstream: `coredns_proxy_*`, the older `coredns_forward_*`, and ours."""
    kept = list(upstreams)
    durations: dict[Labels, Histogram] = {
        (upstream.to, rcode_name(rcode)): histogram
        for upstream in kept
        for rcode, histogram in list(upstream.by_rcode.items())
    }
    yield f.PROXY_DURATION, {(PROXY_NAME, *labels): value for labels, value in durations.items()}
    yield f.FORWARD_DURATION, durations
    responses: Counts = {labels: sum(histogram.counts) for labels, histogram in durations.items()}
    yield f.FORWARD_RESPONSES, responses
    yield f.OLD_FORWARD_RCODES, responses
    requests = regroup(responses, f.FORWARD_RESPONSES, f.FORWARD_REQUESTS)
    yield f.FORWARD_REQUESTS, requests
    yield f.OLD_FORWARD_COUNT, requests
    failures: Counts = {(upstream.to,): upstream.healthcheck_failures for upstream in kept}
    yield f.PROXY_HEALTHCHECK_FAILURES, {(PROXY_NAME, *to): count for to, count in failures.items()}
    # A failed health check has no rcode; to Prometheus an empty label is no label.
    yield f.FORWARD_HEALTHCHECK_FAILURES, {(*to, ""): count for to, count in failures.items()}
    yield f.OLD_FORWARD_FAILURES, failures
    connections = [
        ((PROXY_NAME, upstream.to, proto), reuse)
        for upstream in kept
        for proto, reuse in list(upstream.connections.items())
    ]
    yield f.PROXY_CONN_HITS, {labels: reuse.hits for labels, reuse in connections}
    yield f.PROXY_CONN_MISSES, {labels: reuse.misses for labels, reuse in connections}
    yield f.UPSTREAM_TIMEOUTS, {(upstream.to,): upstream.timeouts for upstream in kept}
    yield (
        f.UPSTREAM_WRONG,
        {
            (upstream.to,): sum(reuse.wrong_answers for reuse in list(upstream.connections.values()))
            for upstream in kept
        },
    )
    yield f.UPSTREAM_TRUNCATED, {(upstream.to,): upstream.truncated for upstream in kept}


def process_families(registry: Registry) -> Iterator[FamilyOf]:
    """Yield what there is once in a process: forward as a whole, health, reload, panics, plugins, set-up."""
    forward, health, process = registry.forward, registry.health, registry.process
    yield f.FORWARD_BROKEN, {(): forward.healthcheck_broken}
    yield f.OLD_FORWARD_BROKEN, {(): forward.healthcheck_broken}
    yield f.FORWARD_REJECTS, {(): forward.max_concurrent_rejects}
    yield f.FALLBACKS, {(): forward.fallbacks}
    yield f.HEALTH_DURATION, {(): health.durations}
    yield f.HEALTH_FAILURES, {(): health.failures}
    yield f.RELOAD_FAILED, {(): process.reload_failed}
    yield f.OLD_RELOAD_FAILED, {(): process.reload_failed}
    yield f.RELOAD_INFO, {("sha512", process.config_digest): 1} if process.config_digest else {}
    yield f.PANICS, {(): process.panics}
    yield f.OLD_PANICS, {(): process.panics}
    yield f.PLUGIN_ENABLED, {tuple(plugin): 1 for plugin in registry.plugins}
    yield f.SETUP_ERRORS, {(kind,): count for kind, count in process.setup_errors.items()}


def reading_families(readings: Iterable[Reading]) -> Iterator[FamilyOf]:
    """Yield what the sources read, grouped by name; of two readings with the same labels the last counts."""
    grouped: dict[str, tuple[f.Family, dict[Labels, float]]] = {}
    for reading in readings:
        names = tuple(name for name, _ in reading.labels)
        if reading.name not in grouped:
            family = f.Family(reading.name, reading.kind, reading.help, names)
            grouped[reading.name] = family, {}
        family, samples = grouped[reading.name]
        if names == family.labels:
            samples[tuple(value for _, value in reading.labels)] = reading.value
    for family, samples in grouped.values():
        yield family, cast("f.Samples", samples)
