"""From what is counted to what is exported: pure functions from counters to samples.

Each generator yields a family and its samples; nothing here waits, reads a clock or writes text. The series
(one object for each set of equal answers, `report.series`) are folded a few at a time: `SeriesFold.add` costs
about 1 us for each, and a busy node has thousands.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add, itemgetter
from typing import NamedTuple, cast

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
    # `itemgetter` of one position returns no tuple.
    pick = itemgetter(*positions) if len(positions) > 1 else itemgetter(slice(positions[0], positions[0] + 1))
    sums: Counts = {}
    for key, value in zip(map(pick, samples), samples.values(), strict=True):
        sums[key] = sums.get(key, 0) + value
    return sums


class Sums:
    """Counts by labels, in the order in which the labels came; who adds to one again and again keeps its place."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._places: dict[Labels, int] = {}

    def place(self, labels: Labels) -> int:
        """Return where in `counts` the sum for `labels` is."""
        place = self._places.setdefault(labels, len(self.counts))
        if place == len(self.counts):
            self.counts.append(0)
        return place

    def by_labels(self) -> Counts:
        """Return the sums as samples."""
        return dict(zip(self._places, self.counts, strict=True))


class _Places(NamedTuple):
    """Where the counts of one series go; `do` and `hits` are -1 where they go nowhere."""

    requests: int
    do: int
    responses: int
    hits: int
    durations: Histogram
    request_sizes: Histogram
    request_bucket: int
    response_sizes: Histogram
    response_bucket: int


class SeriesFold:
    """The sums over series that CoreDNS's `coredns_dns_*` metrics show.

    Lives as long as the series: where one adds to is found out once, and remembered.
    """

    def __init__(self) -> None:
        self.requests, self.do_requests, self.responses, self.cache_hits = Sums(), Sums(), Sums(), Sums()
        self.durations: dict[Labels, Histogram] = {}
        self.request_sizes: dict[Labels, Histogram] = {}
        self.response_sizes: dict[Labels, Histogram] = {}
        self._places: dict[Series, _Places] = {}

    def begin(self) -> None:
        """A scrape begins: all sums are 0."""
        for sums in (self.requests, self.do_requests, self.responses, self.cache_hits):
            sums.counts[:] = [0] * len(sums.counts)
        for histograms in (self.durations, self.request_sizes, self.response_sizes):
            for histogram in histograms.values():
                histogram.counts[:] = [0] * len(histogram.counts)
                histogram.total = 0.0

    def add(self, some: Iterable[Series]) -> None:
        """Add these series. The counts of each are read once, so that all families of one scrape agree."""
        requests, do_requests = self.requests.counts, self.do_requests.counts
        responses, cache_hits = self.responses.counts, self.cache_hits.counts
        known = self._places
        for series in some:
            asked, do, answered, hit, durations, request_sizes, request_bucket, response_sizes, response_bucket = (
                known.get(series) or self._place(series)
            )
            uses = series.uses
            requests[asked] += uses
            responses[answered] += uses
            if do >= 0:
                do_requests[do] += uses
            if hit >= 0:
                cache_hits[hit] += uses
            request_sizes.counts[request_bucket] += uses
            request_sizes.total += series.request_bytes
            response_sizes.counts[response_bucket] += uses
            response_sizes.total += series.response_bytes
            late = series.late_counts
            if late is None:
                durations.counts[0] += uses
            else:
                _add_late(durations, late, series, uses)

    def _place(self, series: Series) -> _Places:
        key = series.key
        server, proto, family = key.listener
        zone, view = key.zone, key.view
        place, by_proto = (server, zone, view), (server, zone, view, proto)
        hit = (server, "success" if key.kind == "success" else "denial", zone, view)
        places = self._places[series] = _Places(
            self.requests.place((*by_proto, family, TYPE_NAMES.get(key.qtype, "other"))),
            self.do_requests.place(place) if key.do else -1,
            self.responses.place((*place, rcode_name(key.rcode), key.plugin)),
            self.cache_hits.place(hit) if key.plugin == CACHE_PLUGIN else -1,
            self.durations.setdefault(place, Histogram(TIME_BUCKETS_S)),
            self.request_sizes.setdefault(by_proto, Histogram(SIZE_BUCKETS_BYTES)),
            key.request_bucket,
            self.response_sizes.setdefault(by_proto, Histogram(SIZE_BUCKETS_BYTES)),
            key.response_bucket,
        )
        return places

    def families(self) -> Iterator[FamilyOf]:
        """Yield the `coredns_dns_*` families, new names and old."""
        requests, responses = self.requests.by_labels(), self.responses.by_labels()
        do_requests = self.do_requests.by_labels()
        yield f.DNS_REQUESTS, requests
        yield f.DNS_DURATION, self.durations
        yield f.DNS_REQUEST_SIZE, self.request_sizes
        yield f.DNS_RESPONSE_SIZE, self.response_sizes
        yield f.DNS_DO_REQUESTS, do_requests
        yield f.DNS_RESPONSES, responses
        yield f.OLD_REQUESTS, regroup(requests, f.DNS_REQUESTS, f.OLD_REQUESTS)
        yield f.OLD_TYPES, regroup(requests, f.DNS_REQUESTS, f.OLD_TYPES)
        yield f.OLD_DO, regroup(do_requests, f.DNS_DO_REQUESTS, f.OLD_DO)
        yield f.OLD_RCODES, regroup(responses, f.DNS_RESPONSES, f.OLD_RCODES)


def _add_late(durations: Histogram, late: list[int], series: Series, uses: int) -> None:
    """Answers faster than the first bucket's end are counted by nobody: they are the rest of `uses`."""
    counts = durations.counts
    # Late answers are counted with `uses`, but by other code: never let the first bucket fall below 0.
    counts[0] += max(0, uses - sum(late) + late[0])
    counts[1:] = map(add, counts[1:], late[1:])
    durations.total += series.duration_sum_s


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
