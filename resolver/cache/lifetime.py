"""How long an answer is kept and what TTLs it shows: one table of rules, no clock.

Positive answers: the smallest TTL of all records, between the minimum and the maximum of the directive.
A minimum lengthens how long we keep an answer, never the TTL we show: that counts down from the smaller
of upstream's and the maximum, and stays 1 while only the minimum keeps it.

Denials (RFC 2308 section 5): min(SOA TTL, SOA MINIMUM), within the directive's bounds. Without an SOA they are
not kept: nobody said for how long they hold (RFC 2308 section 5).

Answers that end in a CNAME without its target, and referrals, are kept `UNCERTAIN_S`: they are often what
a resolver says in passing trouble (coredns#8232), yet a repeated one must not cost an upstream question each.
"""

from typing import NamedTuple

from resolver.cache.entry import Kind
from resolver.cache.options import CacheOptions
from resolver.wire.header import NOERROR, NOTIMP, NXDOMAIN, SERVFAIL, TC, TYPE_ANY, TYPE_CNAME
from resolver.wire.ttls import Scan

UNCERTAIN_S = 5


class Lifetime(NamedTuple):
    """What the rules say of one answer.

    kind      The store.
    keep_s    How long it is fresh; 0: use it once and do not keep it.
    cap_s     No TTL is shown above this.
    floor_s   No TTL is shown below this.
    """

    kind: Kind
    keep_s: float
    cap_s: int
    floor_s: int


def decide(scan: Scan, qtype: int, options: CacheOptions) -> Lifetime:
    """Return how long the answer `scan` to a question of type `qtype` is kept."""
    # Taken apart in one go: a field of a named tuple costs as much as all of them here.
    _, flags, rcode, _, answers, has_target, _, min_ttl_s, soa_s, has_ns, _ = scan
    if rcode == NOERROR:
        if answers and (has_target or qtype in {TYPE_CNAME, TYPE_ANY}):
            ttl_s = min_ttl_s or 0
            cap_s = options.success_max_ttl_s
            low_s = options.success_min_ttl_s
            kind = Kind.SUCCESS
        elif soa_s is not None:
            return _denial(scan, options)
        elif answers or has_ns:
            ttl_s = min(min_ttl_s or 0, UNCERTAIN_S)
            cap_s = options.success_max_ttl_s
            low_s = min(options.success_min_ttl_s, UNCERTAIN_S)
            kind = Kind.SUCCESS
        else:
            return Lifetime(Kind.DENIAL, 0, options.denial_max_ttl_s, 0)
    elif rcode == NXDOMAIN:
        return _denial(scan, options)
    elif rcode in {SERVFAIL, NOTIMP}:
        return Lifetime(Kind.FAILURE, options.servfail_s, options.denial_max_ttl_s, 0)
    else:
        return Lifetime(Kind.FAILURE, 0, options.denial_max_ttl_s, 0)
    if flags & TC:
        return Lifetime(kind, 0, cap_s, 0)
    keep_s = min(max(ttl_s, low_s), cap_s)
    return Lifetime(kind, keep_s, cap_s, 1 if keep_s > ttl_s else 0)


def _denial(scan: Scan, options: CacheOptions) -> Lifetime:
    cap_s = options.denial_max_ttl_s
    if scan.soa_s is None or scan.flags & TC:
        return Lifetime(Kind.DENIAL, 0, cap_s, 0)
    # A chain's CNAME records may be shorter-lived than the denial at its end.
    ttl_s = min(scan.soa_s, scan.min_ttl_s or 0) if scan.answers else scan.soa_s
    keep_s = min(max(ttl_s, options.denial_min_ttl_s), cap_s)
    return Lifetime(Kind.DENIAL, keep_s, min(cap_s, scan.soa_s), 1 if keep_s > ttl_s else 0)
