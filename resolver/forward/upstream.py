"""One upstream address: its sockets, and what is known of it apart from what it answered."""

import ssl
from typing import Protocol

from resolver.clock import Timers
from resolver.forward.options import ForwardOptions
from resolver.forward.tcp import StreamPool
from resolver.forward.udp import UdpPorts
from resolver.metrics import ConnCounts, UpstreamCounters


class Listening(Protocol):
    """Who wants to know of an upstream's state."""

    def state_changed(self) -> None:
        """An upstream went down or came up."""

    def upstream_recovered(self) -> None:
        """An upstream that had failed answered again."""


class Upstream:
    """An address with its UDP ports and streams.

    down     Failed more health checks in a row than `max_fails` allows.
    fails    Failed health checks since the last answer.
    heard_s  When it last answered anybody.
    """

    __slots__ = (
        "_listening", "_options", "counters", "doubted", "down", "fails", "heard_s", "host", "label", "port",
        "streams", "tls", "udp",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        port: int,
        options: ForwardOptions,
        timers: Timers,
        counters: UpstreamCounters,
        listening: Listening,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self.label = label(host, port)
        self.tls = tls is not None
        self.counters = counters
        self.down = False
        self.doubted = False
        self.fails = 0
        self.heard_s = 0.0
        self._options = options
        self._listening = listening
        self.udp = UdpPorts(
            (host, port),
            self.label,
            timers.now,
            counters.connections.setdefault("udp", ConnCounts()),
            source_address=options.source_address,
            expire_s=options.expire_s,
            max_age_s=options.max_age_s,
        )
        self.streams = StreamPool(
            host,
            port,
            tls=tls,
            server_name=server_name,
            source_address=options.source_address,
            timers=timers,
            expire_s=options.expire_s,
            max_age_s=options.max_age_s,
            max_idle_conns=options.max_idle_conns,
            counts=counters.connections.setdefault("tcp-tls" if self.tls else "tcp", ConnCounts()),
        )

    def heard(self, now_s: float) -> None:
        """It answered: whatever was doubted is settled."""
        self.heard_s = now_s
        if self.doubted:
            self.doubted = False
            self.fails = 0
            was_down, self.down = self.down, False
            if was_down:
                self._listening.state_changed()
            self._listening.upstream_recovered()

    def check_failed(self) -> None:
        """One health check got no answer."""
        self.fails += 1
        self.counters.healthcheck_failures += 1
        if not self.down and 0 < self._options.max_fails < self.fails:
            self.down = True
            self._listening.state_changed()

    async def close(self) -> None:
        """Close all sockets; what waits on them is not answered."""
        if not self.streams.closed:
            self.counters.users -= 1
        self.udp.close()
        await self.streams.close()


def label(host: str, port: int) -> str:
    """Return `10.0.0.2:53` or `[fd00::2]:53`, CoreDNS's `to` label."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
