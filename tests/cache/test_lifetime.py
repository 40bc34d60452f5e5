"""How long which answer is kept, and what it shows: the rules as a table."""

import pytest

from resolver.cache.entry import Kind
from resolver.cache.lifetime import Lifetime, decide
from resolver.cache.options import CacheOptions
from resolver.wire.header import AA, TC
from resolver.wire.ttls import Scan

CACHE_30 = CacheOptions(success_max_ttl_s=30, denial_max_ttl_s=30)
CLUSTER = CacheOptions(success_max_ttl_s=30, denial_max_ttl_s=5)
LONG = CacheOptions()
NO_MINIMUM = CacheOptions(success_min_ttl_s=0, denial_min_ttl_s=0)
NO_SERVFAIL = CacheOptions(servfail_s=0)
A, CNAME = 1, 5


def found(
    rcode: int = 0,
    answers: int = 0,
    ttl_s: int | None = None,
    soa_s: int | None = None,
    *,
    target: bool = True,
    ns: bool = False,
    flags: int = 0,
) -> Scan:
    return Scan(b"", flags, rcode, 0, answers, bool(answers) and target, (), ttl_s, soa_s, ns, ttl_s or 0)


ADDRESS = found(answers=1, ttl_s=300)

#   answer, options, kind, kept, TTLs at most, TTLs at least
RULES = [
    pytest.param(ADDRESS, CACHE_30, Kind.SUCCESS, 30, 30, 0, id="the maximum cuts"),
    pytest.param(ADDRESS, LONG, Kind.SUCCESS, 300, 3600, 0, id="upstream's own TTL"),
    pytest.param(found(answers=1, ttl_s=3), LONG, Kind.SUCCESS, 5, 3600, 1, id="the minimum keeps longer"),
    pytest.param(found(answers=1, ttl_s=0), LONG, Kind.SUCCESS, 5, 3600, 1, id="TTL 0 under a minimum"),
    pytest.param(found(answers=1, ttl_s=0), NO_MINIMUM, Kind.SUCCESS, 0, 3600, 0, id="TTL 0 is not kept"),
    pytest.param(found(3, soa_s=60, ttl_s=60), CACHE_30, Kind.DENIAL, 30, 30, 0, id="NXDOMAIN, the maximum cuts"),
    pytest.param(found(3, soa_s=60, ttl_s=3600), LONG, Kind.DENIAL, 60, 60, 0, id="NXDOMAIN by SOA MINIMUM"),
    pytest.param(found(3, soa_s=60, ttl_s=60), CLUSTER, Kind.DENIAL, 5, 5, 0, id="denial 9984 5"),
    pytest.param(found(0, soa_s=60, ttl_s=60), LONG, Kind.DENIAL, 60, 60, 0, id="NODATA"),
    pytest.param(found(3, soa_s=2, ttl_s=2), LONG, Kind.DENIAL, 5, 2, 1, id="a denial under the minimum"),
    pytest.param(found(3), LONG, Kind.DENIAL, 0, 1800, 0, id="NXDOMAIN without SOA is not kept"),
    pytest.param(found(0), LONG, Kind.DENIAL, 0, 1800, 0, id="NODATA without SOA is not kept"),
    pytest.param(
        found(3, answers=1, ttl_s=10, soa_s=60, target=False), LONG, Kind.DENIAL, 10, 60, 0,
        id="NXDOMAIN behind a CNAME that is shorter",
    ),
    pytest.param(
        found(answers=1, ttl_s=300, target=False), CACHE_30, Kind.SUCCESS, 5, 30, 0,
        id="a CNAME without its target is kept 5 s (coredns#8232)",
    ),
    pytest.param(
        found(answers=1, ttl_s=300, soa_s=60, target=False), LONG, Kind.DENIAL, 60, 60, 0,
        id="a CNAME to a name without that type",
    ),
    pytest.param(found(ns=True, ttl_s=300), LONG, Kind.SUCCESS, 5, 3600, 0, id="a referral is kept 5 s"),
    pytest.param(found(2), LONG, Kind.FAILURE, 5, 1800, 0, id="SERVFAIL (RFC 9520)"),
    pytest.param(found(2), NO_SERVFAIL, Kind.FAILURE, 0, 1800, 0, id="servfail 0"),
    pytest.param(found(5), LONG, Kind.FAILURE, 0, 1800, 0, id="REFUSED is not kept"),
    pytest.param(found(answers=1, ttl_s=300, flags=TC), LONG, Kind.SUCCESS, 0, 3600, 0, id="cut: not kept"),
    pytest.param(found(answers=1, ttl_s=300, flags=AA), LONG, Kind.SUCCESS, 300, 3600, 0, id="AA changes nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "options", "kind", "keep_s", "cap_s", "floor_s"), RULES)
def test_lifetimes(
    answer: Scan, options: CacheOptions, kind: Kind, keep_s: float, cap_s: int, floor_s: int
) -> None:
    assert decide(answer, A, options) == Lifetime(kind, keep_s, cap_s, floor_s)


def test_a_cname_that_was_asked_for_is_the_target() -> None:
    answer = found(answers=1, ttl_s=300, target=False)
    assert decide(answer, CNAME, LONG) == Lifetime(Kind.SUCCESS, 300, 3600, 0)
