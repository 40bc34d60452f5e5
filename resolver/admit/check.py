"""Questions that no cache and no upstream is asked: refused here, each with its reason.

A server that does not answer is wrong (RFC 8906), so everything gets an answer: REFUSED for zone transfers
(RFC 5936 section 2.2.1: this is no authority) and classes other than IN, NOTIMP for the meta types that nobody
implements (RFC 6895 section 3.1; RFC 8906 section 3.1.2), FORMERR for types that are no question.
"""

from resolver.wire.answer import Refusal
from resolver.wire.edns import EDE_NOT_AUTHORITATIVE, EDE_NOT_SUPPORTED, EDE_PROHIBITED
from resolver.wire.header import CLASS_IN, FORMERR, NOTIMP, REFUSED, TYPE_AXFR, TYPE_IXFR, TYPE_OPT

_TRANSFER = Refusal(REFUSED, EDE_NOT_AUTHORITATIVE, "zone transfers come from the zone's own servers")
_CLASS = Refusal(REFUSED, EDE_PROHIBITED, "only class IN is served")
_META = Refusal(NOTIMP, EDE_NOT_SUPPORTED, "this meta type is not implemented")
_NO_QUESTION = Refusal(FORMERR)

OUTSIDE = Refusal(REFUSED, EDE_PROHIBITED, "no server block covers this name")
NOT_RECURSIVE = Refusal(REFUSED, EDE_NOT_AUTHORITATIVE, "not in the cache, and the query did not ask for recursion")
OUR_OWN = Refusal(REFUSED, EDE_PROHIBITED, "a loop check came back")

SPECIAL_TYPES = frozenset({0, 13, TYPE_OPT, *range(128, 255)})
"""Types that are looked at before anything else: meta types, and HINFO for the loop check."""

NO_ZONE_LABEL = "dropped"
"""CoreDNS's zone label for what no server block took."""


def check(qtype: int, qclass: int) -> Refusal | None:
    """Return why a question of this type and class is refused, or None."""
    if qclass != CLASS_IN:
        return _CLASS
    if qtype in {0, TYPE_OPT}:
        return _NO_QUESTION
    if qtype in {TYPE_AXFR, TYPE_IXFR}:
        return _TRANSFER
    if 128 <= qtype <= 254:
        return _META
    return None
