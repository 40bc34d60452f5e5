"""Acts a story out: scripted upstreams and our whole daemon on real sockets, under a clock that stands still.

Between two steps the clock moves only where the story says `at` or `by`. While a client waits, and for `by`, it
moves in small steps, so that retries and timeouts come in their order; otherwise it jumps. Nothing sleeps: what
must come is waited for, and what must not have come is looked for after `_TURNS` turns of the loop, more than any
way through here takes.
"""

import asyncio
import re
import tempfile
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.scenarios.language import parse
from tests.scenarios.messages import compare, query_of, reply_of
from tests.scenarios.mirror import Mirror
from tests.scenarios.story import (
    Answers,
    Asks,
    AsksAgain,
    File,
    Gets,
    HearsNothing,
    Holds,
    Leaves,
    Message,
    Question,
    Reload,
    Step,
    Story,
    Turns,
    WasAsked,
)
from tests.support import node, scripted
from tests.support.addresses import free_port, loopback
from tests.support.client import Tcp, Udp
from tests.support.jumping import StandingClock

PATIENT_S = 10.0
"""A client that waits this long has had every answer that there will be: the rest of the time may pass at once."""

_TURNS = 40
_PLACE = re.compile(r"<(?P<name>\w+)(?P<part>\.host)?>")
_PORT = re.compile(r"^upstreams listen on port (\d+)$", re.MULTILINE)
_UPSTREAM = re.compile(r"\bupstream (\w+)")


