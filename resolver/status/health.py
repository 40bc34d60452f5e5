"""Whether this process answers: the truth of /health.

Once a second the process asks itself a question through each of its own UDP sockets, as a client would, and
only an answer with this process's nonce counts (`builtin.selfcheck` gives it, from no cache and no upstream).
So a full receive queue, a stuck pipeline or a dead socket turns /health red, and a dead upstream does not.

`Health` is pure: who was asked, who answered when. `Prober` owns the sockets. Where two generations of this process
share an address, the kernel picks one of them by the source port, and an answer without our nonce only means that
the other one was picked: ask again, at once, from a new port.

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


class _Asker:
    """The questions to one target, one at a time, each until its answer or the end of the second.

    A port that we answered on is kept for the next question: a new one takes twelve system calls besides the three
    of a question. Any other end of a question is the end of its port.
    """

    def __init__(self, target: Target, ended: Callable[["_Asker", bool], None], shares: Callable[[], bool]) -> None:
        self.target = target
        self.waits = False
        self.started_s = 0.0
        self._mark = 0
        self._shares = shares
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._ports_tried = 0
        self._socket: socket.socket | None = None
        self._query_id = b""

    def ask(self, mark: int, now_s: float) -> None:
        """Send a question, by packets with `mark`; there must be none on its way."""
        if mark != self._mark:
            self._leave_port()
            self._mark = mark
        self.waits = True
        self.started_s = now_s
        self._ports_tried = 0
        self._send()

    def close(self) -> None:
        """Nothing is waited for any more."""
        self.waits = False
        self._leave_port()

    def end(self, answered: bool) -> None:
        """The question has come to this."""
        self.waits = False
        if not answered:
            self._leave_port()
        self._ended(self, answered)

    def _leave_port(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _send(self) -> None:
        self._query_id = os.urandom(2)
        try:
            if self._socket is None:
                self._socket = self._open()
                self._loop.add_reader(self._socket, self._readable)
            self._socket.send(build_query(self._query_id))
        except OSError:
            self.end(False)

    def _open(self) -> socket.socket:
        """Return a socket with a new port."""
        self._ports_tried += 1
        family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if self._mark:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            opened.connect(self.target)
        except OSError:
            opened.close()
            raise
        return opened

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            answer = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # refused: nobody listens there
            if self.waits:
                self.end(False)
            else:
                self._leave_port()
            return
        if not self.waits:
            return  # a second answer to what is answered
        if is_ours(answer, self._query_id):
            self.end(True)
        elif self._ports_tried < TRIES:
            self._leave_port()
            self._send()
        else:
            # The other generation that reads the very same socket is idle, and so nearly always faster than a
            # process that is just asking. The socket is served, and a loop that is stuck asks nothing.
            self.end(self._shares())


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
        self._askers: dict[Target, _Asker] = {}
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
        for target in [target for target in self._askers if target not in self._targets]:
            self._askers.pop(target).close()
        if self._running is None:
            self._running = logs.held(asyncio.create_task(self._run()), "the health prober")
        else:
            self._ask()

    def close(self) -> None:
        """Ask no more."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        for asker in self._askers.values():
            asker.close()
        self._askers.clear()

    async def _run(self) -> None:
        while True:
            self._ask()
            await self._timers.sleep(EVERY_S, on_beat=True)
            for asker in list(self._askers.values()):
                if asker.waits:
                    asker.end(False)

    def _ask(self) -> None:
        """Ask every target that no question is on its way to."""
        now_s = self._timers.now()
        for target in self._targets:
            if target not in self._askers:
                self._askers[target] = _Asker(target, self._ended, self.shares)
        asked = [asker for asker in self._askers.values() if not asker.waits]
        for asker in asked:
            asker.waits = True  # all of them before the first may end: a round ends when nobody waits
        for asker in asked:
            asker.ask(self._mark if asker.target in self._guarded else 0, now_s)

    def _ended(self, ended: _Asker, answered: bool) -> None:
        target = ended.target
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
        if not any(asker.waits for asker in self._askers.values()):
            self._had_round.set()
            heard, self._answered = frozenset(self._answered), set()
            self.on_round(now_s, heard)
