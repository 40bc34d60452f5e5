"""`cache`: every option, its default, its bounds."""

from typing import Any

import pytest

from resolver.cache.options import CacheOptions
from tests.settings.directives.cases import assert_refused, bad
from tests.settings.support import block_of, settings_of

#        lines, the fields that differ from the defaults
GOOD = [
    ("cache", {}),
    ("cache 30", {"success_max_ttl_s": 30, "denial_max_ttl_s": 30}),
    ("cache 30 example.org", {"success_max_ttl_s": 30, "denial_max_ttl_s": 30, "zones": ("example.org.",)}),
    ("cache A B.", {"zones": ("a.", "b.")}),
    ("cache 10.0.0.0/23", {"zones": ("0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa.")}),
    ("cache dns://a:53", {"zones": ("a.",)}),
    ("cache {\n}", {}),
    ("cache {\nsuccess 5000\n}", {"success_capacity": 4864}),
    ("cache {\nsuccess 0\n}", {"success_capacity": 1024}),
    ("cache {\nsuccess 9984 30\n}", {"success_max_ttl_s": 30}),
    ("cache {\nsuccess 9984 30 0\n}", {"success_max_ttl_s": 30, "success_min_ttl_s": 0}),
    ("cache {\ndenial 2048 5\n}", {"denial_capacity": 2048, "denial_max_ttl_s": 5}),
    ("cache {\ndenial 2048 5 1\n}", {"denial_capacity": 2048, "denial_max_ttl_s": 5, "denial_min_ttl_s": 1}),
    ("cache 60 {\ndenial 9984 5\n}", {"success_max_ttl_s": 60, "denial_max_ttl_s": 5}),
    ("cache {\nprefetch 0\n}", {}),
    ("cache {\nprefetch 3\n}", {"prefetch_amount": 3}),
    ("cache {\nprefetch 3 30s\n}", {"prefetch_amount": 3, "prefetch_gap_s": 30.0}),
    ("cache {\nprefetch 3 30s 20%\n}", {"prefetch_amount": 3, "prefetch_gap_s": 30.0, "prefetch_percent": 20}),
    ("cache {\nserve_stale\n}", {"stale_s": 3600.0}),
    ("cache {\nserve_stale 12h\n}", {"stale_s": 43200.0}),
    ("cache {\nserve_stale 0s\n}", {}),
    ("cache {\nserve_stale 1h immediate\n}", {"stale_s": 3600.0}),
    ("cache {\nserve_stale 1h IMMEDIATE 0s\n}", {"stale_s": 3600.0, "stale_answer_ttl_s": 0}),
    (
        "cache {\nserve_stale 1h immediate 10s 30s\n}",
        {"stale_s": 3600.0, "stale_answer_ttl_s": 10, "stale_recheck_s": 30.0},
    ),
    ("cache {\nserve_stale 1h verify\n}", {"stale_s": 3600.0, "stale_mode": "verify"}),
    (
        "cache {\nserve_stale 1h verify 500ms\n}",
        {"stale_s": 3600.0, "stale_mode": "verify", "stale_verify_timeout_s": 0.5},
    ),
    (
        "cache {\nserve_stale 1h verify 0 15s\n}",
        {"stale_s": 3600.0, "stale_mode": "verify", "stale_answer_ttl_s": 15},
    ),
    (
        "cache {\nserve_stale 1h verify 100ms 15s 5m\n}",
        {
            "stale_s": 3600.0,
            "stale_mode": "verify",
            "stale_verify_timeout_s": 0.1,
            "stale_answer_ttl_s": 15,
            "stale_recheck_s": 300.0,
        },
    ),
    ("cache {\nserve_stale\nserve_stale_policy prefer_positive\n}", {"stale_s": 3600.0, "prefer_positive": True}),
    ("cache {\nserve_stale_policy prefer_positive\nserve_stale\n}", {"stale_s": 3600.0, "prefer_positive": True}),
    ("cache {\nservfail 0\n}", {"servfail_s": 0.0}),
    ("cache {\nservfail 5m\n}", {"servfail_s": 300.0}),
    ("cache {\ndisable success\n}", {"disable_success": ()}),
    ("cache {\ndisable denial a b\n}", {"disable_denial": ("a.", "b.")}),
    ("cache {\ndisable success a\ndisable denial\n}", {"disable_success": ("a.",), "disable_denial": ()}),
    ("cache {\nkeepttl\n}", {"keepttl": True}),
    ("cache {\nservfail 1s\nservfail 2s\n}", {"servfail_s": 2.0}),
]


