"""Walk a message once, and make its TTLs smaller without parsing it again.

`scan` is the gate for every answer from outside: what it returns is safe to keep, to age and to cut,
and it never raises anything but `Malformed`.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from resolver.errors import Malformed
from resolver.wire.header import HEADER, HEADER_BYTES, RCODE_MASK, TYPE_CNAME, TYPE_NS, TYPE_OPT, TYPE_SOA
from resolver.wire.message import without_opt

_RECORD = struct.Struct(">HHIH")
_TTL = struct.Struct(">I")
_WORD = struct.Struct(">H")

# A name cannot be longer than 255 bytes, so a chain of labels cannot either (RFC 1035 section 2.3.4).
_MAX_NAME_BYTES = 255

MAX_TTL_S = 2**31 - 1


class Scan(NamedTuple):
    """What one walk over an answer finds.

    packet         The message without its OPT record and without bytes behind the last record.
    flags          Second header word.
    rcode          Twelve bits: the header's four and, above them, the OPT record's eight.
    question_end   Where the question section ends.
    answers        ANCOUNT.
    has_target     The answer section has a record that is not a CNAME.
    ttl_offsets    Where each TTL starts, in bytes from the front of `packet`.
    min_ttl_s      The smallest TTL of all records, None without records.
    soa_s          min(TTL, MINIMUM) of the SOA in the authority section (RFC 2308 section 5), or None.
    has_ns         The authority section has an NS record (a referral when there is no answer).
    max_ttl_s      The largest TTL as it stands there, 0 without records: one with its top bit set is 2**31 or more
                   here, so no maximum lets it pass.
    """

    packet: bytes
    flags: int
    rcode: int
    question_end: int
    answers: int
    has_target: bool
    ttl_offsets: tuple[int, ...]
    min_ttl_s: int | None
    soa_s: int | None
    has_ns: bool
    max_ttl_s: int


def skip_name(packet: bytes, position: int) -> int:
    """Return the position behind the name at `position`; pointers must lead backwards.

    Raises Malformed for a name that is too long, a label type that RFC 1035 does not know or a pointer
    that does not lead backwards; IndexError where the packet ends too early.
    """
    start = position
    while True:
        length = packet[position]
        if length == 0:
            return position + 1
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | packet[position + 1]
            if not HEADER_BYTES <= target < start:
                raise Malformed("a compression pointer does not lead backwards")
            return position + 2
        if length > 63:
            raise Malformed("an unknown label type")
        position += length + 1
        if position - start > _MAX_NAME_BYTES:
            raise Malformed("a name is longer than 255 bytes")


def scan(packet: bytes, question_end: int = 0) -> Scan:
    """Walk `packet`, one whole answer with exactly one question, and say what is in it.

    question_end  Where its question section ends, when the caller has compared it already.

    A TTL with its top bit set counts as 0 (RFC 2181 section 8). An OPT record must be the only one.
    Raises Malformed, and nothing else, for anything that does not follow RFC 1035.
    Over 50 lines because it is one loop over one message and runs for every miss: about 1 us a record.
    """
    try:
        _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(packet)
        if questions != 1:
            raise Malformed(f"an answer has {questions} questions")
        rcode = flags & RCODE_MASK
        position = question_end = question_end or skip_name(packet, HEADER_BYTES) + 4
        offsets: list[int] = []
        min_ttl_s: int | None = None
        max_ttl_s = 0
        soa_s: int | None = None
        has_ns = has_target = False
        opt_start = opt_end = 0
        authority_end = answers + authorities
        for index in range(authority_end + additionals):
            start = position
            # Owner names are nearly always a pointer to the question: two bytes, no loop.
            if packet[position] == 0xC0 and HEADER_BYTES <= packet[position + 1] < position:
                position += 2
            else:
                position = skip_name(packet, position)
            rtype, _, ttl_s, rdata_bytes = _RECORD.unpack_from(packet, position)
            position += 10
            if rtype == TYPE_OPT:
                if opt_end or index < authority_end or packet[start]:
                    raise Malformed("an OPT record where none may be")
                opt_start, opt_end = start, position + rdata_bytes
                rcode |= ttl_s >> 24 << 4
            else:
                if ttl_s > max_ttl_s:  # noqa: PLR1730 # max is a call for every record
                    max_ttl_s = ttl_s
                if ttl_s > MAX_TTL_S:
                    ttl_s = 0
                if min_ttl_s is None or ttl_s < min_ttl_s:
                    min_ttl_s = ttl_s
                offsets.append(position - 6)
                if index < answers:
                    has_target = has_target or rtype != TYPE_CNAME
                elif index < authority_end:
                    if rtype == TYPE_SOA and rdata_bytes >= 22:
                        minimum_s = _TTL.unpack_from(packet, position + rdata_bytes - 4)[0]
                        soa_s = min(ttl_s, minimum_s if minimum_s <= MAX_TTL_S else 0)
                    elif rtype == TYPE_NS:
                        has_ns = True
            position += rdata_bytes
    except (IndexError, struct.error):
        raise Malformed("the message ends too early") from None
    if position > len(packet):
        raise Malformed("the last record runs past the message")
    if opt_end:
        if opt_end != position:
            # Rare: records stand behind it, and their compression may point behind it, too.
            return scan(without_opt(packet))
        packet = packet[:10] + (additionals - 1).to_bytes(2, "big") + packet[12:opt_start]
    elif position != len(packet):
        packet = packet[:position]
    found = (
        packet, flags, rcode, question_end, answers, has_target, tuple(offsets), min_ttl_s, soa_s, has_ns,
        max_ttl_s,
    )  # fmt: skip
    return tuple.__new__(Scan, found)  # Scan's own __new__ is a Python call for every miss


def age_ttls(packet: bytes, ttl_offsets: Sequence[int], elapsed_s: int, floor_s: int = 0) -> bytes:
    """Return a copy of `packet` in which every listed TTL is `elapsed_s` lower.

    packet       One DNS message as it crosses UDP: no TCP length in front.
    ttl_offsets  Where the 32-bit TTLs start, as `scan` gave them for this packet.
    elapsed_s    Whole seconds in the cache, 0 or more.
    floor_s      No TTL that was above it falls below it.

    A TTL stops at `floor_s` and never wraps. One with its top bit set counts as 0 (RFC 2181 section 8).
    Raises ValueError if `elapsed_s` is negative: the caller mixed two clocks.
    """
    if elapsed_s < 0:
        raise ValueError(f"an answer cannot have been stored {-elapsed_s} s in the future")
    aged = bytearray(packet)
    age_in_place(aged, ttl_offsets, elapsed_s, floor_s)
    return bytes(aged)


def age_in_place(packet: bytearray, ttl_offsets: Sequence[int], elapsed_s: int, floor_s: int) -> None:
    """As `age_ttls`, in the caller's own buffer."""
    for offset in ttl_offsets:
        ttl_s = _TTL.unpack_from(packet, offset)[0]
        if ttl_s > MAX_TTL_S:
            ttl_s = 0
        ttl_s -= elapsed_s
        _TTL.pack_into(packet, offset, ttl_s if ttl_s > floor_s else floor_s)


