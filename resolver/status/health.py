"""Whether this process answers: the truth of /health.

Once a second the process asks itself a question through each of its own UDP sockets, as a client would, and
only an answer with this process's nonce counts (`builtin.selfcheck` gives it, from no cache and no upstream).
So a full receive queue, a stuck pipeline or a dead socket turns /health red, and a dead upstream does not.

`Health` is pure: who was asked, who answered when. `Prober` owns the sockets. Each question goes out from a new
source port: where two generations of this process share an address, the kernel picks one of them by the
port, and an answer without our nonce only means that the other one was picked: ask again, at once.

A *guarded* target is a node's local address. Before our rules stand, kube-proxy sends every question to it on to
the cluster's DNS: an answer from there proves nothing, and silence would make the cluster's illness ours. So it is
asked only while its guard is open, by packets with `mark`, which the rules keep from kube-proxy.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from resolver import logs
from resolver.builtin import selfcheck
from resolver.clock import Timers
from resolver.metrics import HealthCounters
from resolver.wire.header import CLASS_CH, TYPE_TXT

EVERY_S = 1.0
HEALTHY_FOR_S = 3.0
"""How old the last answer may be: two lost questions are no illness."""

TRIES = 8
"""Ports tried in one round while another generation answers: all wrong by chance one time in 256."""

Target = tuple[str, int]
"""Address and port, as the socket has them."""


class Health:
    """What is known of the sockets that should answer. Times are one monotonic clock's."""

    def __init__(self) -> None:
        self._last_s: dict[Target, float | None] = {}
        self._guarded = False

    def expect(self, targets: Iterable[Target], *, guarded: bool = False) -> None:
        """From now on exactly these must answer; what is known of those that stay is kept.

        guarded  There are more, which cannot be asked now: no target at all is no illness then.
        """
        self._last_s = {target: self._last_s.get(target) for target in targets}
        self._guarded = guarded

    def answered(self, target: Target, now_s: float) -> None:
        """`target` has answered."""
        if target in self._last_s:
            self._last_s[target] = now_s

    def problem(self, now_s: float) -> str | None:
        """Return what is wrong, in one line, or None while every target answered within HEALTHY_FOR_S."""
        if not self._last_s and not self._guarded:
            return "no socket is open"
        for (host, port), last_s in self._last_s.items():
            if last_s is None:
                return f"{host}:{port}/udp has not answered yet"
            if now_s - last_s > HEALTHY_FOR_S:
                return f"{host}:{port}/udp has not answered for {now_s - last_s:.1f} s"
        return None


def reachable(host: str, port: int) -> Target:
    """Return where a socket bound to `host` answers: a wildcard is asked on the loopback address."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def build_query(query_id: bytes) -> bytes:
    """Return the question to ourselves: RD clear, no EDNS."""
    tail = TYPE_TXT.to_bytes(2, "big") + CLASS_CH.to_bytes(2, "big")
    return query_id + b"\0\0\0\1\0\0\0\0\0\0" + selfcheck.NAME + tail


def is_ours(answer: bytes, query_id: bytes) -> bool:
    """Tell whether `answer` is this process's answer to the query with this ID."""
    nonce = selfcheck.NONCE.encode()
    return answer[:2] == query_id and answer[2:3] >= b"\x80" and answer[12:].count(nonce) == 2


class _Round:
    """One question to one target, until its answer or the end of the second."""

    def __init__(
        self,
        target: Target,
        mark: int,
        started_s: float,
        ended: Callable[["_Round", bool], None],
        shares: Callable[[], bool],
    ) -> None:
        self.target = target
        self._mark = mark
        self._shares = shares
        self.started_s = started_s
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._tries = 0
        self._socket: socket.socket | None = None
        self._query_id = b""

    def ask(self) -> None:
        """Send the question from a new port."""
        self.close()
        self._tries += 1
        self._query_id = os.urandom(2)
        family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            if self._mark:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            self._socket.connect(self.target)
            self._socket.send(build_query(self._query_id))
        except OSError:
            self._ended(self, False)
            return
        self._loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Nothing is waited for any more."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            answer = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # refused: nobody listens there
            self._ended(self, False)
            return
        if is_ours(answer, self._query_id):
            self._ended(self, True)
        elif self._tries < TRIES:
            self.ask()
        else:
            # The other generation that reads the very same socket is idle, and so nearly always faster than a
            # process that is just asking. The socket is served, and a loop that is stuck asks nothing.
            self._ended(self, self._shares())


