"""The node around us: pods' questions are brought here while we live, and never one moment longer.

    prepare    the addresses are on a device, before any socket binds to one
    intercept  leftovers of node-local-dns out, ACCEPT rules in, our table, and with the first beat the pods; last
               in start, once an upstream has answered
    release    pods go to the cluster's DNS again; our sockets stay and answer what is on its way
    leave      table, ACCEPT rules and device go; last in stop

Meanwhile every round of questions to ourselves is a beat, `-syncinterval` looks for what others have taken away and
puts it back, and the end of the process that holds our table is mended at once. A reload touches none of this.

What cannot be done is one line in the log and a counter (`system.troubles`); serving goes on without it, and it is
tried again. When pods are to come is decided in `system.heartbeat`, what the rules say in `system.notrack`.

Longer than 300 lines because start, beats and stop undo each other.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from random import random
from typing import Any

from resolver import logs
from resolver.clock import Timers
from resolver.errors import CommandFailed
from resolver.metrics import Registry
from resolver.status.health import Prober, Target, reachable
from resolver.system import crashes, deadman
from resolver.system.generations import Presence
from resolver.system.heartbeat import Heartbeat
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions
from resolver.system.troubles import PLUGIN, Troubles
from resolver.system.upkeep import Tools, Upkeep

TICK_S = 1.0
"""How often the deadman is told that the loop runs; its limit is four of them."""

SETTLE_S = 0.05
"""Between the rules' end and anything else: packets that the rules let through reach the socket."""

SETTLED_WITHIN_S = 10.0
"""Whoever waits for pods to come does so no longer: an address that never answers keeps nobody up."""

MEND_AGAIN_S = 1.0
"""The first pause between tries to set up the rules; it doubles, to `-syncinterval`."""

LOOK_AGAIN_S = 5.0
"""After a failed beat the device is looked at, but not more often than this."""

STAY = "pods stay at the cluster's DNS"
_HERE, _LINK_LOCAL = ("127.", "::1"), ("169.254.", "fe80:")
_WILDCARDS = {4: {"", "0.0.0.0"}, 6: {"", "::"}}


