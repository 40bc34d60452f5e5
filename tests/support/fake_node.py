"""A `Node` whose kernel, questions and log are fakes: what it does, in order, and what goes wrong when told.

async with bench() as here:
    await here.begin()
    here.round(A, B)
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from resolver.clock import Timers
from resolver.errors import CommandFailed
from resolver.metrics import Registry
from resolver.node import Node
from resolver.status.health import Target
from resolver.system.interface import Missing
from resolver.system.iptables import Rule
from resolver.system.options import NodeOptions
from resolver.system.upkeep import Tools
from tests.support.jumping import JumpingClock

A, B = "169.254.20.10", "fd00:96::10"
OPTIONS = NodeOptions((A, B), sync_interval_s=60.0)


@dataclass
class Fakes:
    """What was done, in order, and what goes wrong when somebody asks for it."""

    done: list[str] = field(default_factory=list)
    wrong: dict[str, CommandFailed] = field(default_factory=dict)
    missing: Missing = field(default_factory=Missing)
    inserted: tuple[Rule, ...] = ()
    leftovers: int = 0
    owned: bool = True
    rules: "FakeRules | None" = None

    async def do(self, what: str) -> None:
        self.done.append(what)
        if what in self.wrong:
            raise self.wrong[what]


class FakeRules:
    """An nft that never runs."""

    def __init__(self, fakes: Fakes, on_failure: Any) -> None:
        self.name = "node_resolver_fake"
        self.alive = False
        self.lives: dict[str, float] = {}
        self.owned = False
        self._fakes = fakes
        self._on_failure = on_failure

    async def start(self) -> None:
        await self._fakes.do("rules.start")
        self.alive = True
        self.owned = self._fakes.owned

    def beat(self, lives: Mapping[str, float]) -> bool:
        self._fakes.done.append("beat")
        self.lives = dict(lives)
        return True

    def die(self) -> None:
        self.alive = False
        self._on_failure(CommandFailed("nft", "failed", "killed by signal 9"))

    async def disarm(self) -> None:
        await self._fakes.do("rules.disarm")

    async def check(self) -> bool:
        await self._fakes.do("rules.check")
        return True

    async def close(self) -> None:
        await self._fakes.do("rules.close")
        self.alive = False


class FakeAlarm:
    """A deadman that ends nobody."""

    def __init__(self, fakes: Fakes) -> None:
        self.armed = 0
        self._fakes = fakes

    def arm(self) -> None:
        self.armed += 1

    def disarm(self) -> None:
        self._fakes.done.append("alarm off")


class FakeTool:
    """A device, the ACCEPT rules or the standing nat, which are always as they should be unless `Fakes` says so."""

    def __init__(self, fakes: Fakes, name: str) -> None:
        self._fakes = fakes
        self._name = name

    async def ensure(self) -> Any:
        await self._fakes.do(f"{self._name}.ensure")
        return self._fakes.missing if self._name == "device" else self._fakes.inserted

    async def update(self, members: Any) -> bool:
        await self._fakes.do(f"{self._name}.update")
        return True

    async def check(self) -> bool:
        await self._fakes.do(f"{self._name}.check")
        return False

    async def remove(self) -> None:
        await self._fakes.do(f"{self._name}.remove")


class FakeProber:
    """Asks nobody; a test says who answered."""

    def __init__(self) -> None:
        self.on_round: Any = None
        self.targets: set[Target] = set()
        self.guarded: set[Target] = set()
        self.is_open = False

    def aim(self, targets: Iterable[Target], guarded: Collection[Target]) -> None:
        self.targets, self.guarded = set(targets), set(guarded)

    def open_guard(self, is_open: bool) -> None:
        self.is_open = is_open


class Bench:
    """A node, its clock, and a round of questions to ourselves whenever the test says so."""

    def __init__(self, options: NodeOptions, directory: str = "") -> None:
        self.clock = JumpingClock()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.registry = Registry()
        self.fakes = fakes = Fakes()
        self.prober = FakeProber()
        self.successor = False
        self.alarm = FakeAlarm(fakes)

        async def remove_leftovers(options: NodeOptions) -> int:
            await fakes.do("leftovers")
            return fakes.leftovers

        def rules(options: NodeOptions, on_failure: Any) -> Any:
            fakes.rules = FakeRules(fakes, on_failure)
            return fakes.rules

        self.node = Node(
            options,
            self.timers,
            cast("Any", self.prober),
            self.registry,
            state_directory=directory,
            successor_serves=lambda: self.successor,
            tools=Tools(
                cast("Any", FakeTool(fakes, "device")),
                cast("Any", FakeTool(fakes, "accept")),
                cast("Any", FakeTool(fakes, "standing")),
                remove_leftovers,
            ),
            rules=rules,
            alarm=cast("Any", self.alarm),
        )

    @property
    def rules(self) -> FakeRules:
        assert self.fakes.rules
        return self.fakes.rules

    def guard_is_open(self) -> bool:
        return self.prober.is_open

    def round(self, *answered: str) -> None:
        self.prober.on_round(self.clock(), frozenset((ip, 53) for ip in answered))

    async def go_on(self, seconds: float = 1.0, *answered: str) -> None:
        """Let time pass, with a round each second."""
        for _ in range(round(seconds)):
            self.clock.jump(1.0)
            await self.settle()
            if answered:
                self.round(*answered)

    async def settle(self) -> None:
        """Let a tick pass, and everything that follows from it."""
        ticked = asyncio.Event()
        self.timers.call_after(0.0, ticked.set)
        await ticked.wait()
        for _ in range(20):
            await asyncio.sleep(0)

    async def begin(self) -> "asyncio.Task[None]":
        await self.node.prepare()
        self.node.aim([(A, 53), (B, 53)])
        beginning = asyncio.create_task(self.node.intercept())
        while not self.alarm.armed:
            await self.settle()
        await self.settle()
        return beginning

    def shown(self) -> tuple[dict[str, int], int]:
        return self.registry.node.intercepted, self.registry.node.fail_open


@asynccontextmanager
async def bench(options: NodeOptions = OPTIONS, directory: str = "") -> AsyncIterator[Bench]:
    made = Bench(options, directory)
    try:
        yield made
    finally:
        await made.node.leave()
        made.timers.close()
