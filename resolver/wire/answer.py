"""One answer: the value that stages hand to each other, and the one that says no."""

from typing import NamedTuple


class Answer(NamedTuple):
    """A whole DNS message that answers a question. Immutable: many waiters share one.

    packet       As `wire.ttls.scan` accepted it: one question, lower case; no OPT record; nothing behind
                 the last record. The ID and the flags that belong to one client are set by `reply.fit`.
    ttl_offsets  Where its 32-bit TTLs start, in bytes from the front.
    rcode        0 to 15.
    source       The plugin that made it, as in CoreDNS's `plugin` label: `forward`, `cache`, or empty.
    """

    packet: bytes
    ttl_offsets: tuple[int, ...]
    rcode: int
    source: str


class Refusal(NamedTuple):
    """An answer without records, made here: an rcode and, for a client with EDNS, why (RFC 8914).

    rcode        0 to 15 (16, BADVERS, where the EDNS version is the reason).
    ede_code     Extended error INFO-CODE (RFC 8914 section 4), or None.
    ede_text     EXTRA-TEXT for people; plain ASCII, short.
    source       As in `Answer`.
    """

    rcode: int
    ede_code: int | None = None
    ede_text: str = ""
    source: str = ""
