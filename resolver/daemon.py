"""The process: start, reload, stop, each in one order on one screen.

Start  addresses on a device → parts → sockets → upstreams → listeners → status pages → first upstream answer: ready
       → pods are brought here.
Stop   not ready → no pods are brought here → go on answering for the lame-duck time, or until a successor does →
       read no more → flights land → close → addresses last, exit 0.
Reload new parts beside the old ones → new sockets → one assignment per listener. Any failure before that assignment
       changes nothing and says why.

What happens once the process is under way (timers, reload checks, signals) is held here; what is built is in
`resolver.build`, the sockets are in `resolver.listeners`. Longer than 300 lines because start, reload and stop undo
each other: what one of them opens is closed in sight of it.
"""

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from random import random
from typing import Any

from resolver import VERSION, logs, metrics
from resolver.accept import lanes, sockets
from resolver.accept.packets import SWEEP_EVERY_S
from resolver.build import Parts, Place, enabled_plugins, interfaces_now
from resolver.cache.ledger import Ledger
from resolver.clock import Now, Timers
from resolver.errors import ConfigMapError, ResolverError
from resolver.kept import Kept
from resolver.listeners import Listeners, Pair
from resolver.node import Node
from resolver.readings import conntrack_readings, node_readings, readings_of
from resolver.report.series import SeriesTable
from resolver.settings import reload
from resolver.settings.loading import load
from resolver.settings.model import Settings
from resolver.status.exposition import Exposition
from resolver.status.health import Health, Prober
from resolver.status.http import HttpServer
from resolver.status.pages import Pages
from resolver.status.probe import ProbeSocket
from resolver.status.ready import Readiness
from resolver.status.turns import LoopTurns
from resolver.succession import Succession
from resolver.system import pidfile, runtime
from resolver.system.options import SELF_QUESTION_MARK

SWEEP_PORTS_EVERY_S = 5.0
TIDY_AGAIN_S = 0.02
"""Between two slices of what a reload has left behind: 1.5 ms in 20, so 100,000 entries are freed in a second."""

DRAIN_S = 5.0
"""How long flights and connections may take to end after the last question was read: the longest deadline."""

LANDED_EVERY_S = 0.02
"""How often it is looked whether a flight is still in the air."""

UNWATCHED_S = 30.0


