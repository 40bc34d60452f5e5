"""What others on the node can take away from us, and we put back: device, ACCEPT rules, the standing nat table.

And what they can bring back: rules of node-local-dns, which would go on bringing pods to us after our death. Each
part fails for itself: one line in the log with the remedy, a counter, and the others go on. Nothing is raised.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from resolver import logs
from resolver.errors import CommandFailed
from resolver.metrics import NodeCounters
from resolver.system import iptables
from resolver.system.interface import Interface
from resolver.system.iptables import Accept
from resolver.system.options import UPSTREAMS, NodeOptions
from resolver.system.standing import StandingNat
from resolver.system.troubles import PLUGIN, Troubles

LEFTOVERS = "leftovers of node-local-dns"


@dataclass(frozen=True, slots=True)
class Tools:
    """What does the work; tests that have no kernel bring their own."""

    interface: Interface
    accept: Accept
    standing: StandingNat
    remove_leftovers: Callable[[NodeOptions], Coroutine[Any, Any, int]]

    @classmethod
    def of(cls, options: NodeOptions) -> "Tools":
        """Return the real ones."""
        return cls(Interface(options), Accept(options), StandingNat(options), iptables.remove_leftovers)


class Upkeep:
    """These parts of one process. One method runs at a time; the others wait for it."""

    def __init__(
        self,
        options: NodeOptions,
        tools: Tools,
        counters: NodeCounters,
        troubles: Troubles,
        upstreams: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`upstreams` are the members of the standing nat table where the options say so, as they are now."""
        self._options = options
        self._upstreams = upstreams
        self._tools = tools
        self._counters = counters
        self._troubles = troubles
        self._one_at_a_time = asyncio.Lock()
        self._intercepting = False

    async def prepare(self) -> None:
        """Put our addresses on a device, where we are to do that."""
        if self._options.setup_interface:
            async with self._one_at_a_time:
                await self._device("interface_add", again=False)

    async def intercept(self) -> None:
        """Prepare for pods: leftovers out, ACCEPT rules and standing nat in."""
        async with self._one_at_a_time:
            self._intercepting = True
            await self._rules(again=False)

    async def check(self, *, device_only: bool = False) -> None:
        """Look for what is not as we left it, put it right, and say so."""
        async with self._one_at_a_time:
            if self._options.setup_interface:
                await self._device("interface_check", again=True)
            if self._intercepting and not device_only:
                await self._rules(again=True)

    async def take_down(self) -> None:
        """Remove what is ours. The standing nat table stays: it is for the time without us."""
        async with self._one_at_a_time:
            if self._intercepting:
                await self._remove(self._tools.accept.remove, "iptables")
            if self._options.setup_interface:
                await self._remove(self._tools.interface.remove, "interface_check")

    async def _device(self, errortype: str, *, again: bool) -> None:
        try:
            missing = await self._tools.interface.ensure()
        except CommandFailed as error:
            addresses = ", ".join(self._options.local_ips)
            self._troubles.failed("device", error, errortype, f"{addresses} may be missing")
            return
        self._troubles.works("device")
        if missing and again:
            self._changed("address", f"{' '.join((missing.device, *missing.addresses)).strip()} was missing")

    async def _rules(self, *, again: bool) -> None:
        await self._leftovers(again=again)
        await self._accept(again=again)
        if self._options.standing_nat:
            await self._standing(again=again)

    async def _leftovers(self, *, again: bool) -> None:
        try:
            removed = await self._tools.remove_leftovers(self._options)
        except CommandFailed as error:
            self._troubles.failed(LEFTOVERS, error, "iptables", "if there are any, they stay")
            return
        self._troubles.works(LEFTOVERS)
        if removed and again:
            self._changed("leftovers", f"{removed} rules of node-local-dns were there again (does it still run?)")
        elif removed:
            logs.info(f"removed {removed} rules that node-local-dns left behind", plugin=PLUGIN)

    async def _accept(self, *, again: bool) -> None:
        try:
            inserted = await self._tools.accept.ensure()
        except CommandFailed as error:
            self._troubles.failed("ACCEPT rules", error, "iptables", "a firewall that drops by default drops us")
            return
        self._troubles.works("ACCEPT rules")
        if inserted and again:
            self._changed("accept_rules", f"{len(inserted)} ACCEPT rules were missing")

    async def _standing(self, *, again: bool) -> None:
        standing, members = self._tools.standing, self._options.standing_nat
        follows = members == (UPSTREAMS,)
        try:
            if follows or not again:
                await standing.update(self._upstreams() if follows else members)
            there = not again or await standing.check()
        except CommandFailed as error:
            self._troubles.failed("standing nat", error, "iptables", "link-local addresses need us to live")
            return
        self._troubles.works("standing nat")
        if not there:
            self._changed("standing_nat", "the standing nat table was missing")

    async def _remove(self, remove: Callable[[], Coroutine[Any, Any, None]], errortype: str) -> None:
        try:
            await remove()
        except CommandFailed as error:
            self._troubles.failed("taking down", error, errortype, "it stays behind")

    def _changed(self, kind: str, text: str) -> None:
        self._counters.put_back[kind] += 1
        logs.warning(f"{text}; put right", plugin=PLUGIN)
