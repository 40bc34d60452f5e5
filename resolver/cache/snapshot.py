"""Caches as bytes and back: our own versioned format (decision 0005), for a file or the next generation.

    head                  magic, version, boot, wall clock, process clock, CRC-32
    BLOCK frames          one for each cache: whose it is (zones and addresses of its server block)
    ENTRIES frames        up to SLICE_ENTRIES answers of one store of one cache, those in use first
    END frame             how many answers there were

What callers may rely on:

- `encode` yields after a bounded piece of work, and `Loading.take` takes one frame: neither holds the loop. What
  cannot be cut up is the list of a store's keys, 2 ms at 100,000.
- Ages go on counting. Times are the writer's process clock's; `clock_shift_s` says what they are in the reader's.
- Whatever the bytes are, nothing is raised but BadSnapshot, and no more is kept than capacities and ledger allow.
  Each answer goes through `wire.ttls.scan` again, as if it came from upstream.
- Failures are not taken. Expired answers are, as far as `serve_stale` still allows them.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from resolver.cache.cache import Cache
from resolver.cache.entry import Entry, Kind
from resolver.cache.frames import frame
from resolver.errors import BadSnapshot, Malformed
from resolver.wire.header import HEADER_BYTES, QR, TC
from resolver.wire.ttls import scan

VERSION = 1
MAGIC = b"node-resolver cache\0"

SLICE_ENTRIES = 128
"""Of a frame: 128 x 6 us to load are 0.8 ms, and some 4,000 calls as tests/test_loop_turns.py counts them."""

SLICE_BYTES = 16 * 1024
"""Of a frame: answers with many records cost by the record, which has 12 bytes at least."""

LOOKED_AT = 1024
"""Keys looked at in one piece of work where few of them are written."""

BLOCKS_MAX = 1024

OLDEST_S = 86_400.0
"""Answers of more than a day ago are no use: most would be expired, and a clock was probably set."""

BETWEEN_LIVING_S = 60.0
"""A head that comes from a living process was written a moment ago."""

BLOCK, ENTRIES, END = 1, 2, 3

_START = struct.Struct(">20sH")
_HEAD = struct.Struct(">20sH16sdd")
_CHECKSUM = struct.Struct(">I")
HEAD_BYTES = _HEAD.size + _CHECKSUM.size
_STORE = struct.Struct(">HB")
_ENTRY = struct.Struct(">HHIdddIB")
_TOTAL = struct.Struct(">Q")
_MOST = 2**32 - 1
_LONGEST_S = float(2**31)

Identity = tuple[tuple[str, ...], tuple[tuple[str, int], ...]]
"""Zones and addresses of a server block, as `resolver.kept` knows it again."""


class Taken(NamedTuple):
    """When and where a snapshot was made. boot_id: 16 bytes; clock_s: the process clock."""

    boot_id: bytes
    wall_s: float
    clock_s: float


def encode(
    taken: Taken, caches: Sequence[tuple[Identity, Cache]], since_s: float = float("-inf")
) -> Iterator[bytes]:
    """Yield the snapshot in pieces, the head first, some of them empty: the loop may have a turn after each.

    since_s  Answers that were stored before this moment are left out: the reader has them.
    """
    head = _HEAD.pack(MAGIC, VERSION, *taken)
    yield head + _CHECKSUM.pack(crc32(head))
    for identity, _ in caches:
        yield frame(BLOCK, _identity_bytes(identity))
    total = 0
    for number, (_, cache) in enumerate(caches):
        for kind, store in ((Kind.SUCCESS, cache.success), (Kind.DENIAL, cache.denial)):
            ends_s = taken.clock_s - cache.options.stale_s
            # The dictionary's own order: an OrderedDict's takes four times as long to list.
            keys = list(dict.keys(store.entries))
            keys.reverse()
            cold: list[bytes] = []
            for hot, some in ((True, keys), (False, cold)):
                batch = _Batch(number, kind)
                for at in range(0, len(some), LOOKED_AT):
                    for key in some[at : at + LOOKED_AT]:
                        entry = store.entries.get(key)
                        if entry is None or entry.expires_s <= ends_s or entry.stored_s < since_s:
                            continue
                        if hot and not entry.life.uses:
                            cold.append(key)
                            continue
                        total += 1
                        if batch.add(key, entry):
                            yield batch.take()
                    yield b""
                yield batch.take()
    yield frame(END, _TOTAL.pack(total))


class _Batch:
    """Answers on their way into one frame."""

    def __init__(self, number: int, kind: Kind) -> None:
        self._head = _STORE.pack(number, kind)
        self._parts: list[bytes] = []
        self._entries = 0
        self._bytes = 0

    def add(self, key: bytes, entry: Entry) -> bool:
        """Add one; tell whether the frame is full."""
        life, packet = entry.life, entry.packet
        uses = life.uses if life.uses < _MOST else _MOST
        times = entry.stored_s, entry.expires_s, life.used_s
        self._parts += (
            _ENTRY.pack(len(key), len(packet), uses, *times, entry.ttl_s, entry.floor_s), key, packet
        )  # fmt: skip
        self._entries += 1
        self._bytes += len(key) + len(packet)
        return self._entries >= SLICE_ENTRIES or self._bytes >= SLICE_BYTES

    def take(self) -> bytes:
        """Return the frame and begin another; nothing if there is nothing in it."""
        if not self._entries:
            return b""
        payload = b"".join((self._head, *self._parts))
        self._parts.clear()
        self._entries = self._bytes = 0
        return frame(ENTRIES, payload)


def read_head(data: bytes) -> Taken:
    """Return what the first HEAD_BYTES of a snapshot say. Raises BadSnapshot."""
    if len(data) < _START.size or data[: len(MAGIC)] != MAGIC:
        raise BadSnapshot("it is no snapshot of ours")
    version = _START.unpack_from(data)[1]
    if version != VERSION:
        raise BadSnapshot(f"its format is version {version}, ours is {VERSION}")
    if len(data) < HEAD_BYTES or _CHECKSUM.unpack_from(data, _HEAD.size)[0] != crc32(data[: _HEAD.size]):
        raise BadSnapshot("its head is broken")
    return Taken(*_HEAD.unpack_from(data)[2:])


def clock_shift_s(taken: Taken, now: Taken, *, living: bool) -> float:
    """Return what to add to a snapshot's times to have them in the reader's process clock.

    living  It comes from a process that lives: both have one CLOCK_MONOTONIC. Else by the wall clock, or by the
            monotonic one if the machine was not started anew and that says more: an age is never made younger.

    Raises BadSnapshot when it is too old, or from the future (a clock was set back).
    """
    same_boot = taken.boot_id == now.boot_id
    by_clock_s = now.clock_s - taken.clock_s
    if living:
        if not same_boot or not -1.0 <= by_clock_s <= BETWEEN_LIVING_S:
            raise BadSnapshot("the other process has another clock")
        return 0.0
    elapsed_s = now.wall_s - taken.wall_s
    if same_boot:
        elapsed_s = max(elapsed_s, by_clock_s)
    if not elapsed_s >= 0.0:  # also for what is no number
        raise BadSnapshot("it is from the future: the clock was set back")
    if not elapsed_s <= OLDEST_S:
        raise BadSnapshot(f"it is {elapsed_s / 3600:.0f} hours old, at most {OLDEST_S / 3600:.0f} are of use")
    return by_clock_s - elapsed_s


class Loading:
    """One snapshot on its way into caches: `take` each frame until `done`."""

    def __init__(self, shift_s: float, resolve: Callable[[Sequence[Identity]], Sequence[Cache | None]]) -> None:
        """`resolve` is asked once whose cache each block's answers go to; None: nobody's."""
        self.done = False
        self.loaded = 0
        self.left = 0  # not kept: expired, known better, without room, or nobody's
        self._shift_s = shift_s
        self._resolve = resolve
        self._identities: list[Identity] = []
        self._caches: Sequence[Cache | None] | None = None

    def take(self, kind: int, payload: bytes, now_s: float) -> None:
        """Take one frame. Raises BadSnapshot; what came before stays."""
        if self.done:
            raise BadSnapshot("there is something behind its end")
        if kind == BLOCK and self._caches is None and len(self._identities) < BLOCKS_MAX:
            self._identities.append(_identity(payload))
            return
        if self._caches is None:
            self._caches = self._resolve(self._identities)
        if kind == ENTRIES:
            self._take_entries(payload, now_s)
        elif kind == END and len(payload) == _TOTAL.size:
            self.done = True
            if _TOTAL.unpack(payload)[0] != self.loaded + self.left:
                raise BadSnapshot("parts of it are missing")
        else:
            raise BadSnapshot(f"a frame of kind {kind} where none may be")

    def _take_entries(self, payload: bytes, now_s: float) -> None:
        try:
            number, kind = _STORE.unpack_from(payload)
        except struct.error:
            raise BadSnapshot("a slice ends too early") from None
        caches = self._caches or ()
        if number >= len(caches) or kind not in {Kind.SUCCESS, Kind.DENIAL}:
            raise BadSnapshot("a slice belongs to nobody")
        cache, position = caches[number], _STORE.size
        while position < len(payload):
            position = self._take_entry(payload, position, cache, Kind(kind), now_s)

    def _take_entry(self, payload: bytes, position: int, cache: Cache | None, kind: Kind, now_s: float) -> int:
        """Load one answer if it is of use; return where the next one begins."""
        try:
            key_bytes, packet_bytes, uses, stored_s, expires_s, used_s, ttl_s, floor_s = _ENTRY.unpack_from(
                payload, position
            )
        except struct.error:
            raise BadSnapshot("a slice ends too early") from None
        key_at = position + _ENTRY.size
        packet_at: int = key_at + key_bytes
        end: int = packet_at + packet_bytes
        if end > len(payload):
            raise BadSnapshot("an answer runs past its slice")
        shift_s = self._shift_s
        stored_s, expires_s, used_s = stored_s + shift_s, expires_s + shift_s, used_s + shift_s
        if not (now_s - _LONGEST_S <= stored_s <= expires_s <= stored_s + _LONGEST_S and used_s <= now_s + 60.0):
            raise BadSnapshot("a time in it is impossible")
        self.left += 1
        if cache is None or cache.closed or expires_s + cache.options.stale_s <= now_s:
            return end
        key, packet = payload[key_at:packet_at], payload[packet_at:end]
        try:
            found = scan(packet)
        except Malformed as error:
            raise BadSnapshot(f"an answer in it is malformed: {error}") from None
        if (
            packet[HEADER_BYTES : found.question_end] != key[:-1]
            or key[:-5].lower() != key[:-5]
            or key[-1] > 3
            or len(found.packet) != len(packet)
            or found.rcode > 15
            or found.flags & (QR | TC) != QR
        ):
            raise BadSnapshot("an answer in it does not fit its question")
        # A clock may have gone on between the two processes' readings; nothing was stored in the future.
        stored_s = min(stored_s, now_s)
        if cache.restore(key, found, kind, stored_s, expires_s, floor_s, ttl_s, uses, min(used_s, now_s)):
            self.left -= 1
            self.loaded += 1
        return end


def _identity_bytes(identity: Identity) -> bytes:
    zones, addresses = identity
    words = [str(len(zones)), *zones, *(word for host, port in addresses for word in (host, str(port)))]
    return "\0".join(words).encode()


def _identity(payload: bytes) -> Identity:
    try:
        number, *words = payload.decode().split("\0")
        zones = tuple(words[: int(number)])
        rest = words[len(zones) :]
        return zones, tuple((host, int(port)) for host, port in zip(rest[::2], rest[1::2], strict=True))
    except ValueError:
        raise BadSnapshot("a server block in it cannot be read") from None