class Prober:
    """Asks every target once a second and tells `Health` and the counters.

    on_round  Called when a round is over, that is when each target has answered or the second has passed, with the
              time and the targets that answered.
    mark      SO_MARK of questions to guarded targets; needs CAP_NET_ADMIN, as the rules that look for it do.
    shares    Tells whether another process that lives reads the same sockets (a hand-over).
    """

    def __init__(self, health: Health, counters: HealthCounters, timers: Timers, mark: int = 0) -> None:
        self.on_round: Callable[[float, frozenset[Target]], None] = lambda now_s, answered: None
        self.shares: Callable[[], bool] = lambda: False
        self._health = health
        self._counters = counters
        self._timers = timers
        self._mark = mark
        self._wanted: tuple[Target, ...] = ()
        self._guarded: frozenset[Target] = frozenset()
        self._open = False
        self._targets: tuple[Target, ...] = ()
        self._rounds: dict[Target, _Round] = {}
        self._answered: set[Target] = set()
        self._failed: set[Target] = set()
        self._running: asyncio.Task[None] | None = None
        self._had_round = asyncio.Event()

    async def first_round(self) -> None:
        """Return when the first round is over, or there is nobody to ask; after EVERY_S in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self._had_round.wait()

    def aim(self, targets: Iterable[Target], guarded: Iterable[Target] = ()) -> None:
        """Ask exactly these from now on, the first time at once; `reachable` turns a bound address into one.

        guarded  Asked too, but only while the guard is open. One that is not among `targets` says nothing of our
                 health: it is another way to a socket that is there.
        """
        self._wanted = tuple(dict.fromkeys(targets))
        self._guarded = frozenset(guarded)
        self._aim()

    def open_guard(self, is_open: bool) -> None:
        """Our rules stand, or do not any more."""
        if self._open != is_open:
            self._open = is_open
            self._aim()

    def _aim(self) -> None:
        everyone = dict.fromkeys((*self._wanted, *sorted(self._guarded)))
        self._targets = tuple(target for target in everyone if self._open or target not in self._guarded)
        expected = [target for target in self._targets if target in self._wanted]
        self._health.expect(expected, guarded=len(expected) < len(self._wanted))
        self._failed &= set(self._targets)
        if not self._targets:
            self._had_round.set()
        for target in [target for target in self._rounds if target not in self._targets]:
            self._rounds.pop(target).close()
        if self._running is None:
            self._running = logs.held(asyncio.create_task(self._run()), "the health prober")
        else:
            self._ask()

    def close(self) -> None:
        """Ask no more."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        for waiting in self._rounds.values():
            waiting.close()
        self._rounds.clear()

    async def _run(self) -> None:
        while True:
            self._ask()
            await self._timers.sleep(EVERY_S, on_beat=True)
            for waiting in list(self._rounds.values()):
                self._ended(waiting, False)

    def _ask(self) -> None:
        """Ask every target that no question is on its way to."""
        now_s = self._timers.now()
        targets = [target for target in self._targets if target not in self._rounds]
        for target in targets:
            mark = self._mark if target in self._guarded else 0
            self._rounds[target] = _Round(target, mark, now_s, self._ended, self.shares)
        for target in targets:
            self._rounds[target].ask()

    def _ended(self, ended: _Round, answered: bool) -> None:
        ended.close()
        target = ended.target
        self._rounds.pop(target, None)
        now_s = self._timers.now()
        self._counters.durations.observe(now_s - ended.started_s)
        if answered:
            self._answered.add(target)
            self._health.answered(target, now_s)
            if target in self._failed:
                self._failed.discard(target)
                logs.info(f"{target[0]}:{target[1]}/udp answers again", plugin="health")
        else:
            self._counters.failures += 1
            if target not in self._failed:
                self._failed.add(target)
                logs.warning(f"{target[0]}:{target[1]}/udp did not answer our own question", plugin="health")
        if not self._rounds:
            self._had_round.set()
            heard, self._answered = frozenset(self._answered), set()
            self.on_round(now_s, heard)
