"""The metrics that this process exports: names, types, help and labels, in one table.

Names, labels, types and buckets of `coredns_*` are CoreDNS 1.14's: its code, where the README differs. The names
that CoreDNS has given up are there too, derived from the new ones, because dashboards and alert rules in the
field ask for either. Ours begin with `resolver_`; some come from other parts as `metrics.Reading`, `process_*` and
`python_*` from prometheus_client.
docs/metrics.md explains each, and a test keeps the two equal. Over 300 lines because it is a table.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from resolver.metrics import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Value = int | float | Histogram
Samples = Mapping[tuple[str, ...], Value]
"""Values by label values, in the order of the family's labels."""


class Family(NamedTuple):
    """One metric: `# HELP`, `# TYPE` and the labels of its samples, in the order of their values.

    The name of a counter ends in `_total`, which the library would add.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_ZONE = ("server", "zone", "view")
_CACHE = ("server", "zones", "view")
_CACHE_TYPE = ("server", "type", "zones", "view")

DNS_REQUESTS = Family(
    "coredns_dns_requests_total",
    "counter",
    "Counter of DNS requests made per zone, protocol and family.",
    (*_ZONE, "proto", "family", "type"),
)
DNS_DURATION = Family(
    "coredns_dns_request_duration_seconds",
    "histogram",
    "Histogram of the time (in seconds) each request took per zone.",
    _ZONE,
)
DNS_REQUEST_SIZE = Family(
    "coredns_dns_request_size_bytes",
    "histogram",
    "Size of the request in bytes, per zone and protocol.",
    (*_ZONE, "proto"),
)
DNS_RESPONSE_SIZE = Family(
    "coredns_dns_response_size_bytes",
    "histogram",
    "Size of the returned response in bytes.",
    (*_ZONE, "proto"),
)
DNS_DO_REQUESTS = Family(
    "coredns_dns_do_requests_total", "counter", "Counter of DNS requests with DO bit set per zone.", _ZONE
)
DNS_RESPONSES = Family(
    "coredns_dns_responses_total",
    "counter",
    "Counter of response status codes.",
    (*_ZONE, "rcode", "plugin"),
)

CACHE_ENTRIES = Family("coredns_cache_entries", "gauge", "The number of elements in the cache.", _CACHE_TYPE)
CACHE_REQUESTS = Family("coredns_cache_requests_total", "counter", "The count of cache requests.", _CACHE)
CACHE_HITS = Family("coredns_cache_hits_total", "counter", "The count of cache hits.", _CACHE_TYPE)
CACHE_MISSES = Family(
    "coredns_cache_misses_total",
    "counter",
    "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.",
    _CACHE,
)
CACHE_PREFETCHES = Family(
    "coredns_cache_prefetch_total",
    "counter",
    "The number of times the cache has prefetched a cached item.",
    _CACHE,
)
CACHE_DROPS = Family(
    "coredns_cache_drops_total",
    "counter",
    "The number responses that are not cached, because the reply is malformed.",
    _CACHE,
)
CACHE_STALE = Family(
    "coredns_cache_served_stale_total",
    "counter",
    "The number of requests served from stale cache entries.",
    _CACHE,
)
CACHE_EVICTIONS = Family("coredns_cache_evictions_total", "counter", "The count of cache evictions.", _CACHE_TYPE)

PROXY_DURATION = Family(
    "coredns_proxy_request_duration_seconds",
    "histogram",
    "Histogram of the time each request took.",
    ("proxy_name", "to", "rcode"),
)
PROXY_HEALTHCHECK_FAILURES = Family(
    "coredns_proxy_healthcheck_failures_total",
    "counter",
    "Counter of the number of failed healthchecks.",
    ("proxy_name", "to"),
)
PROXY_CONN_HITS = Family(
    "coredns_proxy_conn_cache_hits_total",
    "counter",
    "Counter of connection cache hits per upstream and protocol.",
    ("proxy_name", "to", "proto"),
)
PROXY_CONN_MISSES = Family(
    "coredns_proxy_conn_cache_misses_total",
    "counter",
    "Counter of connection cache misses per upstream and protocol.",
    ("proxy_name", "to", "proto"),
)
FORWARD_BROKEN = Family(
    "coredns_forward_healthcheck_broken_total",
    "counter",
    "Counter of the number of complete failures of the healthchecks.",
)
FORWARD_REJECTS = Family(
    "coredns_forward_max_concurrent_rejects_total",
    "counter",
    "Counter of the number of queries rejected because the concurrent queries were at maximum.",
)

HEALTH_DURATION = Family(
    "coredns_health_request_duration_seconds",
    "histogram",
    "Histogram of the time (in seconds) each request took.",
)
HEALTH_FAILURES = Family(
    "coredns_health_request_failures_total", "counter", "The number of times the health check failed."
)
RELOAD_FAILED = Family("coredns_reload_failed_total", "counter", "Counter of the number of failed reload attempts.")
RELOAD_INFO = Family(
    "coredns_reload_version_info",
    "gauge",
    "A metric with a constant '1' value labeled by hash, and value which type of hash generated.",
    ("hash", "value"),
)
PANICS = Family("coredns_panics_total", "counter", "A metrics that counts the number of panics.")
BUILD_INFO = Family(
    "coredns_build_info",
    "gauge",
    "A metric with a constant '1' value labeled by version, revision, and goversion from which CoreDNS was built.",
    ("version", "revision", "goversion"),
)
PLUGIN_ENABLED = Family(
    "coredns_plugin_enabled",
    "gauge",
    "A metric that indicates whether a plugin is enabled on per server and zone basis.",
    (*_ZONE, "name"),
)
SETUP_ERRORS = Family(
    "coredns_nodecache_setup_errors_total",
    "counter",
    "The number of errors during periodic network setup for node-cache",
    ("errortype",),
)

# Names that CoreDNS gave up and dashboards still ask for. 1.7 renamed the first eleven (its
# notes/coredns-1.7.0.md), 1.11 moved the last four to coredns_proxy_*.
OLD_REQUESTS = Family(
    "coredns_dns_request_count_total",
    "counter",
    "Old name: sum of coredns_dns_requests_total.",
    ("server", "zone", "proto", "family"),
)
OLD_TYPES = Family(
    "coredns_dns_request_type_count_total",
    "counter",
    "Old name: sum of coredns_dns_requests_total.",
    ("server", "zone", "type"),
)
OLD_DO = Family(
    "coredns_dns_request_do_count_total",
    "counter",
    "Old name: sum of coredns_dns_do_requests_total.",
    ("server", "zone"),
)
OLD_RCODES = Family(
    "coredns_dns_response_rcode_count_total",
    "counter",
    "Old name: sum of coredns_dns_responses_total.",
    ("server", "zone", "rcode"),
)
OLD_CACHE_SIZE = Family(
    "coredns_cache_size", "gauge", "Old name: sum of coredns_cache_entries.", ("server", "type")
)
OLD_PANICS = Family("coredns_panic_count_total", "counter", "Old name of coredns_panics_total.")
OLD_RELOAD_FAILED = Family(
    "coredns_reload_failed_count_total", "counter", "Old name of coredns_reload_failed_total."
)
OLD_FORWARD_COUNT = Family(
    "coredns_forward_request_count_total",
    "counter",
    "Old name of coredns_forward_requests_total.",
    ("to",),
)
OLD_FORWARD_RCODES = Family(
    "coredns_forward_response_rcode_count_total",
    "counter",
    "Old name of coredns_forward_responses_total.",
    ("to", "rcode"),
)
OLD_FORWARD_FAILURES = Family(
    "coredns_forward_healthcheck_failure_count_total",
    "counter",
    "Old name of coredns_forward_healthcheck_failures_total.",
    ("to",),
)
OLD_FORWARD_BROKEN = Family(
    "coredns_forward_healthcheck_broken_count_total",
    "counter",
    "Old name of coredns_forward_healthcheck_broken_total.",
)
FORWARD_REQUESTS = Family(
    "coredns_forward_requests_total", "counter", "Counter of requests made per upstream.", ("to",)
)
FORWARD_RESPONSES = Family(
    "coredns_forward_responses_total",
    "counter",
    "Counter of responses received per upstream.",
    ("to", "rcode"),
)
FORWARD_DURATION = Family(
    "coredns_forward_request_duration_seconds",
    "histogram",
    "Histogram of the time each request took.",
    ("to", "rcode"),
)
FORWARD_HEALTHCHECK_FAILURES = Family(
    "coredns_forward_healthcheck_failures_total",
    "counter",
    "Counter of the number of failed healthchecks.",
    ("to", "rcode"),
)

UPSTREAM_TIMEOUTS = Family(
    "resolver_upstream_timeouts_total",
    "counter",
    "Tries that an upstream did not answer in time.",
    ("to",),
)
UPSTREAM_WRONG = Family(
    "resolver_upstream_wrong_answers_total",
    "counter",
    "Packets from an upstream's address that matched no question of ours.",
    ("to",),
)
UPSTREAM_TRUNCATED = Family(
    "resolver_upstream_truncated_total",
    "counter",
    "Answers over UDP with TC set, asked again over TCP.",
    ("to",),
)
FALLBACKS = Family("resolver_forward_fallbacks_total", "counter", "Questions put to the fallback upstreams.")
LOG_DROPPED = Family(
    "resolver_log_lines_dropped_total", "counter", "Log lines lost because standard output did not take them."
)
LOG_SUPPRESSED = Family(
    "resolver_log_lines_suppressed_total",
    "counter",
    "Log lines not said because there were too many in a second.",
    ("channel",),
)
LONGEST_TURN = Family(
    "resolver_loop_longest_turn_seconds",
    "gauge",
    "The longest that the event loop was late for a timer.",
)
LOOP_STALLS = Family(
    "resolver_loop_stalls_total", "counter", "Times that the event loop was late for a timer by 0.1 s or more."
)


ALL = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""Every family of this table, for the docs and their test."""
