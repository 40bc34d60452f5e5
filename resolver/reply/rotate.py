"""The records of an answer in other orders, so that each address stands first as often as the others.

Many clients take the first address only. CoreDNS's `loadbalance` shuffles for each answer. Here an answer gets up
to TURNS_MAX orders once, and they take turns: that spreads at least as evenly, and orders that are known beforehand
can be renderings in the packet cache.

The order of a section is CoreDNS's (plugin/loadbalance): CNAME records first, because stub resolvers such as glibc
want them there, then all others as they stood, then A and AAAA together, then MX. With `prefer`, the others are
last and addresses stand in classes by network. What takes turns is a class of addresses, and MX.

What callers may rely on: the same records in each section, byte for byte, in a message of the same length; only
NOERROR answers change.

A record can be moved without a look into it, but for compressed names: they may point into another record
(RFC 1035 section 4.1.4). An answer where one points into records that would move is left as it is. Usual servers
compress addresses against the question or a CNAME, and those stay.

Bytes in, bytes out; chance is an argument.
"""

import ipaddress
import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from resolver.errors import Malformed
from resolver.reply.options import LoadBalanceOptions
from resolver.wire.header import HEADER, HEADER_BYTES, RCODE_MASK, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_MX
from resolver.wire.ttls import skip_name

TURNS_MAX = 8
"""Orders of one answer, so renderings of one ring. Of more addresses, eight by chance stand first until the ring is
made anew."""

RECORDS_MAX = 256
"""An answer of more records is left as it is: 256 take 0.6 ms to put into order."""

_NAMELESS = frozenset({TYPE_A, TYPE_AAAA, 16, 43, 46, 47, 48, 50, 64, 65, 257})
"""Types whose data cannot hold a compressed name: addresses, TXT, DS, RRSIG, NSEC, DNSKEY, NSEC3 (RFC 4034), SVCB,
HTTPS (RFC 9460), CAA. In the data of all others, whatever looks like a pointer is one."""

_FIXED_BYTES = 10
"""Type, class, TTL and length of the data."""

_POINTER = re.compile(rb"[\xc0-\xff]")

Shuffle = Callable[[list[int]], None]
"""Brings a list into an order by chance, in place."""


class Turn(NamedTuple):
    """One order of an answer.

    packet       The message.
    ttl_offsets  Where its TTLs start, all of them, in the order of its records.
    """

    packet: bytes
    ttl_offsets: tuple[int, ...]


class _Record(NamedTuple):
    """Where a record stands: its owner from `start`, its type at `type_at`, its last byte before `end`."""

    start: int
    type_at: int
    end: int
    rtype: int


