"""What lives as long as the process: caches and flights of server blocks, counters, the clock.

A reload builds new parts; the cache and the flights of a block whose zones go on existing are handed to its
successor. A block is known again by its zones and addresses, or by its zones alone where no other block, before
or after, has the same: two blocks never share answers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from resolver.cache.cache import Cache
from resolver.cache.ledger import Ledger
from resolver.clock import Timers
from resolver.collapse.flights import Flights
from resolver.collapse.options import CollapseOptions
from resolver.forward.discover import Address
from resolver.forward.options import Target
from resolver.metrics import Registry
from resolver.report.series import SeriesTable
from resolver.settings.model import Block, ListenAddress
from resolver.settings.values import joined

Zones = tuple[str, ...]
Identity = tuple[Zones, tuple[ListenAddress, ...]]
"""Zones and addresses of one server block; its keys with different ports are one block (CoreDNS)."""

Known = TypeVar("Known", bound=tuple[Zones, tuple[tuple[str, int], ...]])
"""An identity of ours, or one from another process (`cache.snapshot`)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one server block remembers: answers, and questions that are on their way."""

    cache: Cache | None
    flights: Flights


@dataclass(slots=True)
class Kept:
    """What lives as long as the process."""

    timers: Timers
    ledger: Ledger
    series: SeriesTable
    registry: Registry
    memories: dict[Identity, Memory] = field(default_factory=dict)
    discovered: dict[Target, list[Address]] = field(default_factory=dict)

    def found_by_name(self) -> list[str]:
        """Return the upstreams that host names led to, as `IP:PORT`; those that want TLS are none for a client."""
        found = (found for target, found in self.discovered.items() if target.kind == "name")
        return [joined(each.host, each.port) for addresses in found for each in addresses if not each.tls]


def remember(blocks: Sequence[Block], names: Mapping[int, Identity], kept: Kept) -> dict[Identity, Memory]:
    """Return the memory of each block, inherited where an old block was the same one; `kept` does not change."""
    memories: dict[Identity, Memory] = {}
    for block in blocks:
        identity = names[block.number]
        if identity in memories:
            continue
        known = same_block(identity, kept.memories, names.values())
        old = kept.memories[known] if known is not None else None
        cache = old.cache if old is not None else None
        if block.cache is None:
            cache = None
        elif cache is None:
            cache = Cache(block.cache, kept.ledger)
        memories[identity] = Memory(cache, old.flights if old is not None else Flights(CollapseOptions()))
    return memories


def close_unused(memories: Mapping[Identity, Memory], others: Mapping[Identity, Memory]) -> None:
    """Give back the caches of `memories` that none of `others` has."""
    used = {memory.cache for memory in others.values()}
    for memory in memories.values():
        if memory.cache is not None and memory.cache not in used and not memory.cache.closed:
            memory.cache.close()


def identities(blocks: Sequence[Block]) -> dict[int, Identity]:
    """Return the identity of each server block by its number; keys with other ports are the same block."""
    zones: dict[int, Zones] = {}
    listen: dict[int, tuple[ListenAddress, ...]] = {}
    for block in blocks:
        zones[block.number] = tuple(sorted({*zones.get(block.number, ()), *block.zones}))
        listen[block.number] = tuple(sorted({*listen.get(block.number, ()), *block.listen}))
    return {number: (zones[number], listen[number]) for number in zones}


def same_block(block: Known, before: Collection[Known], now: Collection[Known]) -> Known | None:
    """Return which of the blocks `before` is `block`, which is one of those `now`; None: it is a new one."""
    if block in before:
        return block
    zones = block[0]
    old = [identity for identity in before if identity[0] == zones]
    if len(old) != 1 or old[0] in now or sum(identity[0] == zones for identity in now) != 1:
        return None
    return old[0]
