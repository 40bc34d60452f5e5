"""Everything that is decided for one question after its first try was not a clean answer.

No sockets, no timers: the rescue (`forward.rescue`) tells what happened and asks what to do next. The rules:

- A truncated answer over UDP: the same upstream again over TCP.
- No answer within `TRY_S`: the next upstream, or the same one from a new source port, while the earlier tries
  may still answer. Each upstream is asked at most twice unless `max_connect_attempts` says otherwise.
- The fallback joins in when every upstream was tried and at least `FALLBACK_AFTER` tries got nothing, or at once
  when every upstream is down.
- SERVFAIL: one other upstream at most (RFC 9520 section 3.1 asks for restraint), then it is the answer.
- A rcode of `failover`: the next upstream, until all were tried; then the last such answer is the answer.
- FORMERR or NOTIMP to a question with EDNS: the same upstream again without (RFC 6891 section 7).
- Any other rcode is the answer.
- Until `deadline_s`; until `deadline_slow_s` if any upstream answered anybody since the question went out.
"""

from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from resolver.forward.choose import Health
from resolver.forward.options import ForwardOptions
from resolver.wire.header import FORMERR, NOERROR, NOTIMP, NXDOMAIN, SERVFAIL

TRY_S = 0.4
"""How long one try has the field alone: unbound's first guess for an unknown server is 376 ms."""

STREAM_TRY_S = 0.8
"""The same over TCP, where the kernel repeats lost segments and a connect may come first."""

FALLBACK_AFTER = 2

_TC_IN_BYTE = 0x02

U = TypeVar("U", bound=Health)


class Ask(NamedTuple, Generic[U]):
    """Ask this upstream now. `plain`: without EDNS."""

    upstream: U
    tcp: bool
    plain: bool = False


class Wait(NamedTuple):
    """Nothing to do before `until_s`, unless something happens."""

    until_s: float


class Use(NamedTuple):
    """This message is the answer."""

    packet: bytes


class Fail(NamedTuple):
    """Nobody answered in time; `reason` is for people."""

    reason: str


class Attempt(Generic[U]):
    """The state of one question. Tell it what happened, then ask `next_step`."""

    def __init__(
        self,
        order: Sequence[U],
        fallback: Sequence[U],
        options: ForwardOptions,
        tcp: bool,
        started_s: float,
        first_is_out: bool = False,
    ) -> None:
        """Plan the tries: `order` as `choose.order` gave it, `started_s` when the first question went out.

        first_is_out  The first of `order` was asked before there was an attempt; `sent` says so as well.
        """
        self._options = options
        self._tcp = tcp
        self._started_s = started_s
        self._hold_until_s = started_s
        self._urgent: deque[Ask[U]] = deque()
        self._plan = deque(_plan(order, fallback, options.max_connect_attempts))
        if first_is_out:
            self._plan.popleft()
        self._servfail_from: U | None = None
        self._last_bad: bytes | None = None
        self._result: bytes | None = None
        self._reason = "no upstream"
        self.outstanding = 0

    def sent(self, tcp: bool, now_s: float) -> None:
        """A question went out."""
        self.outstanding += 1
        alone_s = STREAM_TRY_S if tcp else TRY_S
        self._hold_until_s = now_s + min(alone_s, self._options.read_timeout_s)

    def answered(self, upstream: U, tcp: bool, plain: bool, packet: bytes, now_s: float) -> None:
        """A matching answer came."""
        self.outstanding -= 1
        rcode = packet[3] & 0x0F
        if packet[2] & _TC_IN_BYTE and not tcp:
            self._urgent.append(Ask(upstream, True, plain))
        elif rcode in self._options.failover_rcodes:
            self._last_bad = packet
            self._hold_until_s = now_s
        elif rcode in {NOERROR, NXDOMAIN}:
            self._result = packet
        elif rcode == SERVFAIL:
            self._servfail(upstream, packet, now_s)
        elif rcode in {FORMERR, NOTIMP} and not plain:
            self._urgent.append(Ask(upstream, tcp, True))
        else:
            self._result = packet

    def failed(self, reason: str, now_s: float) -> None:
        """A try ended without an answer: refused, unreachable, closed, or timed out over TCP."""
        self.outstanding -= 1
        self._reason = reason
        self._hold_until_s = now_s

    def silent(self, reason: str) -> None:
        """A UDP try had its time alone and got nothing; it may still be answered."""
        self._reason = reason

    def next_step(self, now_s: float, heard_s: float) -> Ask[U] | Wait | Use | Fail:
        """Return what to do now. `heard_s`: when any upstream last answered anybody."""
        if self._result is not None:
            return Use(self._result)
        if self._urgent:
            return self._urgent.popleft()
        options = self._options
        alive = heard_s > self._started_s
        deadline_s = self._started_s + (options.deadline_slow_s if alive else options.deadline_s)
        over = now_s >= deadline_s or (not self._plan and self.outstanding <= 0)
        if over:
            return Use(self._last_bad) if self._last_bad is not None else Fail(self._reason)
        if self._plan and now_s >= self._hold_until_s:
            return Ask(self._plan.popleft(), self._tcp)
        return Wait(min(self._hold_until_s, deadline_s) if self._plan else deadline_s)

    def _servfail(self, upstream: U, packet: bytes, now_s: float) -> None:
        self._last_bad = packet
        others = [other for other in self._plan if other is not upstream]
        if self._servfail_from is None and others:
            self._servfail_from = upstream
            self._plan = deque(others[:1])
            self._hold_until_s = now_s
        elif self.outstanding <= 0:
            self._result = packet
        else:
            self._plan.clear()


def _plan(order: Sequence[U], fallback: Sequence[U], attempts: int) -> list[U]:
    """Return who is asked in turn, the fallback's place included."""
    rounds = [*order, *order]
    if attempts:
        while rounds and len(rounds) < attempts:
            rounds.extend(order)
        rounds = rounds[:attempts]
    if all(upstream.down for upstream in order):
        return [*fallback, *rounds]
    before = min(max(FALLBACK_AFTER, len(order)), len(rounds))
    return [*rounds[:before], *fallback, *rounds[before:]]