class Node:
    """The set-up of the node by this process. Without `-localip` every method does nothing."""

    def __init__(
        self,
        options: NodeOptions,
        timers: Timers,
        prober: Prober,
        registry: Registry,
        *,
        state_directory: str = "",
        successor_serves: Callable[[], bool] = lambda: False,
        upstreams: Callable[[], Sequence[str]] = tuple,
        tools: Tools | None = None,
        rules: Callable[..., Rules] = Rules,
        alarm: deadman.Deadman | None = None,
    ) -> None:
        """Do nothing yet.

        state_directory   Where recent crashes are remembered; empty: nowhere.
        successor_serves  Whether another generation has pods sent to it: rules and device are its business then.
        upstreams         Addresses that host names led to, for a standing nat table that follows them.
        tools, rules, alarm  What does the work; tests that have no kernel bring their own.
        """
        self.options = options
        self._timers = timers
        self._prober = prober
        self._counters = registry.node
        self._troubles = Troubles(registry.node, registry.process.setup_errors)
        self._upkeep = Upkeep(options, tools or Tools.of(options), registry.node, self._troubles, upstreams)
        self._rules = rules(options, on_failure=self._rules_failed)
        self._alarm = alarm or deadman.Deadman()
        self._memory = crashes.Memory(state_directory)
        self._successor_serves = successor_serves
        self._wanted = bool(options.local_ips) and options.setup_iptables
        self._heartbeat = Heartbeat((), options.alive_s)
        self._ways: dict[str, Target] = {}
        self._presence: Presence | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._begun = False
        self._settled = asyncio.Event()  # pods come, or it is known that they do not
        self._ended = asyncio.Event()  # of bringing pods here, not of serving
        self._looked_s = -LOOK_AGAIN_S
        self._started_s = -MEND_AGAIN_S
        prober.on_round = self._round

    # --- start

    async def prepare(self) -> None:
        """Put our addresses on a device."""
        if not self.options.local_ips:
            return
        if self._wanted:
            deadman.no_core_dump()
        self._presence = Presence(self.options.interface_name)
        if self.options.setup_interface:
            await self._upkeep.prepare()
            self._hold(self._check_every_interval(), "the check of the node")

    def aim(self, places: Iterable[tuple[str, int]]) -> None:
        """From now on we answer at these places; which local addresses are among them, and how they are asked."""
        listening = set(places)
        port = self.options.dns_port
        self._ways = {
            ip: (ip, port)
            for ip in self.options.local_ips
            if any((host, port) in listening for host in {ip, *_WILDCARDS[6 if ":" in ip else 4]})
        }
        # Behind the guard, also ways to a wildcard's socket: they are asked for the beat, not for our health.
        guarded = [way for ip, way in self._ways.items() if self._is_guarded(ip) or way not in listening]
        self._prober.aim((reachable(host, place_port) for host, place_port in listening), guarded)
        self._heartbeat.aim(self._ways, random())
        self._show()
        if self._wanted and (deaf := [ip for ip in self.options.local_ips if ip not in self._ways]):
            logs.warning(f"no block answers on {', '.join(deaf)}, port {port}: {STAY} there", plugin=PLUGIN)

    def _is_guarded(self, ip: str) -> bool:
        """Whether somebody else's NAT may have our question to `ip`: a Service's, or our own standing one."""
        return not ip.startswith(_HERE) and (not ip.startswith(_LINK_LOCAL) or bool(self.options.standing_nat))

    async def intercept(self) -> None:
        """Bring pods to us, from the first beat on; return when they come, or cannot be brought. Once is enough."""
        if self._begun or self._ended.is_set() or not self._wanted:
            return
        self._begun = True
        await self._remember()
        await self._upkeep.intercept()
        if self._ended.is_set():
            return
        self._tick()
        if not self.options.setup_interface:
            self._hold(self._check_every_interval(), "the check of the node")
        if not await self._start_rules():
            self._hold(self._start_rules_again(MEND_AGAIN_S), "setting up the rules")
            self._settled.set()
        self._timers.call_after(SETTLED_WITHIN_S, self._settled.set)
        await self._settled.wait()
        if not self._ended.is_set():
            # nft has done that beat: whoever hears that we serve may take its own rules out at once.
            await self._rules.check()

    async def _remember(self) -> None:
        """Leave a mark for who comes after a crash of ours, and be slow after crashes of others."""
        count = await self._memory.begin(time.monotonic())
        self._heartbeat = Heartbeat(self._ways, self.options.alive_s, crashes=count, chance=random())
        if count:
            self._fail_open("crashed")
            beats = self._heartbeat.beats_to_go
            logs.warning(f"{count} of us crashed lately: pods come after {beats} good beats", plugin=PLUGIN)

    async def _start_rules(self) -> bool:
        try:
            await self._rules.start()
        except CommandFailed as error:
            self._troubles.failed("rules", error, "iptables", STAY)
            self._prober.open_guard(False)
            self._heartbeat.lost()
            self._fail_open("setup_failed")
            return False
        self._started_s = self._timers.now()
        self._troubles.works("rules")
        if not self._rules.owned:
            back = f"after a crash pods come back in {self.options.alive_s:g} s"
            logs.warning(f"no owned tables here (Linux 5.12, nft 1.0): {back}", plugin=PLUGIN)
        self._prober.open_guard(True)
        return True

    # --- meanwhile

    def _tick(self) -> None:
        """The loop runs: tell the kernel."""
        if not self._ended.is_set():
            self._alarm.arm()
            self._timers.call_on_beat(TICK_S, self._tick)  # with our own question: one wake-up

    def _round(self, now_s: float, heard: Collection[Target]) -> None:
        """A round of questions to ourselves is over."""
        if not self._begun or self._ended.is_set() or not self._rules.alive:
            return
        answered = {ip for ip, way in self._ways.items() if way in heard}
        if len(answered) < len(self._ways):
            self._counters.beats_failed += 1
            if self.options.setup_interface and now_s - self._looked_s >= LOOK_AGAIN_S:
                self._looked_s = now_s
                self._hold(self._upkeep.check(device_only=True), "a look at the device")
        beat = self._heartbeat.beat(now_s, answered, random())
        if beat.lives:
            self._rules.beat(beat.lives)
        if beat.on:
            logs.info(f"interception on for {', '.join(beat.on)}, table {self._rules.name}", plugin=PLUGIN)
        if beat.off:
            off = f"interception off for {', '.join(beat.off)}"
            logs.warning(f"{off}: our own question was not answered; {STAY}", plugin=PLUGIN)
            self._fail_open("no_answer")
        if beat.on or beat.off:
            self._show()
        if not self._heartbeat.beats_to_go:
            self._settled.set()

    def _rules_failed(self, error: CommandFailed) -> None:
        """The process that held our table has ended, or the table is gone."""
        if self._ended.is_set() or not self._begun:
            return
        logs.warning(f"rules: {error}; they are put back", plugin=PLUGIN)
        self._fail_open("rules_lost")
        pause_s = max(0.0, self._started_s + MEND_AGAIN_S - self._timers.now())
        self._hold(self._mend(pause_s), "putting back the rules")

    async def _mend(self, pause_s: float) -> None:
        """Put the rules back, and with them the addresses, for as long as each would have lived."""
        await self._start_rules_again(pause_s)
        self._counters.put_back["rules"] += 1
        logs.info("rules: put back", plugin=PLUGIN)
        if lives := self._heartbeat.lives(self._timers.now()):
            self._rules.beat(lives)
        else:
            self._heartbeat.lost()
        self._show()

    async def _start_rules_again(self, pause_s: float) -> None:
        """Set up the rules, after a pause; on failure again, and more and more slowly."""
        if pause_s:
            await self._timers.sleep(pause_s)
        pause_s = MEND_AGAIN_S
        while not await self._start_rules():
            pause_s = min(2 * pause_s, self.options.sync_interval_s)
            await self._timers.sleep(pause_s)

    async def _check_every_interval(self) -> None:
        while True:
            await self._timers.sleep(self.options.sync_interval_s)
            await self._upkeep.check()
            if self._begun and self._rules.alive:
                await self._rules.check()

    # --- stop

    async def release(self) -> None:
        """Bring nobody here any more, unless a successor does; return when the last packet has arrived.

        Once before the lame-duck time and once after it: the successor may have died meanwhile.
        """
        if self._ended.is_set() or self._successor_serves():
            return
        self._ended.set()
        self._settled.set()
        if self._begun:
            self._alarm.disarm()
            await self._rules.disarm()
            self._show()
            await self._memory.end()
            await self._timers.sleep(SETTLE_S)

    async def leave(self) -> None:
        """Take down what is ours: the rules, and what no other generation uses."""
        self._ended.set()
        self._settled.set()
        self._alarm.disarm()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._begun:
            await self._rules.close()
            await self._memory.end()
            self._show()
        if self._presence is not None:
            others = await asyncio.get_running_loop().run_in_executor(None, self._presence.others)
            if not (others or self._successor_serves() or self.options.skip_teardown):
                await self._upkeep.take_down()
            self._presence.close()

    # --- for all

    def _fail_open(self, reason: str) -> None:
        self._counters.failed_open[reason] += 1
        self._show()

    def _show(self) -> None:
        """Tell the metrics what is so now."""
        alive = set(self._heartbeat.alive) if self._rules.alive and not self._ended.is_set() else set()
        for family, addresses in (("1", self.options.addresses4), ("2", self.options.addresses6)):
            if addresses and self._wanted:
                self._counters.intercepted[family] = int(alive.issuperset(addresses))
        serving = self._begun and not self._ended.is_set()
        self._counters.fail_open = int(serving and not alive.issuperset(self._ways))

    def _hold(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        task = logs.held(asyncio.get_running_loop().create_task(work), what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