def lower_by(known: bytes, fresh: bytes, ttl_offsets: Sequence[int]) -> int | None:
    """Return by how many seconds every TTL of answer `fresh` is below that of answer `known`; negative if above.

    0 if they are equal, 18 if a cache upstream has had the same records for 18 s. None if TTLs differ by different
    numbers, or the answers in anything else. Their IDs do not count.

    ttl_offsets  Where the TTLs of `fresh` start, all of them.
    """
    if known[2:] == fresh[2:]:
        return 0
    start, lower_s = 2, None
    for offset in ttl_offsets:
        if known[start:offset] != fresh[start:offset]:
            return None
        start = offset + 4
        here_s = int.from_bytes(known[offset:start], "big") - int.from_bytes(fresh[offset:start], "big")
        if lower_s is not None and here_s != lower_s:
            return None
        lower_s = here_s
    return lower_s if known[start:] == fresh[start:] else None


def clamp_ttls(packet: bytes, ttl_offsets: Sequence[int], low_s: int, high_s: int) -> bytes:
    """Return `packet` with every listed TTL between `low_s` and `high_s`; the same object if nothing changes."""
    changed: bytearray | None = None
    for offset in ttl_offsets:
        ttl_s = _TTL.unpack_from(packet, offset)[0]
        clamped_s = min(max(0 if ttl_s > MAX_TTL_S else ttl_s, low_s), high_s)
        if clamped_s != ttl_s:
            if changed is None:
                changed = bytearray(packet)
            _TTL.pack_into(changed, offset, clamped_s)
    return packet if changed is None else bytes(changed)
