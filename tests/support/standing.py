"""Our server under a clock that stands still but where a test lets it go on: "at once" means without any time.

async with scripted.running() as one, standing.serving(forwarding(one)) as server:
    asking = asyncio.create_task(server.client.ask("web.example."))
    await server.go_on(0.5)
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.edns
import dns.message

from tests.support import node, scripted
from tests.support.jumping import StandingClock


@asynccontextmanager
async def serving(text: str) -> AsyncIterator[node.Node]:
    """Serve under a clock that stands still; at the end what is under way gets the time to end."""
    clock = StandingClock()
    async with node.serving(text, clock=clock) as server:
        await server.settle()
        try:
            yield server
        finally:
            clock.go()
            clock.jump(10)


def forwarding(*upstreams: scripted.Upstream, options: str = "policy sequential") -> str:
    addresses = " ".join(f"{upstream.host}:{upstream.port}" for upstream in upstreams)
    return f"forward . {addresses} {{\n{options}\n}}"


def record(name: str, address: str = "192.0.2.7") -> str:
    return f"{name} 60 IN A {address}"


def error_of(answer: dns.message.Message) -> int | None:
    codes = [int(option.code) for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    return codes[0] if codes else None
