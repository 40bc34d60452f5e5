"""What the `cache` directive can say (CoreDNS plugin/cache, to 1.14.7; `docs/configuration.md`)."""

from dataclasses import dataclass
from typing import Literal

StaleMode = Literal["immediate", "verify"]


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """One server block's cache. Capacities count answers, lifetimes are whole seconds."""

    zones: tuple[str, ...] = ()  # names it caches for, as `example.org.`; empty: all of the block
    success_capacity: int = 9984  # CoreDNS: 256 shards x 39; at least 1024, floored to a multiple of 256
    success_max_ttl_s: int = 3600
    success_min_ttl_s: int = 5
    denial_capacity: int = 9984
    denial_max_ttl_s: int = 1800
    denial_min_ttl_s: int = 5
    prefetch_amount: int = 0  # questions seen before an answer counts as popular; 0: no prefetch
    prefetch_gap_s: float = 60.0  # a pause this long between two of them starts the count anew
    prefetch_percent: int = 10  # of the lifetime that remains when prefetch begins; 10 to 90
    stale_s: float = 0.0  # how long past expiry an answer may be served; 0: never
    stale_mode: StaleMode = "immediate"
    stale_verify_timeout_s: float | None = None  # verify: how long the upstream gets first; None: its deadline
    stale_answer_ttl_s: int = 30  # RFC 8767 section 4
    stale_recheck_s: float = 5.0  # after a failed refresh the old answer goes out at once for this long; <= 300
    prefer_positive: bool = False  # serve_stale_policy prefer_positive: a denial does not displace a stale answer
    servfail_s: float = 5.0  # 0: SERVFAIL is not kept; at most 300 (RFC 9520 section 3.2)
    disable_success: tuple[str, ...] | None = None  # zones; () means all of the block; None: not disabled
    disable_denial: tuple[str, ...] | None = None
    keepttl: bool = False  # TTLs are shown as upstream gave them and do not count down
