"""The cache of one server block: three stores, one question in, the best that is known out.

What callers may rely on:

- A fresh answer beats a stale one, and both beat a kept failure: a failure never hides good data.
- NXDOMAIN learned for type A also answers AAAA (RFC 2308 section 5: the name does not exist), not the other
  way round, because some servers' AAAA filters claim NXDOMAIN for names that exist.
- Nothing here knows of clients, packets' IDs or upstreams.
"""

import math

from resolver.cache.entry import OVERHEAD_BYTES, Entry, Kind, Life
from resolver.cache.ledger import Ledger
from resolver.cache.lifetime import Lifetime
from resolver.cache.options import CacheOptions
from resolver.cache.store import Store
from resolver.wire import names
from resolver.wire.header import NXDOMAIN, SERVFAIL
from resolver.wire.ttls import Scan, clamp_ttls, lower_by

FAILURES_MAX = 1024
"""Kept failures of one block: 1 MiB; one more makes the oldest go."""

BYTES_OF_A = b"\0\1"
_TYPE_AAAA = b"\0\x1c"


class Cache:
    """Stores and options of one block. `options` may be swapped by a reload; the stores stay."""

    def __init__(self, options: CacheOptions, ledger: Ledger) -> None:
        self.success = Store(options.success_capacity, ledger)
        self.denial = Store(options.denial_capacity, ledger)
        self.failures = Store(FAILURES_MAX, ledger)
        self.closed = False
        self.configure(options)

    def configure(self, options: CacheOptions) -> None:
        """Take new options; what is stored stays, and is cut to smaller capacities by and by (`Ledger.tidy`)."""
        self.options = options
        self.success.capacity = options.success_capacity
        self.denial.capacity = options.denial_capacity
        self.zones = tuple(names.from_text(zone.lower()) for zone in options.zones)
        self._no_success = _zones_or_all(options.disable_success)
        self._no_denial = _zones_or_all(options.disable_denial)

    def covers(self, name: bytes) -> bool:
        """Tell whether answers for lower-case wire `name` are kept at all (`cache TTL ZONES...`)."""
        return not self.zones or any(names.is_below(name, zone) for zone in self.zones)

    def find(self, key: bytes, now_s: float) -> Entry | None:
        """Return the best entry for `key`: fresh, else stale within bounds, else a kept failure, else None."""
        entry = self.success.entries.get(key) or self.denial.entries.get(key)
        if entry is not None and now_s < entry.expires_s:
            return entry
        if key[-5:-3] == _TYPE_AAAA:
            other = self.denial.entries.get(key[:-5] + BYTES_OF_A + key[-3:])
            if other is not None and other.rcode == NXDOMAIN and now_s < other.expires_s:
                return other
        if entry is not None and now_s < entry.expires_s + self.options.stale_s:
            return entry
        if self.failures.entries:
            failure = self.failures.entries.get(key)
            if failure is not None and now_s < failure.expires_s:
                return failure
        return None

    def last_said_nxdomain(self, key: bytes) -> bool:
        """Tell whether the last answer for `key` was that its name does not exist, however old that is."""
        known = self.denial.entries.get(key)
        return known is not None and known.rcode == NXDOMAIN

    def put(self, key: bytes, scan: Scan, lifetime: Lifetime, now_s: float) -> Entry:
        """Return the entry for an answer from upstream, kept under `key` if it may be kept.

        Where it repeats what is known, the life of that goes on with all its renderings, also if its TTLs have
        counted down in a cache upstream, or are whole again there (decision 0009).

        Over 50 lines because it runs for every miss: each part of it would be a Python call more.
        """
        kind, keep_s, cap_s, floor_s = lifetime
        packet, _, rcode, _, _, _, ttl_offsets, min_ttl_s, _, _, max_ttl_s = scan
        min_ttl_s = min_ttl_s or 0
        if max_ttl_s > cap_s or min_ttl_s < floor_s:  # else, as usual, there is nothing to change
            packet = clamp_ttls(packet, ttl_offsets, floor_s, cap_s)
        options = self.options
        if kind == Kind.SUCCESS:
            store, barred = self.success, self._no_success
        elif kind == Kind.FAILURE:
            store, barred = self.failures, None
        else:
            store, barred = self.denial, self._no_denial
        is_kept = keep_s > 0 and (barred is None or not _covered(key, barred))
        life = None
        stored_s = now_s
        known = store.entries.get(key) if is_kept else None
        if known is not None and not floor_s:
            lower_s = self._repeats(known, packet, ttl_offsets)
            if lower_s is not None:
                life = known.life
                # So much lower than in the answer that its renderings have counted down from.
                stored_s -= lower_s + round(known.stored_s - life.stored_s)
        if life is None:
            life = Life()
            life.uses = 0
            life.used_s = now_s
        life.recheck_s = 0.0
        life.gap_s = options.prefetch_gap_s
        life.stored_s = stored_s
        life.until_s = now_s + keep_s
        if options.prefetch_amount:
            # The window is the last part of the lifetime, at least its last second (CoreDNS cache README).
            life.until_s -= min(keep_s, max(1, math.ceil(keep_s * options.prefetch_percent / 100)))
        entry: Entry = tuple.__new__(  # Entry's own __new__ is a Python call for every miss
            Entry,
            (
                packet,
                ttl_offsets,
                rcode,
                kind,
                now_s,
                now_s + keep_s,
                floor_s,
                min_ttl_s if min_ttl_s < cap_s else cap_s,
                life,
                len(packet) + len(key) + 36 * len(ttl_offsets) + OVERHEAD_BYTES,
            ),
        )
        if is_kept:
            store.put(key, entry)
            if kind == Kind.SUCCESS:
                if key in self.denial.entries:
                    self.denial.drop(key)
            elif kind == Kind.DENIAL and key in self.success.entries:
                self.success.drop(key)
        return entry

    def _repeats(self, known: Entry, packet: bytes, ttl_offsets: tuple[int, ...]) -> int | None:
        """Return by how much the TTLs of `packet` are lower than those of `known`; None if it is another answer.

        Or if renderings of `known` could not show it.
        """
        if known.floor_s:
            return None  # what a rendering shows does not say how far it has counted down
        lower_s = lower_by(known.packet, packet, ttl_offsets)
        return None if lower_s and self.options.keepttl else lower_s

    def keep_failure(self, key: bytes, packet: bytes, keep_s: float, now_s: float) -> None:
        """Keep a failure that we made ourselves (no upstream answered) as the message `packet` says it."""
        life = Life()
        life.uses = 0
        life.used_s = now_s
        life.recheck_s = 0.0
        life.gap_s = self.options.prefetch_gap_s
        life.stored_s = now_s
        life.until_s = now_s + keep_s
        size = len(packet) + len(key) + OVERHEAD_BYTES
        entry = Entry(packet, (), SERVFAIL, Kind.FAILURE, now_s, life.until_s, 0, 0, life, size)
        self.failures.put(key, entry)

    def restore(
        self,
        key: bytes,
        scan: Scan,
        kind: Kind,
        stored_s: float,
        expires_s: float,
        floor_s: int,
        ttl_s: int,
        uses: int,
        used_s: float,
    ) -> bool:
        """Keep what an earlier process knew, as `put` left it there; tell whether it was kept.

        Of two answers to one question the one that was stored later is kept. Nothing else gives way: see
        `Store.restore`.
        """
        success = kind == Kind.SUCCESS
        barred = self._no_success if success else self._no_denial
        if (self.zones and not self.covers(key[:-5])) or (barred is not None and _covered(key, barred)):
            return False
        for store in (self.success, self.denial):
            known = store.entries.get(key)
            if known is not None:
                if known.stored_s >= stored_s:
                    return False
                store.drop(key)
        options = self.options
        life = Life()
        life.uses = uses
        life.used_s = used_s
        life.recheck_s = 0.0
        life.gap_s = options.prefetch_gap_s
        life.stored_s = stored_s
        life.until_s = expires_s
        if options.prefetch_amount:
            keep_s = expires_s - stored_s
            life.until_s -= min(keep_s, max(1, math.ceil(keep_s * options.prefetch_percent / 100)))
        packet = scan.packet
        size = len(packet) + len(key) + 36 * len(scan.ttl_offsets) + OVERHEAD_BYTES
        entry = Entry(
            packet, scan.ttl_offsets, scan.rcode, kind, stored_s, expires_s, floor_s, ttl_s, life, size
        )  # fmt: skip
        return (self.success if success else self.denial).restore(key, entry)

    def upstream_recovered(self) -> None:
        """Forget failures: an upstream that had failed answers again."""
        self.failures.clear()

    def flush(self) -> None:
        """Forget everything."""
        for store in (self.success, self.denial, self.failures):
            store.clear()

    def close(self) -> None:
        """Give everything back to the ledger: the block is gone."""
        self.closed = True
        for store in (self.success, self.denial, self.failures):
            store.close()


def key_of_a(key: bytes) -> bytes:
    """Return the key of the same question for type A."""
    return key[:-5] + BYTES_OF_A + key[-3:]


def _zones_or_all(zones: tuple[str, ...] | None) -> tuple[bytes, ...] | None:
    return None if zones is None else tuple(names.from_text(zone.lower()) for zone in zones or (".",))


def _covered(key: bytes, zones: tuple[bytes, ...]) -> bool:
    name = key[:-5]
    return any(names.is_below(name, zone) for zone in zones)
