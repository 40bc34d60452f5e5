"""When checks begin and end; what comes of them is told by stories (tests/scenarios)."""

import asyncio
from types import SimpleNamespace
from typing import Any

from resolver.clock import Timers
from resolver.forward.options import ForwardOptions
from resolver.forward.probe import Prober
from tests.support.jumping import JumpingClock


class Silent:
    """An upstream whose checks never end by themselves."""

    label = "192.0.2.1:53"
    doubted = True
    tls = False

    def __init__(self) -> None:
        self.asked = 0
        self.udp = self

    def send(self, probe: Any, body: bytes, now_s: float) -> tuple[Any, bytes]:
        self.asked += 1
        return SimpleNamespace(forget=lambda query_id: None), b"\0\0"


async def test_one_upstream_is_checked_once_at_a_time() -> None:
    timers = Timers(asyncio.get_running_loop(), JumpingClock())
    prober, upstream = Prober(ForwardOptions(), timers), Silent()
    forwarder: Any = SimpleNamespace(upstreams=(upstream,), fallback=())
    for _ in range(3):
        prober.watch(upstream, forwarder)  # type: ignore[arg-type] # as much of an upstream as a check needs
        await asyncio.sleep(0)
    assert upstream.asked == 1
    await prober.close()
    timers.close()


async def test_a_doubt_in_the_turn_in_which_a_check_ends_is_checked_too() -> None:
    """The old check has ended and its callback has not run yet: the new doubt must not be lost with it."""
    timers = Timers(asyncio.get_running_loop(), JumpingClock())
    prober, upstream = Prober(ForwardOptions(), timers), Silent()
    forwarder: Any = SimpleNamespace(upstreams=(), fallback=())  # so that the first check ends at once
    prober.watch(upstream, forwarder)  # type: ignore[arg-type] # as much of an upstream as a check needs
    (ending,) = prober._tasks.values()
    forwarder.upstreams = (upstream,)
    upstream.doubted = False
    asyncio.get_running_loop().call_soon(_doubt_again, prober, upstream, forwarder, ending)
    for _ in range(3):
        await asyncio.sleep(0)
    assert upstream.asked == 1
    await prober.close()
    timers.close()


def _doubt_again(prober: Prober, upstream: Any, forwarder: Any, ending: "asyncio.Task[None]") -> None:
    assert ending.done()
    assert upstream in prober._tasks
    upstream.doubted = True
    prober.watch(upstream, forwarder)
