"""The rules that cannot outlive us: a child `nft -i` that holds a table of ours, and what we ask of it.

What callers may rely on:

- The table is owned by the child (`flags owner`): the kernel removes it when the child ends, and the child ends
  when we do, however we end: its standard input is a pipe that nobody else holds. Nobody else can delete the table.
- Where kernel or nft know no owners the table is made without; then only the timeouts of its elements end it.
- The rules bring pods to us only while `beat` is called: each beat keeps our addresses for `alive_s`.
- `beat` never blocks and never raises, and the child does not grow by it. What goes wrong later is told to
  `on_failure`, once for each child. By then the child is being killed, and nobody is intercepted.
- After a failure, `start` makes a new child with a new table.

What the rules say is in `notrack`, what nft says in `dialogue`.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

from resolver.errors import CommandFailed
from resolver.system import commands, notrack
from resolver.system.dialogue import Dialogue, Verdict
from resolver.system.nft_child import GONE, Child
from resolver.system.options import NodeOptions

BEATS_UNANSWERED_MAX = 3
"""More, and nft is stuck: the elements have expired by then."""


class Rules:
    """The table of one process.

    name   The table's; a new one for each child.
    owned  Whether the kernel removes it with us.
    armed  Whether nft has confirmed a beat since the start, or since `disarm`.
    """

    def __init__(
        self, options: NodeOptions, *, on_failure: Callable[[CommandFailed], None], program: str = "nft"
    ) -> None:
        self.options = options
        self.name = ""
        self.owned = False
        self.armed = False
        self._on_failure = on_failure
        self._program = program
        self._child: Child | None = None
        self._beats_unanswered = 0
        self._refused: CommandFailed | None = None  # what was wrong with a beat since the last good one
        self._good = ""  # the last beat that nft has confirmed
        self._repeated = 0  # how often it was said again since the last check, without asking

    @property
    def alive(self) -> bool:
        """Whether there is a child that holds the table."""
        return self._child is not None

    async def start(self) -> None:
        """Make the table, without anybody coming to us yet. Raises CommandFailed; then there is no table.

        Tables that dead processes left behind, where the kernel knows no owners, are removed.
        """
        await self.close()
        refused: CommandFailed | None = None
        for way in self._ways():
            try:
                await self._start(way)
            except CommandFailed as failure:
                if failure.kind in {"missing", "permission", "timeout"}:
                    raise
                refused = failure
            else:
                await self._sweep()
                return
        assert refused is not None
        raise refused

    def beat(self, lives: Mapping[str, float]) -> bool:
        """Keep, or begin, interception of these addresses for so many seconds, and of no others.

        False when there is no child to tell.
        """
        child = self._child
        if child is None:
            return False
        if self._beats_unanswered >= BEATS_UNANSWERED_MAX:
            child.fail(
                self._refused
                or CommandFailed(self._program, "timeout", f"said nothing for {BEATS_UNANSWERED_MAX} beats")
            )
            return False
        line = notrack.beat(self.options, self.name, lives)
        if line == self._good and child.is_well:
            self._beats_unanswered = 0
            self._repeated += 1
            child.repeat(line)
        else:
            self._beats_unanswered += 1
            child.say(line, lambda verdict: self._beaten(child, line, verdict))
        return self._child is child

    async def disarm(self) -> None:
        """Take our addresses out at once; the table stays, and so do connections that are ours. Never raises."""
        self.armed, self._good = False, ""
        child = self._child
        if child is None:
            return
        with suppress(CommandFailed):  # the child is gone, and the table with it; `on_failure` was told
            await child.ask(notrack.disarm(self.name), self.options.command_s)
        self.armed, self._good = False, ""  # the answer to a beat may have come meanwhile

    async def check(self) -> bool:
        """Whether the table is there and follows; False (and `on_failure`, once) when it does not."""
        child = self._child
        if child is None:
            return False
        repeated, self._repeated = self._repeated, 0
        if repeated > 1 and child.is_well:
            return True  # a beat finds out by itself; see `Child.repeat` for why it is not asked needlessly
        try:
            await child.ask("", self.options.command_s)
        except CommandFailed:
            return False
        return True

    async def close(self) -> None:
        """Remove the table and end the child. Never raises."""
        self.armed = False
        child, self._child = self._child, None
        if child is not None:
            await child.close(notrack.remove(self.name), self.options.command_s)

    def _ways(self) -> list[notrack.Way]:
        """Return what to try, best first: what this kernel and this nft may know, with the owner last to go."""
        niceties = ((True, True), (False, False))  # (short, sockets): each matters to one kind of interception
        return [notrack.Way(owner, *nicety) for owner in (True, False) for nicety in niceties]

    async def _start(self, way: notrack.Way) -> None:
        self.name = f"{notrack.PREFIX}{os.getpid()}_{secrets.token_hex(3)}"
        dialogue = Dialogue(self.name, notrack.probe(self.name))
        child = await Child.start(self._program, dialogue, self._failed)
        try:
            line = notrack.table(self.options, self.name, way)
            await child.ask(line, self.options.start_s)
        except BaseException:  # cancellation too: no child stays without somebody who knows of it
            child.kill()
            raise
        self._child, self.owned = child, way.owner
        self._beats_unanswered, self._refused, self._good, self._repeated = 0, None, "", 0

    def _beaten(self, child: Child, line: str, verdict: Verdict | CommandFailed) -> None:
        if self._child is not child or isinstance(verdict, CommandFailed):
            return  # the child has ended, and said so
        if not verdict.table:
            child.fail(CommandFailed(self._program, "failed", GONE))
        elif verdict.problem:  # the elements of the last beat are still in: it may go well the next time
            self._refused = commands.classify(self._program, 1, verdict.problem)
        else:
            self._beats_unanswered = 0
            self.armed, self._good = True, line

    def _failed(self, child: Child, failure: CommandFailed) -> None:
        if self._child is child:
            self._child = None
            self.armed = False
            self._on_failure(failure)

    async def _sweep(self) -> None:
        """Remove what dead processes left behind; a failure is worth no line, the next start tries again."""
        with suppress(CommandFailed):
            said = await self._run("list", "tables", "inet", containing=(notrack.PREFIX,))
            for line in said.splitlines():
                name = line.split()[-1]
                if name != self.name and notrack.abandoned(await self._run("list", "table", "inet", name)):
                    await self._run("delete", "table", "inet", name)

    async def _run(self, *words: str, containing: tuple[str, ...] = ()) -> str:
        command = (self._program, *words)
        return (await commands.run(command, timeout_s=self.options.command_s, containing=containing)).stdout
