"""Exact counts of questions and answers, cheap enough for each one.

A *series* is everything that is equal for a set of answers: who listened, the zone, the type, the rcode,
the DO bit, and the buckets that its sizes fall into. Counting an answer is three additions on one object;
the scrape (`status.exposition`) folds series into CoreDNS's metrics. The number of series is bounded by the
product of small label sets (types and rcodes outside CoreDNS's lists are counted as one), never by names
or clients.

Durations: the first bucket ends at 250 us. Whoever answers inside a batch that took less does nothing; the
scrape puts `uses` minus all slower counts into the first bucket. `duration_sum_s` therefore leaves out answers
faster than that.
"""

from bisect import bisect_left
from typing import NamedTuple

TIME_BUCKETS_S = tuple(0.00025 * 2**n for n in range(16))
"""CoreDNS plugin.TimeBuckets."""

SIZE_BUCKETS_BYTES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
"""CoreDNS's size buckets."""

TYPE_NAMES = {
    1: "A", 28: "AAAA", 5: "CNAME", 48: "DNSKEY", 43: "DS", 15: "MX", 47: "NSEC", 50: "NSEC3", 2: "NS",
    12: "PTR", 46: "RRSIG", 6: "SOA", 33: "SRV", 16: "TXT", 65: "HTTPS", 64: "SVCB", 251: "IXFR",
    252: "AXFR", 255: "ANY",
}  # fmt: skip
"""Types that have a label of their own; all others are `other` (CoreDNS plugin/metrics/vars)."""

RCODE_NAMES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE", "RCODE11", "RCODE12", "RCODE13", "RCODE14", "RCODE15", "BADVERS",
)  # fmt: skip


class ListenerLabels(NamedTuple):
    """What all answers of one listener share: `dns://10.0.0.1:53`, `udp` or `tcp`, `1` (IPv4) or `2`."""

    server: str
    proto: str
    family: str


class SeriesKey(NamedTuple):
    """The labels of one series.

    plugin  Who wrote the answer; empty for the server itself.
    kind    For `cache`: the store it came from, `success` or `denial`, or `failure`.
    """

    listener: ListenerLabels
    zone: str
    view: str
    qtype: int
    rcode: int
    do: bool
    plugin: str
    request_bucket: int
    response_bucket: int
    kind: str = ""


class Series:
    """Counters of one label set. `late_counts[i]` counts answers of TIME_BUCKETS_S[i]; the last is +Inf."""

    __slots__ = ("duration_sum_s", "key", "late_counts", "request_bytes", "response_bytes", "uses")

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.uses = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration_sum_s = 0.0
        self.late_counts: list[int] | None = None

    def late(self, duration_s: float, number: int = 1) -> None:
        """As many of `uses` took longer than the first bucket: put them into their own."""
        counts = self.late_counts
        if counts is None:
            counts = self.late_counts = [0] * (len(TIME_BUCKETS_S) + 1)
        counts[bisect_left(TIME_BUCKETS_S, duration_s)] += number
        self.duration_sum_s += duration_s * number


class SeriesTable:
    """All series of the process; they outlive reloads, as counters must."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[object, ...], Series] = {}

    def count(
        self,
        listener: ListenerLabels,
        zone: str,
        view: str,
        qtype: int,
        rcode: int,
        do: bool,
        plugin: str,
        request_size: int,
        response_size: int,
        duration_s: float,
        kind: str = "",
    ) -> Series:
        """Count one answer and return its series, so that a rendering can count the next ones itself."""
        key = (
            listener, zone, view, qtype if qtype in TYPE_NAMES else 0, rcode, do, plugin,
            bisect_left(SIZE_BUCKETS_BYTES, request_size), bisect_left(SIZE_BUCKETS_BYTES, response_size),
            kind,
        )  # fmt: skip
        series = self.by_key.get(key)
        if series is None:
            series = self.by_key[key] = Series(SeriesKey(*key))
        series.uses += 1
        series.request_bytes += request_size
        series.response_bytes += response_size
        if duration_s > TIME_BUCKETS_S[0]:  # `late` written out: nearly every miss comes here
            counts = series.late_counts
            if counts is None:
                counts = series.late_counts = [0] * (len(TIME_BUCKETS_S) + 1)
            counts[bisect_left(TIME_BUCKETS_S, duration_s)] += 1
            series.duration_sum_s += duration_s
        return series
