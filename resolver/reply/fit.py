"""One stored message, made into the answer that this client can use.

Each asker gets its own ID, its own letter case, the header bits that its query calls for, TTLs that have
counted down, an OPT record only if it sent one, and no more bytes than it can take.

Header bits (RFC 6840 section 5.7 and 5.8, RFC 1035 section 4.1.1): RA is always set, RD and CD are the
query's, AD is upstream's and shown only to who set AD or DO, AA only where the caller passes it on.
"""

import struct
from typing import Protocol

from resolver.wire.edns import PLAIN
from resolver.wire.header import AD, CD, HEADER, HEADER_BYTES, QR, RA, RCODE_MASK, RD, TC
from resolver.wire.question import Question
from resolver.wire.ttls import age_in_place, skip_name

STREAM_BYTES = 65535
MIN_UDP_BYTES = 512


class Fit(Protocol):
    """`fit`, here in Python and in `accept.codec` in C."""

    def __call__(
        self,
        question: Question,
        packet: bytes,
        ttl_offsets: tuple[int, ...],
        elapsed_s: int,
        floor_s: int,
        max_bytes: int,
        authoritative: int = 0,
        opt: bytes | None = None,
    ) -> bytes:
        """Return the whole answer."""


_RDLENGTH = struct.Struct(">H")


def fit(
    question: Question,
    packet: bytes,
    ttl_offsets: tuple[int, ...],
    elapsed_s: int,
    floor_s: int,
    max_bytes: int,
    authoritative: int = 0,
    opt: bytes | None = None,
) -> bytes:
    """Return the whole answer to `question` that `packet` holds.

    packet         As `wire.ttls.scan` returned it for a question of the same name length.
    ttl_offsets    Where its TTLs stand; each becomes `elapsed_s` smaller, but not below `floor_s`.
    max_bytes      STREAM_BYTES over TCP; over UDP the listener's own limit, which the client's EDNS size,
                   or 512 bytes without EDNS, makes smaller.
    authoritative  AA if the answer is fresh from a server that set it, else 0.
    opt            The OPT record for a client with EDNS; by default the plain one.
    """
    if elapsed_s and ttl_offsets:
        aged = bytearray(packet)
        age_in_place(aged, ttl_offsets, elapsed_s, floor_s)
        packet = bytes(aged)
    edns_size = question.edns_size
    asked_flags = question.flags
    flags = (
        QR | RA | authoritative | asked_flags & (RD | CD)
        | packet[3] & (RCODE_MASK | AD if asked_flags & AD or question.do else RCODE_MASK)
    )  # fmt: skip
    asked = question.asked
    body = packet[HEADER_BYTES + len(asked) :]
    if edns_size:
        if opt is None:
            opt = PLAIN[question.do]
        counts = packet[4:10] + ((packet[10] << 8 | packet[11]) + 1).to_bytes(2, "big")
    else:
        opt = b""
        counts = packet[4:HEADER_BYTES]
    answer = b"".join((question.query_id, flags.to_bytes(2, "big"), counts, asked, body, opt))
    if len(answer) <= MIN_UDP_BYTES or max_bytes == STREAM_BYTES:
        return answer
    limit_bytes = min(max(edns_size, MIN_UDP_BYTES), max_bytes)
    if len(answer) <= limit_bytes:
        return answer
    return truncate(answer[: len(answer) - len(opt)], opt, limit_bytes)


def truncate(answer: bytes, opt: bytes, limit_bytes: int) -> bytes:
    """Return `answer` (without an OPT record of its own) cut to `limit_bytes`, with `opt` behind it.

    Additional records go first, and their loss is no truncation. If the rest is still too long, TC is set and
    as many whole answer records stay as fit (RFC 2181 section 9; old musl uses what is there and never
    asks over TCP).
    """
    query_id, flags, questions, answers, authorities, _ = HEADER.unpack_from(answer)
    room_bytes = limit_bytes - len(opt)
    position = skip_name(answer, HEADER_BYTES) + 4
    kept = 0
    ends = []
    for _ in range(answers + authorities):
        position = skip_name(answer, position) + 10
        position += _RDLENGTH.unpack_from(answer, position - 2)[0]
        if position > room_bytes:
            break
        ends.append(position)
        kept += 1
    whole = kept == answers + authorities
    if not whole:
        flags |= TC
        kept = min(kept, answers)
    end = ends[kept - 1] if kept else HEADER_BYTES + (skip_name(answer, HEADER_BYTES) - HEADER_BYTES) + 4
    counts = (kept, 0) if not whole else (answers, authorities)
    header = HEADER.pack(query_id, flags, questions, *counts, 1 if opt else 0)
    return header + answer[HEADER_BYTES:end] + opt
