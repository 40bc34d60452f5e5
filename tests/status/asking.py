"""Who is asked and who asks, for tests of our questions to ourselves: sockets that answer as told, and a prober."""

import asyncio
from collections.abc import Callable
from typing import Any

from resolver.accept.decode import decode
from resolver.builtin import selfcheck
from resolver.clock import Timers
from resolver.metrics import HealthCounters
from resolver.reply.fit import fit
from resolver.status.health import Health, Prober, Target
from resolver.wire.question import Question
from tests.support.jumping import JumpingClock


def answered(query: bytes) -> bytes:
    """The answer that the pipeline gives to `query`, or REFUSED if it is not this process's own question."""
    question = decode(query)
    assert type(question) is Question
    own = selfcheck.answer(question)
    if own is None:
        return query[:2] + b"\x80\x05" + query[4:]
    return fit(question, own.packet, (), 0, 0, 1232, 0)


class Daemon(asyncio.DatagramProtocol):
    """A UDP socket that answers as `reply` says; `asked` tells of each question."""

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self.reply = reply
        self.asked = asyncio.Event()
        self.questions = 0
        self.ports: set[int] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.questions += 1
        self.ports.add(addr[1])
        answer = self.reply(data)
        if answer is not None:
            self.transport.sendto(answer, addr)
        self.asked.set()


async def serve(reply: Callable[[bytes], bytes | None]) -> tuple[Daemon, Target]:
    transport, daemon = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Daemon(reply), local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")[:2]
    return daemon, (host, port)


class Bench:
    """A prober, its clock and its counters."""

    def __init__(self, mark: int = 0) -> None:
        self.clock = JumpingClock()
        self.timers = Timers(asyncio.get_running_loop(), self.clock)
        self.health = Health()
        self.counters = HealthCounters()
        self.prober = Prober(self.health, self.counters, self.timers, mark)

    async def until_counted(self, rounds: int) -> None:
        """Wait until so many questions have ended."""
        while sum(self.counters.durations.counts) < rounds:
            await self.timers.sleep(0.01)

    def problem(self) -> str | None:
        return self.health.problem(self.clock())

    def close(self) -> None:
        self.prober.close()
        self.timers.close()
