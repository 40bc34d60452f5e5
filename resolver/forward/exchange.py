"""The first try of a flight over UDP: sent from the drain loop, landed from the drain loop, no task.

A clean answer (NOERROR or NXDOMAIN, whole, nothing that `next` or `failover` wants to see) lands the flight at
once. Anything else hands over to `forward.rescue`, which is a task and reads from top to bottom.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from resolver.forward.udp import Port
from resolver.forward.upstream import Upstream
from resolver.metrics import TIME_BUCKETS_S

if TYPE_CHECKING:  # the forwarder makes exchanges; only the type leads back
    from resolver.forward.forwarder import Forwarder
    from resolver.forward.rescue import Rescue


class Exchange:
    """One UDP question to one upstream. `rescue` is None while it is a first try.

    No `__init__`: `Forwarder.ask` fills it, one Python call less for every miss.
    """

    __slots__ = (
        "asked", "done", "flight", "forwarder", "key", "plain", "port", "query_id", "rescue", "sent_s", "upstream",
    )  # fmt: skip
    asked: bytes
    done: bool
    flight: Any
    forwarder: "Forwarder"
    key: bytes
    plain: bool
    port: Port
    query_id: bytes
    rescue: "Rescue | None"
    sent_s: float
    upstream: Upstream

    def answered(self, packet: bytes, now_s: float) -> None:
        """The answer came, perhaps late."""
        upstream = self.upstream
        forwarder = self.forwarder
        rcode = packet[3] & 0x0F
        duration_s = now_s - self.sent_s
        histogram = upstream.counters.by_rcode.get(rcode)
        if histogram is None:
            upstream.counters.answered(rcode, duration_s)
        else:  # `answered` written out: one Python call less for every miss
            histogram.counts[bisect_left(TIME_BUCKETS_S, duration_s)] += 1
            histogram.total += duration_s
        forwarder.heard_s = upstream.heard_s = now_s
        if upstream.doubted:
            upstream.heard(now_s)
        if self.rescue is not None:
            self.rescue.answered(self, packet, now_s)
        elif not self.done:
            self.done = True
            if (packet[2] << 8 | packet[3]) & 0x020F in forwarder.clean:
                forwarder.active -= 1
                forwarder.landed(self.flight, packet, None, now_s)
                self.flight = None
            else:
                forwarder.rescue(self, now_s).answered(self, packet, now_s)

    def refused(self, reason: str, now_s: float) -> None:
        """Nobody listens there."""
        self.forwarder.doubt(self.upstream)
        if self.rescue is not None:
            self.rescue.refused(self, reason, now_s)
        elif not self.done:
            self.done = True
            self.forwarder.rescue(self, now_s).refused(self, reason, now_s)

    def expire(self, now_s: float) -> None:
        """It has had its time alone; the answer may still come while others are asked."""
        self.done = True
        self.upstream.counters.timeouts += 1
        self.upstream.udp.timed_out(self.port, self.sent_s)
        self.forwarder.doubt(self.upstream)
        rescue = self.rescue or self.forwarder.rescue(self, now_s)
        rescue.silent(self)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.done = True
        self.port.forget(self.query_id)