@pytest.mark.parametrize(("text", "fields"), GOOD)
def test_good(text: str, fields: dict[str, Any]) -> None:
    assert block_of(text).cache == CacheOptions(**fields)


BAD = [
    bad("cache 0", 1, "too small, at least 1"),
    bad("cache -5", 1, "too small, at least 1"),
    bad("cache 30s", 1, "the TTL is bare seconds: cache 30"),
    bad("cache a..b", 1, "not a domain name"),
    bad("cache {\nsuccess\n}", 2, "success takes at least an argument"),
    bad("cache {\nsuccess x\n}", 2, "not a whole number"),
    bad("cache {\nsuccess -1\n}", 2, "too small"),
    bad("cache {\nsuccess 1024 0\n}", 2, "too small, at least 1"),
    bad("cache {\nsuccess 1024 30s\n}", 2, "not a whole number"),
    bad("cache {\nsuccess 1024 30 -1\n}", 2, "too small"),
    bad("cache {\ndenial 1024 30 5 7\n}", 2, "one argument too many"),
    bad("cache {\nprefetch\n}", 2, "at least an argument"),
    bad("cache {\nprefetch -1\n}", 2, "too small"),
    bad("cache {\nprefetch 3 30\n}", 2, "not a duration"),
    bad("cache {\nprefetch 3 30s 20\n}", 2, "must end in %"),
    bad("cache {\nprefetch 3 30s 9%\n}", 2, "too small, at least 10"),
    bad("cache {\nprefetch 3 30s 91%\n}", 2, "too large, at most 90"),
    bad("cache {\nserve_stale 1\n}", 2, "not a duration"),
    bad("cache {\nserve_stale -1h\n}", 2, "is negative"),
    bad("cache {\nserve_stale 1h sometimes\n}", 2, "is not a mode"),
    bad("cache {\nserve_stale 1h immediate 1.5s\n}", 2, "whole number of seconds"),
    bad("cache {\nserve_stale 1h immediate 30s 6m\n}", 2, "too long, at most 5m"),
    bad("cache {\nserve_stale 1h immediate 30s 1m 1m\n}", 2, "one argument too many"),
    bad("cache {\nserve_stale 1h verify x\n}", 2, "not a duration"),
    bad("cache {\nserve_stale 1h verify 1s 1s 1s 1s\n}", 2, "one argument too many"),
    bad("cache {\nserve_stale_policy prefer_positive\n}", 2, "needs serve_stale"),
    bad("cache {\nserve_stale\nserve_stale_policy prefer_me\n}", 3, "is not known here"),
    bad("cache {\nservfail\n}", 2, "takes an argument"),
    bad("cache {\nservfail 6m\n}", 2, "too long, at most 5m"),
    bad("cache {\ndisable\n}", 2, "at least an argument"),
    bad("cache {\ndisable all\n}", 2, "is not a kind of answer"),
    bad("cache {\nkeepttl yes\n}", 2, "one argument too many"),
    bad("cache {\nkeepttl {\n}\n}", 2, "takes no block"),
    bad("cache {\nkeep_ttl\n}", 2, 'no option "keep_ttl", did you mean "keepttl"?'),
    bad("cache\ncache", 2, "stands twice"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD)
def test_bad(text: str, line: int, problem: str) -> None:
    assert_refused(text, line, problem)


def test_each_block_has_its_own_cache() -> None:
    first, second = settings_of("a {\ncache 30\n}\nb {\n}\n").blocks
    assert first.cache is not None
    assert second.cache is None
