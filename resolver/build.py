"""From settings to the parts that serve: caches, flights, forwarders, pipelines, routes.

What callers may rely on:

- Nothing is bound, read or sent before `Parts.start`; a build that fails has changed nothing.
- What a reload must not lose lives in `Kept`: the cache and the flights of a block whose zones go on existing are
  handed to its successor. A block is known again by its zones and addresses, or by its zones alone where no
  other block, before or after, has the same: two blocks never share answers.
- `Parts.close` ends what one build started, and leaves `Kept` alone.
"""

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from resolver import logs
from resolver.accept import sockets
from resolver.cache.cache import Cache
from resolver.cache.ledger import Ledger
from resolver.clock import Timers
from resolver.collapse.flights import Flights
from resolver.collapse.options import CollapseOptions
from resolver.forward.discover import Address, Discovery
from resolver.forward.forwarder import Forwarder
from resolver.forward.loops import LoopWatch
from resolver.forward.options import ForwardOptions, Target
from resolver.forward.tls import client_context
from resolver.forward.upstream import Upstream
from resolver.forward.upstream import label as upstream_label
from resolver.metrics import CacheCounters, Registry
from resolver.pipeline import Pipeline, Route
from resolver.report.errorlog import ErrorLog
from resolver.report.querylog import QueryLog
from resolver.report.series import SeriesTable
from resolver.settings.environment.interfaces import read_addresses
from resolver.settings.model import Block, ListenAddress, Settings
from resolver.settings.targets import own_addresses, refuse_own

Zones = tuple[str, ...]
Identity = tuple[Zones, tuple[ListenAddress, ...]]
"""Zones and addresses of one server block; its keys with different ports are one block (CoreDNS)."""

Place = tuple[str, int]
"""Host and port that a listener is bound to; hosts are addresses, wildcards spelt out."""


class Closing(Protocol):
    """Something with tasks or sockets to end."""

    async def close(self) -> None:
        """End them."""


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


