"""Clients that go on asking while processes come and go, and remember every question that got no answer.

Closed loops: each client has one question on its way. A bounded number a second in all, so that the machine of a
test is never the reason for a loss.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.client import query

PATIENCE_S = 3.0
"""Longer than any retry of ours upstream: what takes so long is lost."""


@dataclass
class Tally:
    """What the clients saw. `at` has the moments of the answers."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    reconnected: int = 0

    @property
    def troubles(self) -> list[str]:
        """Every question that did not get its answer."""
        return self.lost + self.refused + self.wrong


class _Asker:
    """One UDP client with one question on its way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(address)
        self.name = ""
        self.wire = b""
        self.asked_s = 0.0

    def ask(self, name: str, number: int) -> None:
        self.name = name
        self.wire = number.to_bytes(2, "big") + query(name, "A", edns=True).to_wire()[2:]
        self.asked_s = time.monotonic()
        self.socket.send(self.wire)


class _InThread:
    """A client in a thread of its own; `_run` asks until `_ends` is set, and writes into `tally`."""

    def __init__(self, address: tuple[str, int], names: Sequence[str], per_s: int, thread: str) -> None:
        self.tally = Tally()
        self._address = address
        self._names = names
        self._pause_s = 1 / per_s
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name=thread)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> Tally:
        """Ask no more, wait for the answers that are due, and return what was seen."""
        self._ends.set()
        self._thread.join(2 * PATIENCE_S)
        return self.tally

    def _run(self) -> None:
        raise NotImplementedError  # each protocol asks in its own way


class Load(_InThread):
    """UDP questions for `names` in turn, `per_s` a second, from `clients` sockets, in a thread of its own."""

    def __init__(self, address: tuple[str, int], names: Sequence[str], per_s: int, clients: int = 16) -> None:
        super().__init__(address, names, per_s, "load")
        self._clients = clients

    def _run(self) -> None:
        idle = [_Asker(self._address) for _ in range(self._clients)]
        everyone = list(idle)
        waiting: dict[int, _Asker] = {}
        number = 0
        next_s = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for asker in everyone:
                selector.register(asker.socket, selectors.EVENT_READ, asker)
            while waiting or not self._ends.is_set():
                now_s = time.monotonic()
                while idle and now_s >= next_s and not self._ends.is_set():
                    asker = idle.pop(0)
                    number += 1
                    asker.ask(self._names[number % len(self._names)], number % 65536)
                    waiting[asker.socket.fileno()] = asker
                    next_s = max(next_s + self._pause_s, now_s - 0.1)
                for key, _ in selector.select(min(self._pause_s, 0.01)):
                    if self._take(key.data):
                        waiting.pop(key.data.socket.fileno(), None)
                        idle.append(key.data)
                for asker in [each for each in waiting.values() if now_s - each.asked_s > PATIENCE_S]:
                    self.tally.lost.append(f"{asker.name} at {asker.asked_s:.3f}")
                    idle.append(waiting.pop(asker.socket.fileno()))
        for asker in everyone:
            asker.socket.close()

    def _take(self, asker: _Asker) -> bool:
        tally = self.tally
        try:
            answer = asker.socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError as error:
            tally.refused.append(f"{asker.name}: {error}")
            return True
        if answer[:2] != asker.wire[:2]:
            return False  # late, for a question that was given up
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - asker.asked_s)
        if answer[3] & 0xF or not answer[7]:
            tally.wrong.append(f"{asker.name}: rcode {answer[3] & 0xF}")
        else:
            tally.answered += 1
        return True


class TcpLoad(_InThread):
    """One TCP client that keeps its connection, with `fresh` one for each question.

    A connection that is closed between an answer and the next question is no loss: the question goes out again
    on a new one (RFC 7766 section 6.2.4), once.
    """

    def __init__(self, address: tuple[str, int], names: Sequence[str], per_s: int, *, fresh: bool = False) -> None:
        super().__init__(address, names, per_s, "tcp load")
        self._fresh = fresh

    def _run(self) -> None:
        stream: socket.socket | None = None
        number = 0
        while not self._ends.wait(self._pause_s):
            number += 1
            name = self._names[number % len(self._names)]
            for attempt in range(2):
                used = stream is not None
                try:
                    if stream is None:
                        stream = socket.create_connection(self._address, PATIENCE_S)
                    self._ask(stream, name, number)
                    break
                except OSError as error:
                    if stream is not None:
                        stream.close()
                    stream = None
                    if not used or attempt:
                        self.tally.lost.append(f"{name}: {error!r}")
                        break
                    self.tally.reconnected += 1
            if self._fresh and stream is not None:
                stream.close()
                stream = None
        if stream is not None:
            stream.close()

    def _ask(self, stream: socket.socket, name: str, number: int) -> None:
        wire = (number % 65536).to_bytes(2, "big") + query(name, "A", edns=True).to_wire()[2:]
        asked_s = time.monotonic()
        stream.sendall(len(wire).to_bytes(2, "big") + wire)
        answer = _read(stream, int.from_bytes(_read(stream, 2), "big"))
        self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - asked_s)
        if answer[:2] != wire[:2] or answer[3] & 0xF:
            self.tally.wrong.append(name)
        else:
            self.tally.answered += 1


def _read(stream: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        more = stream.recv(number - len(data))
        if not more:
            raise ConnectionResetError("closed")
        data += more
    return data


@contextlib.contextmanager
def asking(*loads: Load | TcpLoad) -> Iterator[None]:
    """Let them ask while the block lasts; their tallies are complete when it is left."""
    for load in loads:
        load.start()
    try:
        yield
    finally:
        for load in loads:
            load.end()
