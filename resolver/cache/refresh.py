"""When a stored answer is fetched anew before it is missed, and when an old one may still go out.

Pure: entries, options and `now_s` go in, a decision comes out.
"""

from resolver.cache.entry import Entry, Kind
from resolver.cache.lifetime import Lifetime
from resolver.cache.options import CacheOptions


def wants_prefetch(entry: Entry, now_s: float, options: CacheOptions) -> bool:
    """Tell whether this use of a fresh `entry` should start its one refresh."""
    life = entry.life
    return (
        options.prefetch_amount > 0
        and life.until_s <= now_s < entry.expires_s
        and life.until_s < entry.expires_s
        and life.uses >= options.prefetch_amount
    )


def goes_at_once(entry: Entry, now_s: float, options: CacheOptions) -> bool:
    """Tell whether an expired `entry` is the answer before any upstream is asked.

    Mode `immediate`, or a refresh that failed less than `stale_recheck_s` ago. A denial never goes out at once:
    what did not exist a minute ago is what clients wait for, so upstream is always asked first.
    """
    if now_s < entry.life.recheck_s:
        return True
    return options.stale_mode == "immediate" and entry.kind == Kind.SUCCESS


def prefers_stale(entry: Entry, fresh: Lifetime, now_s: float, options: CacheOptions) -> bool:
    """Tell whether an expired `entry` is a better answer than `fresh`, which has just come from upstream.

    Over a failure it always is (RFC 8767 section 4), over a denial with `serve_stale_policy prefer_positive`.
    """
    if now_s >= entry.expires_s + options.stale_s:
        return False
    if fresh.kind == Kind.FAILURE:
        return True
    return options.prefer_positive and fresh.kind == Kind.DENIAL and entry.kind == Kind.SUCCESS