class Daemon:
    """One resolver process, or one inside a test."""

    def __init__(
        self, settings: Settings, now: Now = time.monotonic, registry: metrics.Registry = metrics.registry
    ) -> None:
        """Prepare to serve `settings`; a reload reads them again by the same flags."""
        loop = self._loop = asyncio.get_running_loop()
        self.settings = settings
        self.registry = registry
        self.timers = Timers(loop, now)
        self.series = SeriesTable()
        self.kept = Kept(self.timers, Ledger(settings.process.cache_memory_bytes), self.series, self.registry)
        self.readiness = Readiness(starting=True)
        process = settings.process
        # On a node, where `-localip` is given, two generations of this process overlap.
        shared = bool(process.local_ips or process.handover_dir)
        self.listeners = Listeners(self.kept, shared=shared, lane=process.lane)
        self.succession = Succession(
            process.handover_dir, process.snapshot_interval_s, self.kept, self.listeners, self._succession_changed
        )
        self.stopped = asyncio.Event()
        self._health = Health()
        self._prober = Prober(self._health, self.registry.health, self.timers, SELF_QUESTION_MARK)
        self._prober.shares = lambda: self.succession.shares_sockets
        self.node = Node(
            process.node,
            self.timers,
            self._prober,
            self.registry,
            state_directory=process.handover_dir,
            successor_serves=lambda: self.succession.successor_serves,
            upstreams=self.kept.found_by_name,
        )
        self._exposition = Exposition(self.registry, self.series)
        self._pages = Pages(self._health, self.readiness, self._exposition, now)
        self._http = HttpServer(self.timers, begun=False)
        self._probe = ProbeSocket(settings.process.probe_socket, self._pages.problems(), self.timers)
        self._sources = (
            readings_of(self.kept, self.listeners),
            node_readings(self.registry.node),
            self.succession.readings,
        )
        self._parts: Parts | None = None
        self._replaced: set[Parts] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns = LoopTurns(self.timers, self.registry.process)
        self._lame_duck: asyncio.Future[None] | None = None
        self._reloading = asyncio.Lock()
        self._started = self._begun = False
        self._waiting = False  # for our turn to read the sockets
        self._stopping = False
        self._tidying = False

    async def start(self) -> None:
        """Serve. Raises ResolverError, and then nothing is left open."""
        try:
            if self.settings.process.probe_socket:
                await self._probe.open()
            await self.node.prepare()
            await self.succession.inherit()
            await self._apply(self.settings)
        except ResolverError:
            await self._close()
            raise
        if not self.succession.our_turn:
            self._waiting = True
            self.listeners.pause()
        await self.succession.offer()
        self.registry.sources += self._sources
        self.registry.file_sources.append(conntrack_readings)
        # The process before us answers there, too: until we can say that we are well, it alone.
        await self._prober.first_round()
        await self._http.begin()
        self._every(SWEEP_EVERY_S, self._sweep)
        self._every(SWEEP_PORTS_EVERY_S, self._sweep_ports)
        self._turns.start()
        self._hold(self._reload_when_due(), "the reload watch")
        self._started = True
        self._begin_when_ready()

    async def prepare(self) -> None:
        """Get what the first answer could do without: the library that scrapes need, if somebody may scrape."""
        if self.settings.prometheus:
            await self._exposition.prepare()

    async def reload(self) -> bool:
        """Load the settings anew and serve them; on any failure go on as before. Return whether it worked."""
        if self._stopping:
            return False
        async with self._reloading:
            try:
                process = self.settings.process
                settings = await self._loop.run_in_executor(None, lambda: load(process, starting=False))
                if settings == self.settings:
                    logs.info("nothing has changed", plugin="reload")
                    return True
                await self._apply(settings)
            except ResolverError as error:
                self.registry.process.reload_failed += 1
                self.registry.process.setup_errors["configmap"] += isinstance(error, ConfigMapError)
                logs.error(f"reload failed, the old settings stay: {error}", plugin="reload")
                return False
            self.settings = settings
            logs.info(f"reloaded, configuration SHA512 = {settings.digest}", plugin="reload")
            return True

    async def stop(self, *, lame_duck: bool = True) -> None:
        """End: not ready at once, answer for the lame-duck time, let what is under way finish, close."""
        if self._stopping:
            self._skip_lame_duck()
            return
        self._stopping = True
        self.readiness.stop()
        # A reload that is under way ends first: two masters of the sockets would be one too many.
        async with self._reloading:
            await self._stop(lame_duck)

    async def _stop(self, lame_duck: bool) -> None:
        if self.settings.process.pidfile:
            pidfile.remove(self.settings.process.pidfile)
        await self.node.release()
        await self.succession.leave()
        saving = logs.hold(self.succession.save(), "the last snapshot")
        handed_over = await self._until_nobody_needs_us(lame_duck)
        await self.node.release()  # where a successor served first, and is gone by now
        self._waiting = False
        self._prober.close()  # from here on not to be answered means nothing
        alone = await self.succession.let_go()
        end_s = self.timers.now() + DRAIN_S
        await self.listeners.drain(DRAIN_S, paused=handed_over, alone=alone)
        while self._flights_in_the_air() and self.timers.now() < end_s:
            await self.timers.sleep(LANDED_EVERY_S)
        await asyncio.wait({saving}, timeout=DRAIN_S)
        await self._close()
        self.stopped.set()

    async def _until_nobody_needs_us(self, lame_duck: bool) -> bool:
        """Answer until the lame-duck time is over, or until a successor does; return whether one does."""
        lame_ducks = [block.health.lameduck_s for block in self.settings.blocks if block.health]
        wait_s = max(lame_ducks, default=0.0) if lame_duck else 0.0
        end_s = self.timers.now() + wait_s
        while True:
            if await self.succession.confirm():
                logs.info("Shutting down; a successor serves")
                self.listeners.pause()
                if await self._landed():
                    return True
                logs.warning("the successor is gone: answering again")
                self.listeners.resume()
            rest_s = end_s - self.timers.now()
            if rest_s <= 0:
                return False
            logs.info(f"Shutting down; answering for {rest_s:.3g}s more", plugin="health")
            self._lame_duck = self._loop.create_future()
            call = self.timers.call_after(rest_s, self._skip_lame_duck)
            await self._lame_duck
            call.cancel()
            if not self.succession.successor_serves:
                return False

    async def _landed(self) -> bool:
        """Wait until no question is on its way, DRAIN_S at most; false as soon as no successor serves any more."""
        end_s = self.timers.now() + DRAIN_S
        while self._flights_in_the_air() and self.timers.now() < end_s:
            if not self.succession.successor_serves:
                return False
            await self.timers.sleep(LANDED_EVERY_S)
        return True

    def _flights_in_the_air(self) -> int:
        return self._parts.flights_in_the_air() if self._parts is not None else 0

    # --- what start and reload share

    async def _apply(self, settings: Settings) -> None:
        """Serve `settings`. Raises ResolverError before anything has changed."""
        interfaces = await self._loop.run_in_executor(None, interfaces_now)
        parts = Parts(settings, self.kept, interfaces, self._upstream_answered)
        opened: Mapping[Place, Pair] = {}
        try:
            opened = await self.listeners.open(parts.routes, parts.named_places)
            await self._http.swap(self._http_routes(settings))
        except ResolverError:
            await self.listeners.discard(opened)
            await parts.close()
            raise
        if self._parts is None:
            await self.succession.fill(parts.memories)
        # Before upstreams are asked: one that answers at once must be expected by then.
        self.readiness.expect(f"forward {block.zones[0]}" for block in settings.blocks if block.forwards)
        await parts.start()
        old, self._parts = self._parts, parts
        parts.take_over()
        self.listeners.use(parts.routes, opened, DRAIN_S, (old or parts).owes)
        self.node.aim(parts.routes)
        self._describe(settings)
        if old is not None:
            # Flights that began with the old parts end with them.
            self._replaced.add(old)
            self.timers.call_after(2 * DRAIN_S, lambda: self._hold(self._close_replaced(old), "closing old parts"))

    def _http_routes(self, settings: Settings) -> Any:
        ready = [block.ready for block in settings.blocks if block.ready]
        if ready:
            self.readiness.monitor = ready[0].monitor
        health = [block.health for block in settings.blocks if block.health]
        return self._pages.routes(health, ready, settings.prometheus)

    def _describe(self, settings: Settings) -> None:
        """Say what is served: the log, the metrics that describe the configuration, the pidfile."""
        process = self.registry.process
        process.config_digest = settings.digest
        self._exposition.runtime_metrics = any(options.runtime_metrics for options in settings.prometheus)
        self.registry.plugins = tuple(
            metrics.PluginEnabled(f"dns://{sockets.text(*listen)}", zone, "", name)
            for block in settings.blocks
            for listen in block.listen
            for zone in block.zones
            for name in enabled_plugins(block)
        )
        process.setup_errors["configmap"] += settings.without_configmap
        for warning in settings.warnings:
            logs.warning(warning)
        if not settings.process.quiet:
            for place, udp in sorted(self.listeners.udp.items()):
                logs.info(f"answering on {sockets.text(*place)} (UDP and TCP) for {' '.join(udp.zones())}")
        if settings.process.pidfile:
            pidfile.write(settings.process.pidfile)

    # --- what goes on meanwhile

    def _upstream_answered(self, zone: str) -> None:
        self.readiness.set(f"forward {zone}", True)
        self._begin_when_ready()

    def _begin_when_ready(self) -> None:
        if self._started and not self._begun and not self.readiness.waits_for:
            self._begun = True
            self._hold(self._begin(), "what begins once we are ready")

    async def _begin(self) -> None:
        try:
            await self.node.intercept()
            await self.succession.announce()
        finally:
            # Not before: who rolls an update ends the process before us as soon as we are ready.
            self.readiness.started()

    def _succession_changed(self) -> None:
        if self._waiting and self.succession.our_turn:
            self._waiting = False
            self.listeners.resume()
        if self.succession.successor_serves:
            self._skip_lame_duck()

    async def _reload_when_due(self) -> None:
        watch = reload.Watch(await self._digest())
        while True:
            options = reload.options_of(self.settings)
            # Without `reload` nothing is watched; a signal may still bring settings that have it.
            await self.timers.sleep(reload.next_check_s(options, random()) if options else UNWATCHED_S)
            if options is None:
                continue
            digest = await self._digest()
            if watch.due(digest):
                if await self.reload():
                    watch.loaded(digest)
                else:
                    watch.failed(digest)

    async def _digest(self) -> str:
        paths = self.settings.watched_paths
        return await self._loop.run_in_executor(None, lambda: reload.digest_watched(paths))

    def _every(self, period_s: float, action: Callable[[float], None]) -> None:
        def again() -> None:
            action(self.timers.now())
            if not self.stopped.is_set():
                self.timers.call_on_beat(period_s, again)

        self.timers.call_on_beat(period_s, again)

    def _sweep(self, now_s: float) -> None:
        self.listeners.sweep(now_s)
        if not self._tidying:
            self._tidy()

    def _tidy(self) -> None:
        """Free what a reload has left behind, in slices with room for others between them."""
        self._tidying = self.kept.ledger.tidy()
        if self._tidying:
            self.timers.call_after(TIDY_AGAIN_S, self._tidy)

    def _sweep_ports(self, now_s: float) -> None:
        if self._parts is not None:
            self._parts.sweep(now_s)

    def _skip_lame_duck(self) -> None:
        if self._lame_duck is not None and not self._lame_duck.done():
            self._lame_duck.set_result(None)

    def _hold(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        task = logs.held(self._loop.create_task(work), what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_replaced(self, parts: Parts) -> None:
        await parts.close()
        self._replaced.discard(parts)

    async def _close(self) -> None:
        """Close whatever is open."""
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._turns.close()
        self._prober.close()
        await self._http.close()
        await self._probe.close()
        for parts in (*self._replaced, *filter(None, (self._parts,))):
            await parts.close()
        await self.listeners.close()
        await self.node.leave()
        await self.succession.close()
        if self._sources[0] in self.registry.sources:
            for source in self._sources:
                self.registry.sources.remove(source)
            self.registry.file_sources.remove(conntrack_readings)
        self.timers.close()


def run(settings: Settings) -> int:
    """Serve until a signal says otherwise; return the exit code.

    Raises ResolverError when serving cannot begin.
    """
    logs.start(log_format=settings.process.log_format, debug=any(block.debug for block in settings.blocks))
    lanes.one_heap()
    runtime.raise_file_limit()
    # Nothing that serving makes needs the collector, starting leaves 150 KiB to it, and one run takes 15 ms.
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=runtime.loop_factory()) as runner:
            return runner.run(_serve(settings))
    finally:
        logs.flush()


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    logs.install_exception_handler(loop)
    daemon = Daemon(settings)
    await daemon.start()

    def on(signal_number: signal.Signals, begin: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        def handle() -> None:
            logs.held(loop.create_task(begin()), signal_number.name)

        loop.add_signal_handler(signal_number, handle)

    on(signal.SIGTERM, daemon.stop)
    on(signal.SIGINT, lambda: daemon.stop(lame_duck=False))
    on(signal.SIGHUP, daemon.reload)
    on(signal.SIGUSR1, daemon.reload)
    await daemon.prepare()
    gc.freeze()  # for whoever turns the collector on to look for something: what exists now is to stay
    if not settings.process.quiet:
        logs.info(f"node-resolver {VERSION}, Python {sys.version.split()[0]}, {type(loop).__module__}")
    await daemon.stopped.wait()
    return 0
