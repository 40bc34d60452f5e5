"""What answers are told apart by when they are counted, and CoreDNS's buckets and names for it."""

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