async def tell(text: str, file: str, lane: str = "auto") -> None:
    """Act out the story `text` of `file`, on this lane (`resolver.accept.lanes`).

    Raises StoryError, AssertionError with `file:line:` in front, or PermissionError for a port that only root gets.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        names = sorted({*_UPSTREAM.findall(text), *(found["name"] for found in _PLACE.finditer(text))} - _OWN_WORDS)
        hosts = {name: loopback() for name in names}
        named = _PORT.search(text)
        port = int(named[1]) if named else free_port(next(iter(hosts.values()), loopback()))

        def place(found: re.Match[str]) -> str:
            name = found["name"]
            if name in _OWN_WORDS:
                return {"port": str(port), "folder": folder}[name]
            return hosts[name] if found["part"] else f"{hosts[name]}:{port}"

        story = parse(_PLACE.sub(place, text), file)
        upstreams = {
            name: await stack.enter_async_context(scripted.running(host=host, port=port))
            for name, host in hosts.items()
        }
        stage = _Stage(story, upstreams, Path(folder), stack, lane)
        try:
            await stage.act()
        finally:
            await stage.end()


_OWN_WORDS = {"port", "folder"}


class _Asker:
    """One client: a socket, and the questions on it that wait for an answer."""

    def __init__(self, socket: Udp | Tcp) -> None:
        self.socket = socket
        self.waiting: list[bytes] = []
        self.last = b""

    def send(self, wire: bytes) -> None:
        self.socket.send(wire)
        self.waiting.append(wire)
        self.last = wire


class _Stage:
    """One performance of one story."""

    def __init__(
        self,
        story: Story,
        upstreams: dict[str, scripted.Upstream],
        folder: Path,
        stack: AsyncExitStack,
        lane: str,
    ) -> None:
        self._story = story
        self._upstreams = upstreams
        self._folder = folder
        self._stack = stack
        self._lane = lane
        self._clock = StandingClock()
        self._node: node.Node | None = None
        self._askers: dict[str, _Asker] = {}
        self._said: dict[tuple[str, Question], scripted.Reply] = {}
        self._held: dict[tuple[str, Question], asyncio.Event] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._at_s = 0.0

    async def act(self) -> None:
        """Take every step."""
        line = 0
        try:
            for step in self._story.steps:
                line = step.line
                if self._node is None and not isinstance(step.action, Answers | Turns | Holds | File):
                    await self._start()
                await self._pass_time(step.at_s - self._at_s, step.slowly)
                self._at_s = step.at_s
                await self._take(step)
            for who, asker in self._askers.items():
                assert not asker.waiting, f"client {who} still waits for {len(asker.waiting)} answers at the end"
        except (AssertionError, TimeoutError, OSError) as error:
            what = str(error) or type(error).__name__
            raise AssertionError(f"{self._story.file}:{line}: {what}") from error

    async def end(self) -> None:
        """Close what was opened; what is still under way gets the time to end."""
        for asker in self._askers.values():
            await asker.socket.close()
        for mirror in self._mirrors.values():
            mirror.close()
        self._clock.go()
        self._clock.jump(PATIENT_S)
        await self._settle()

    async def _start(self) -> None:
        serving = node.serving(self._story.corefile, clock=self._clock, lane=self._lane)
        self._node = await self._stack.enter_async_context(serving)
        for mirror in self._mirrors.values():
            await mirror.begin(self._server())
        await self._settle()

    async def _settle(self) -> None:
        """Let a tick of the timers pass, and everything that follows from it."""
        if self._node is not None:
            await self._node.settle()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _pass_time(self, seconds: float, slowly: bool) -> None:
        if self._node is None:
            assert not seconds, "time passes once somebody asks"
            return
        slow_s = seconds if slowly else 0.0
        if any(asker.waiting for asker in self._askers.values()):
            slow_s = max(slow_s, min(seconds, PATIENT_S))
        await self._node.go_on(slow_s)
        await self._node.go_on(seconds - slow_s, seconds)

    async def _take(self, step: Step) -> None:
        match step.action:
            case Answers(who, question, message):
                self._said[who, question] = reply_of(message)
                self._rule(who, question)
            case Holds(who, question, held):
                if held:
                    self._held[who, question] = asyncio.Event()
                else:
                    self._held.pop((who, question)).set()
                self._rule(who, question)
                await self._settle()
            case Turns(who, state, question):
                await self._turn(who, state, question)
            case WasAsked():
                await self._was_asked(step.action)
            case Asks():
                await self._asks(step.action)
            case AsksAgain(who):
                self._askers[who].send(self._askers[who].last)
                await self._settle()
            case Gets(who, message):
                await self._gets(self._askers[who], message)
            case HearsNothing(who):
                await self._hears_nothing(self._askers[who])
            case Leaves(who):
                await self._askers.pop(who).socket.close()
                await self._settle()
            case Reload(text, works):
                assert self._node is not None
                assert await self._node.reload(text) is works, "it failed" if works else "it worked"
                await self._settle()
            case File(name, text):
                (self._folder / name).write_text(text)

    def _rule(self, who: str, question: Question) -> None:
        reply = self._said.get((who, question), scripted.NXDOMAIN)
        release = self._held.get((who, question))
        self._upstreams[who].on(question.name, question.rdtype, replace(reply, release=release))

    async def _turn(self, who: str, state: str, question: Question | None) -> None:
        upstream = self._upstreams[who]
        if question is not None:
            upstream.on(question.name, question.rdtype, scripted.SILENT)
        elif state == "is silent":
            upstream.silent = True
        elif state == "is gone":
            await upstream.refuse()
        elif state == "hangs up":
            await upstream.hang_up()
        elif state == "leads back to us":
            await upstream.refuse()
            await self._settle()
            self._mirrors[who] = await Mirror.open((upstream.host, upstream.port))
            if self._node is not None:
                await self._mirrors[who].begin(self._server())
        elif upstream.silent:
            upstream.silent = False
        else:
            await upstream.reopen()
        await self._settle()

    def _server(self) -> tuple[str, int]:
        assert self._node is not None
        return self._node.host, self._node.port

    async def _was_asked(self, claim: WasAsked) -> None:
        upstream, question = self._upstreams[claim.who], claim.question

        def times() -> int:
            return upstream.count(question.name, question.rdtype, claim.proto)

        async with asyncio.timeout(5):
            while times() < claim.times:
                await upstream.seen(len(upstream.asked) + 1)
        await self._settle()
        assert times() == claim.times, f"it was asked {times()} times"

    async def _asks(self, asks: Asks) -> None:
        host, port = self._server()
        asker = self._askers.get(asks.who)
        if asker is not None and not asker.waiting:
            await asker.socket.close()
            asker = None
        if asker is None:
            kind: type[Udp] | type[Tcp] = Tcp if "over TCP" in asks.options else Udp
            asker = self._askers[asks.who] = _Asker(await kind.open(host, port))
        asker.send(query_of(asks))
        await self._settle()

    async def _gets(self, asker: _Asker, message: Message) -> None:
        assert asker.waiting, "it has asked nothing that is not answered"
        wire = await asker.socket.receive()
        asked = next((asked for asked in asker.waiting if asked[:2] == wire[:2]), None)
        assert asked is not None, f"an answer with an ID that nobody asked with: {wire.hex()}"
        asker.waiting.remove(asked)
        compare(wire, asked, message)

    async def _hears_nothing(self, asker: _Asker) -> None:
        await self._settle()
        assert isinstance(asker.socket, Udp), "only a client that asks over UDP can hear nothing"
        assert not asker.socket.pending(), "an answer has come"
