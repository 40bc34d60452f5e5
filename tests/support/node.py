"""Our server inside a test: a whole daemon on real sockets of a loopback address, under a clock that jumps.

    async with scripted.running() as upstream, node.serving(f"forward . {upstream.host}:{upstream.port}") as server:
        answer = await server.client.ask("web.example.", "A")
        server.clock.jump(31)

The text is the inside of one server block for the root zone; `bind` is added. A text with `{` at the start of a
block of its own (`.:PORT {`) is taken as a whole Corefile, with `HOST` and `PORT` filled in.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from resolver.daemon import Daemon
from resolver.metrics import Registry
from resolver.settings.loading import load
from resolver.settings.model import ProcessOptions
from tests.support.addresses import free_port, loopback
from tests.support.client import Client
from tests.support.jumping import JumpingClock

_TURNS = 40


class Node:
    """A daemon that serves, and how to reach it."""

    def __init__(self, daemon: Daemon, clock: JumpingClock, host: str, port: int, corefile: Path) -> None:
        self.daemon = daemon
        self.clock = clock
        self.host = host
        self.port = port
        self.client = Client(host, port)
        self.corefile = corefile

    async def settle(self) -> None:
        """Let a tick of the timers pass, and everything that follows from it without more time."""
        ticked = asyncio.Event()
        self.daemon.timers.call_after(0.0, ticked.set)
        await ticked.wait()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def go_on(self, seconds: float, step_s: float = 0.1) -> None:
        """Let time pass in small steps, so that retries, checks and deadlines come in their order."""
        while seconds > 1e-9:
            part_s = min(seconds, step_s)
            self.clock.jump(part_s)
            await self.settle()
            seconds -= part_s

    async def reload(self, text: str) -> bool:
        """Write a new Corefile, as `serving` takes it, and load it."""
        self.corefile.write_text(corefile(text, self.host, self.port))
        return await self.daemon.reload()


def corefile(text: str, host: str, port: int) -> str:
    """Return the whole Corefile for what `serving` was given."""
    if "PORT {" not in text:
        text = f".:PORT {{\n    bind HOST\n{text}\n}}\n"
    return text.replace("HOST", host).replace("PORT", str(port))


@asynccontextmanager
async def serving(
    text: str, *, clock: JumpingClock | None = None, at: tuple[str, int] | None = None, **process: object
) -> AsyncIterator[Node]:
    """Serve by this configuration until the block is left. `process`: fields of ProcessOptions.

    at  Host and port, where another one serves already.
    """
    host, port = at or (loopback(), 0)
    port = port or free_port(host)
    clock = clock or JumpingClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Corefile"
        path.write_text(corefile(text, host, port))
        options = ProcessOptions(conf=str(path), **process)  # type: ignore[arg-type] # the test names the fields
        settings = await asyncio.get_running_loop().run_in_executor(None, load, options)
        daemon = Daemon(settings, clock, Registry())
        await daemon.start()
        try:
            yield Node(daemon, clock, host, port, path)
        finally:
            await daemon.stop(lame_duck=False)