class Parts:
    """All that one `Settings` value became. `routes` says, for each place, who answers there."""

    def __init__(self, settings: Settings, kept: Kept, upstream_answered: Callable[[str], None]) -> None:
        """Build everything. Raises ConfigError for what only a build can find (TLS files)."""
        self.settings = settings
        self.routes: dict[Place, list[Route]] = {}
        self.pipelines: list[Pipeline] = []
        self._kept = kept
        self._discoveries: list[Discovery] = []
        self._closing: list[Upstream] = []
        self._forwarders: list[Forwarder] = []
        self._loops: list[LoopWatch] = []
        self._error_logs: list[ErrorLog] = []
        self._own = own_addresses(settings, _interfaces())
        self._identities = _identities(settings.blocks)
        self._memories = self._remember(settings.blocks)
        for block in settings.blocks:
            self._add(block, upstream_answered)

    @property
    def named_places(self) -> list[Place]:
        """Places as the Corefile has them; a wildcard is the empty host."""
        return [(listen.host, listen.port) for block in self.settings.blocks for listen in block.listen]

    async def start(self) -> None:
        """Find the upstreams, and keep looking."""
        for discovery in self._discoveries:
            await discovery.start()

    def take_over(self) -> None:
        """Make the caches follow these settings; those of blocks that are gone give everything back."""
        used = {memory.cache for memory in self._memories.values()}
        for memory in self._kept.memories.values():
            if memory.cache is not None and memory.cache not in used:
                memory.cache.close()
        self._kept.memories = self._memories
        for block in self.settings.blocks:
            cache = self._memories[self._identities[block.number]].cache
            if cache is not None and block.cache is not None:
                cache.configure(block.cache)

    def sweep(self, now_s: float) -> None:
        """Close source ports that nothing uses."""
        for forwarder in self._forwarders:
            forwarder.sweep(now_s)

    def flights_in_the_air(self) -> int:
        """Return how many questions wait for upstream."""
        return sum(len(pipeline.flights.by_key) for pipeline in self.pipelines)

    async def close(self) -> None:
        """End discoveries, checks and upstream sockets."""
        parts: list[Closing] = [*self._discoveries, *self._loops, *self._forwarders, *self._closing]
        for part in parts:
            await part.close()
        for error_log in self._error_logs:
            error_log.close()
        if self._kept.memories is not self._memories:
            # Never took over, or was replaced: what it made for itself alone goes.
            used = {memory.cache for memory in self._kept.memories.values()}
            for memory in self._memories.values():
                if memory.cache is not None and memory.cache not in used and not memory.cache.closed:
                    memory.cache.close()

    def _remember(self, blocks: Sequence[Block]) -> dict[Identity, Memory]:
        """Return the memory of each block, inherited where an old block was the same one."""
        before = self._kept.memories
        memories: dict[Identity, Memory] = {}
        for block in blocks:
            identity = self._identities[block.number]
            old = before.get(identity) or _only(before, identity[0], self._identities.values())
            cache = old.cache if old is not None else None
            if block.cache is None:
                cache = None
            elif cache is None:
                cache = Cache(block.cache, self._kept.ledger)
            if identity not in memories:
                memories[identity] = Memory(cache, old.flights if old is not None else Flights(CollapseOptions()))
        return memories

    def _add(self, block: Block, upstream_answered: Callable[[str], None]) -> None:
        kept = self._kept
        memory = self._memories[self._identities[block.number]]
        cache = memory.cache
        loops = LoopWatch(kept.timers) if block.loop else None
        if loops is not None:
            self._loops.append(loops)
        query_log = QueryLog(block.log) if block.log else None
        error_log = ErrorLog(block.errors, kept.timers) if block.errors is not None else None
        if error_log is not None:
            self._error_logs.append(error_log)
        pipeline = Pipeline(
            cache,
            memory.flights,
            kept.series,
            kept.timers,
            query_log=query_log,
            error_log=error_log,
            loops=loops,
        )

        def recovered() -> None:
            upstream_answered(block.zones[0])
            if cache is not None:
                cache.upstream_recovered()

        forwarders = [self._forwarder(options, pipeline, recovered, loops) for options in block.forwards]
        for forwarder, following in pairwise(forwarders):
            forwarder.following = following
        pipeline.use(forwarders)
        self.pipelines.append(pipeline)
        for listen in block.listen:
            server = f"dns://{sockets.text(listen.host, listen.port)}"
            counters = self._counters(server, block.zones, cache)
            for host in sockets.addresses(listen.host):
                routes = self.routes.setdefault((host, listen.port), [])
                routes.extend(Route(zone, "", pipeline, counters) for zone in block.zones)

    def _counters(self, server: str, zones: Zones, cache: Cache | None) -> CacheCounters:
        counters = self._kept.registry.cache(server, ",".join(zones))
        if cache is not None:
            counters.entries = lambda: (len(cache.success.entries), len(cache.denial.entries))
            counters.evictions = lambda: (cache.success.evictions, cache.denial.evictions)
        counters.block_zones = zones
        return counters

    def _forwarder(
        self, options: ForwardOptions, pipeline: Pipeline, recovered: Callable[[], None], loops: LoopWatch | None
    ) -> Forwarder:
        kept = self._kept
        forwarder = Forwarder(options, kept.timers, kept.registry.forward, pipeline.landed)
        forwarder.recovered = recovered
        self._forwarders.append(forwarder)
        context = None
        if any(target.tls for target in (*options.targets, *options.fallback)):
            context = client_context(options.tls)
        known: dict[Address, Upstream] = {}
        lists: dict[str, list[Upstream]] = {"upstreams": [], "fallback": []}

        def take(which: str, addresses: list[Address]) -> None:
            lists[which] = [self._upstream(address, options, forwarder, context, known) for address in addresses]
            for dropped in forwarder.swap(lists["upstreams"], lists["fallback"]):
                known.pop(next(address for address, upstream in known.items() if upstream is dropped))
                self._retire(dropped)
            if which == "upstreams" and loops is not None:
                loops.check(forwarder)

        for which, targets in (("upstreams", options.targets), ("fallback", options.fallback)):

            def changed(addresses: list[Address], which: str = which) -> None:
                take(which, addresses)

            if targets:
                self._discoveries.append(
                    Discovery(targets, options, kept.timers, self._is_own, changed, kept.discovered)
                )
        return forwarder

    def _upstream(
        self,
        address: Address,
        options: ForwardOptions,
        forwarder: Forwarder,
        context: ssl.SSLContext | None,
        known: dict[Address, Upstream],
    ) -> Upstream:
        upstream = known.get(address)
        if upstream is None:
            host, port, tls, server_name = address
            upstream = known[address] = Upstream(
                host,
                port,
                options,
                self._kept.timers,
                self._kept.registry.upstream(upstream_label(host, port)),
                forwarder,
                tls=context if tls else None,
                server_name=server_name or options.tls.server_name,
            )
        return upstream

    def _retire(self, upstream: Upstream) -> None:
        """Close an upstream that is not used any more, once the questions that it has are over."""
        self._closing.append(upstream)
        patience_s = 2 * 4.5

        def close() -> None:
            if upstream in self._closing:
                self._closing.remove(upstream)
                logs.hold(upstream.close(), f"closing upstream {upstream.label}")

        self._kept.timers.call_after(patience_s, close)

    def _is_own(self, host: str, port: int) -> bool:
        """Tell whether a question to this address would come back to us."""
        return bool(refuse_own((Target("address", host, port),), self._own)[1])


def _identities(blocks: Sequence[Block]) -> dict[int, Identity]:
    """Return the identity of each server block by its number; keys with other ports are the same block."""
    zones: dict[int, Zones] = {}
    listen: dict[int, tuple[ListenAddress, ...]] = {}
    for block in blocks:
        zones[block.number] = tuple(sorted({*zones.get(block.number, ()), *block.zones}))
        listen[block.number] = tuple(sorted({*listen.get(block.number, ()), *block.listen}))
    return {number: (zones[number], listen[number]) for number in zones}


def _only(before: Mapping[Identity, Memory], zones: Zones, now: Collection[Identity]) -> Memory | None:
    """Return the memory of the one old block with these zones, if there is one now as well and no more."""
    old = [identity for identity in before if identity[0] == zones]
    if len(old) != 1 or old[0] in now or sum(identity[0] == zones for identity in now) != 1:
        return None
    return before[old[0]]


def _interfaces() -> Mapping[str, tuple[str, ...]]:
    try:
        return read_addresses()
    except OSError as error:
        logs.warning(f"cannot read this machine's addresses: {error}; an upstream that is us may go unnoticed")
        return {}


def enabled_plugins(block: Block) -> list[str]:
    """Return the directives of a block that are in force, as `coredns_plugin_enabled` names them."""
    single: dict[str, Any] = {
        "cache": block.cache,
        "errors": block.errors,
        "health": block.health,
        "loop": block.loop or None,
        "prometheus": block.prometheus,
        "ready": block.ready,
        "reload": block.reload,
        "debug": block.debug or None,
        "log": block.log or None,
        "forward": block.forwards or None,
    }
    return [name for name, options in single.items() if options is not None]