class Ring:
    """The orders of one answer."""

    __slots__ = ("_classes", "_packet", "_records", "_start", "turns")

    def __init__(
        self, packet: bytes, records: Sequence[_Record], classes: Sequence[list[int]], question_end: int
    ) -> None:
        """`classes` are the records by number in the order of the message; members of one take turns."""
        self._packet = packet
        self._records = records
        self._classes = classes
        self._start = question_end
        self.turns = _turns([len(members) for members in classes if len(members) > 1])

    def turn(self, number: int) -> Turn:
        """Return order `number`; numbers go on for ever, orders come again after `turns` of them."""
        number %= self.turns
        packet, records = self._packet, self._records
        parts = [packet[: self._start]]
        offsets = []
        position = self._start
        for members in self._classes:
            size = len(members)
            first = 0 if size == 1 else number * max(1, size // self.turns) % size
            for index in (*members[first:], *members[:first]) if first else members:
                start, type_at, end, _ = records[index]
                parts.append(packet[start:end])
                offsets.append(position + type_at - start + 4)
                position += end - start
        return Turn(b"".join(parts), tuple(offsets))


class Rotation:
    """`loadbalance` of one server block."""

    __slots__ = ("_prefer", "_shuffle")

    def __init__(self, options: LoadBalanceOptions, shuffle: Shuffle = random.shuffle) -> None:
        """`shuffle` decides who is first in turn 0, and who follows whom."""
        networks = [ipaddress.ip_network(network) for network in options.prefer]
        self._prefer = [
            (TYPE_A if network.version == 4 else TYPE_AAAA, int(network.network_address), int(network.netmask))
            for network in networks
        ]
        self._shuffle = shuffle

    def ring(self, packet: bytes, question_end: int) -> Ring | None:
        """Return the orders of `packet`, or None where there is only the one that it has.

        packet        As `wire.ttls.scan` accepted it: no OPT record, nothing behind the last record.
        question_end  Where its first record starts.
        """
        _, flags, _, *counts = HEADER.unpack_from(packet)
        if flags & RCODE_MASK or max(counts) < 2 or sum(counts) > RECORDS_MAX:
            return None
        records = list(_walk(packet, question_end, sum(counts)))
        classes: list[list[int]] = []
        moving: list[tuple[int, int]] = []
        first = 0
        for section, count in enumerate(counts):
            found = self._arrange(packet, records, range(first, first + count), preferring=section != 1)
            moving += _moving(records, found, first)
            classes += found
            first += count
        if not moving or _points_into(packet, records, moving, question_end):
            return None
        for members in classes:
            if len(members) > 1:
                self._shuffle(members)
        return Ring(packet, records, classes, question_end)

    def _arrange(
        self, packet: bytes, records: Sequence[_Record], numbers: Sequence[int], *, preferring: bool
    ) -> list[list[int]]:
        """Return one section's records in order, those that take turns in one class."""
        aliases: list[list[int]] = []
        others: list[list[int]] = []
        addresses: list[list[int]] = [[] for _ in range(len(self._prefer) + 1)]
        exchanges: list[int] = []
        for number in numbers:
            rtype = records[number].rtype
            if rtype == TYPE_CNAME:
                aliases.append([number])
            elif rtype in (TYPE_A, TYPE_AAAA):
                addresses[self._rank(packet, records[number]) if preferring else -1].append(number)
            elif rtype == TYPE_MX:
                exchanges.append(number)
            else:
                others.append([number])
        turning = [members for members in (*addresses, exchanges) if members]
        if self._prefer and preferring:
            return [*aliases, *turning, *others]
        return [*aliases, *others, *turning]

    def _rank(self, packet: bytes, record: _Record) -> int:
        """Return the number of the first preferred network that has this address, else how many there are."""
        address = int.from_bytes(packet[record.type_at + _FIXED_BYTES : record.end], "big")
        for rank, (rtype, network, mask) in enumerate(self._prefer):
            if record.rtype == rtype and address & mask == network:
                return rank
        return len(self._prefer)


def _turns(sizes: Sequence[int]) -> int:
    """Return how many orders let each member of each class stand first equally often; at most TURNS_MAX.

    Where no such number is small enough, the first class counts: it is what clients look at.
    """
    exact = math.lcm(*sizes)
    return exact if exact <= TURNS_MAX else min(sizes[0], TURNS_MAX)


def _walk(packet: bytes, position: int, number: int) -> Iterator[_Record]:
    for _ in range(number):
        start = position
        position = skip_name(packet, position)
        end = position + _FIXED_BYTES + (packet[position + 8] << 8 | packet[position + 9])
        yield _Record(start, position, end, packet[position] << 8 | packet[position + 1])
        position = end


def _moving(records: Sequence[_Record], classes: Sequence[list[int]], first: int) -> Iterator[tuple[int, int]]:
    """Yield the stretch of bytes of one section in which nothing is sure to stay where it is, if there is one."""
    number = first
    for members in classes:
        if len(members) > 1 or members[0] != number:
            yield records[number].start, records[first + sum(map(len, classes)) - 1].end
            return
        number += 1


def _points_into(
    packet: bytes, records: Sequence[_Record], moving: Sequence[tuple[int, int]], question_end: int
) -> bool:
    """Tell whether a name somewhere points into what moves, or to where no whole name stands.

    The second is nothing that a sane server sends; but what is read there as a name may go on into what moves.
    """
    starts = [record.start for record in records]
    stretches = [(HEADER_BYTES, question_end)]
    for start, type_at, end, rtype in records:
        stretches.append((start, type_at))
        if rtype not in _NAMELESS:
            stretches.append((type_at + _FIXED_BYTES, end))
    for low, high in stretches:
        for found in _POINTER.finditer(packet, low, high):
            at = found.start()
            target = (packet[at] & 0x3F) << 8 | packet[at + 1] if at + 1 < high else len(packet)
            if target == HEADER_BYTES or target >= len(packet):
                continue
            record = records[bisect_right(starts, target) - 1] if target >= question_end else None
            if not _is_name(packet, target, record, question_end):
                return True
            if any(start <= target < end for start, end in moving):
                return True
    return False


def _is_name(packet: bytes, position: int, record: _Record | None, question_end: int) -> bool:
    """Tell whether what stands at `position` can be a name, whole inside one place of `record` or the question."""
    if record is None:
        low, high = HEADER_BYTES, question_end - 4
    elif position < record.type_at:
        low, high = record.start, record.type_at
    elif record.rtype in _NAMELESS:
        return False
    else:
        low, high = record.type_at + _FIXED_BYTES, record.end
    try:
        return low <= position and skip_name(packet, position) <= high
    except (Malformed, IndexError):
        return False
