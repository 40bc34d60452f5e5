"""From settings to the parts that serve: caches, flights, forwarders, pipelines, routes.

What callers may rely on:

- Nothing is bound, read or sent before `Parts.start`; a build that fails has changed nothing.
- What a reload must not lose is not here but in `resolver.kept`; `Parts.close` ends what one build started and
  leaves it alone.
"""

import ssl
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Protocol

from resolver import logs
from resolver.accept import lanes, sockets
from resolver.cache.cache import Cache
from resolver.forward.discover import Address, Discovery
from resolver.forward.forwarder import Forwarder
from resolver.forward.loops import LoopWatch
from resolver.forward.options import ForwardOptions, Target
from resolver.forward.tls import client_context
from resolver.forward.upstream import Upstream
from resolver.forward.upstream import label as upstream_label
from resolver.kept import Identity, Kept, Memory, Zones, close_unused, identities, remember
from resolver.metrics import CacheCounters
from resolver.pipeline import Pipeline, Route
from resolver.reply.rotate import Rotation
from resolver.report.errorlog import ErrorLog
from resolver.report.querylog import QueryLog
from resolver.settings.environment.interfaces import read_addresses
from resolver.settings.model import Block, Settings
from resolver.settings.targets import own_addresses, refuse_own

Place = tuple[str, int]
"""Host and port that a listener is bound to; hosts are addresses, wildcards spelt out."""


class Closing(Protocol):
    """Something with tasks or sockets to end."""

    async def close(self) -> None:
        """End them."""


class Parts:
    """All that one `Settings` value became. `routes` says, for each place, who answers there."""

    def __init__(
        self,
        settings: Settings,
        kept: Kept,
        interfaces: Mapping[str, tuple[str, ...]],
        upstream_answered: Callable[[str], None],
    ) -> None:
        """Build everything. Raises ConfigError for what only a build can find (TLS files).

        interfaces  As `interfaces_now` gave them: what is us where we listen on all addresses.
        """
        self.settings = settings
        self.routes: dict[Place, list[Route]] = {}
        self.pipelines: list[Pipeline] = []
        self._kept = kept
        self._codec = lanes.chosen(settings.process.lane)[1]
        self._discoveries: list[Discovery] = []
        self._closing: list[Upstream] = []
        self._forwarders: list[Forwarder] = []
        self._loops: list[LoopWatch] = []
        self._error_logs: list[ErrorLog] = []
        self._own = own_addresses(settings, interfaces)
        self._identities = identities(settings.blocks)
        self._memories = remember(settings.blocks, self._identities, kept)
        for block in settings.blocks:
            self._add(block, upstream_answered)

    @property
    def named_places(self) -> list[Place]:
        """Places as the Corefile has them; a wildcard is the empty host."""
        return [(listen.host, listen.port) for block in self.settings.blocks for listen in block.listen]

    @property
    def memories(self) -> Mapping[Identity, Memory]:
        """What each block remembers, old and new."""
        return self._memories

    async def start(self) -> None:
        """Find the upstreams, and keep looking."""
        for discovery in self._discoveries:
            await discovery.start()

    def take_over(self) -> None:
        """Make the caches follow these settings; those of blocks that are gone give everything back.

        The listeners must use `routes` before the next loop turn.
        """
        for loops in self._loops:
            loops.begin()
        close_unused(self._kept.memories, self._memories)
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

    def owes(self, listener: object) -> bool:
        """Tell whether a question that came by `listener` waits for its answer."""
        flights = (flight for pipeline in self.pipelines for flight in pipeline.flights.by_key.values())
        return any(waiter.listener is listener for flight in flights for waiter in flight.waiters)

    async def close(self) -> None:
        """End discoveries, checks and upstream sockets."""
        parts: list[Closing] = [*self._discoveries, *self._loops, *self._forwarders, *self._closing]
        for part in parts:
            await part.close()
        for error_log in self._error_logs:
            error_log.close()
        if self._kept.memories is not self._memories:
            # Never took over, or was replaced: what it made for itself alone goes.
            close_unused(self._memories, self._kept.memories)

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
            rotation=Rotation(block.loadbalance) if block.loadbalance is not None else None,
            scan=self._codec.scan,
            fit=self._codec.fit,
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

        def swap() -> None:
            for dropped in forwarder.swap(lists["upstreams"], lists["fallback"]):
                known.pop(next(address for address, upstream in known.items() if upstream is dropped))
                self._retire(dropped)

        def leave_out(looping: Upstream) -> None:
            lists["upstreams"] = [upstream for upstream in lists["upstreams"] if upstream is not looping]
            swap()

        def take(which: str, addresses: list[Address]) -> None:
            lists[which] = [self._upstream(address, options, forwarder, context, known) for address in addresses]
            swap()
            if which == "upstreams" and loops is not None:
                loops.check(forwarder, leave_out)

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


def interfaces_now() -> Mapping[str, tuple[str, ...]]:
    """Return the addresses of this machine's interfaces. Asks the kernel, and so not for the loop."""
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
        "loadbalance": block.loadbalance,
        "forward": block.forwards or None,
    }
    return [name for name, options in single.items() if options is not None]
