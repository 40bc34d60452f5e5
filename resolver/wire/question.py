"""One question as a client put it: the value that enters the pipeline."""

from typing import NamedTuple

DO_BIT = 1
CD_BIT = 2


class Question(NamedTuple):
    """What a query asks, taken from its bytes by `accept.decode`. Immutable; made once for each query.

    key          What makes two questions the same to the cache and to a flight: lower-case name in wire
                 form, type, class (RFC 1035 section 4.1.2), then one byte: DO_BIT | CD_BIT.
    asked        The question section as it arrived, letter case and all; it is echoed.
    qtype        RR type.
    qclass       RR class.
    query_id     The two ID bytes.
    flags        The second header word of the query (RFC 1035 section 4.1.1).
    edns_size    The sender's UDP payload size, 0 when there was no OPT record (RFC 6891 section 6.2.3).
    do           DNSSEC OK (RFC 3225).
    size_bytes   The length of the whole query, for the metrics.
    packet_key   The query's bytes after its ID when an answer to it may be kept in the packet cache, else None.
    """

    key: bytes
    asked: bytes
    qtype: int
    qclass: int
    query_id: bytes
    flags: int
    edns_size: int
    do: bool
    size_bytes: int
    packet_key: bytes | None

    @property
    def name(self) -> bytes:
        """The lower-case name in wire form."""
        return self.key[:-5]
