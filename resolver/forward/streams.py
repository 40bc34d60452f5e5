"""Which connection of a pool takes a question. Decides only: time is an argument, nothing is opened or closed."""

from collections.abc import Iterator

from resolver.forward.learned import Learned
from resolver.forward.stream import Stream

HOLD_S = 0.15
"""How long a new connection carries a single question, unless that is answered before: an upstream that does not
serve it closes it, or leaves it alone."""


class Streams:
    """The open connections of one pool, and what was learned of their upstream."""

    __slots__ = ("_idle_s", "_max_age_s", "learned", "opened")

    def __init__(self, idle_s: float, max_age_s: float) -> None:
        self.opened: set[Stream] = set()
        self.learned = Learned()
        self._idle_s = idle_s
        self._max_age_s = max_age_s

    def idle(self, now_s: float) -> list[Stream]:
        """Return those that take a question and have none, the one used last in front: the others grow old."""
        return sorted(
            (stream for stream in self._taking(now_s) if not stream.pending),
            key=lambda stream: -stream.used_s,
        )

    def busy(self, now_s: float, waiting: int = 0) -> Stream | None:
        """Return the one with the fewest questions that takes one more; unproven ones come last.

        waiting  Questions that wait: none of them may go where there are more than its share already, so that
                 the first connection to answer does not get them all.
        """
        taking = self._taking(now_s)
        if taking and waiting:
            in_flight = [len(stream.pending) for stream in self.opened if not (stream.retired or stream.closed)]
            share = (waiting + sum(in_flight)) // len(in_flight)
            taking = [stream for stream in taking if len(stream.pending) <= share]
        return min(taking, key=_load, default=None)

    def proven(self, now_s: float) -> Stream | None:
        """As `busy`, of those that have answered."""
        stream = self.busy(now_s)
        return stream if stream is not None and stream.answers else None

    def may_connect(self, connecting: int, now_s: float) -> bool:
        """Tell whether one more connection may be opened while `connecting` are on their way."""
        usable = self.usable
        return self.learned.may_connect(usable, len(self.opened) - usable, connecting, now_s)

    def may_free_a_place(self, now_s: float) -> bool:
        """Tell whether a question that finds no place now may find one when others are answered or closed."""
        return self.usable > 0 or (bool(self.opened) and not self.learned.pausing(now_s))

    def outdated(self, now_s: float) -> Iterator[Stream]:
        """Yield those that should go: idle for too long, or old."""
        for stream in list(self.opened):
            too_old = now_s - stream.born_s >= self._max_age_s
            if too_old or (not stream.pending and now_s - stream.used_s >= self._idle_s):
                yield stream

    @property
    def usable(self) -> int:
        """How many take questions, now or when others are answered."""
        return sum(not (stream.retired or stream.closed) for stream in self.opened)

    def _taking(self, now_s: float) -> list[Stream]:
        """Return those that take one more question."""
        asked_max, in_flight_max = self.learned.questions_max(now_s), self.learned.in_flight_max(now_s)
        return [
            stream
            for stream in self.opened
            if not (stream.retired or stream.closed)
            and stream.writable
            and stream.asked < asked_max
            and now_s - stream.born_s < self._max_age_s
            and (
                (len(stream.pending) < in_flight_max and (stream.answers or now_s - stream.born_s >= HOLD_S))
                if stream.pending
                else now_s - stream.used_s < self._idle_s
            )
        ]


def _load(stream: Stream) -> tuple[bool, int]:
    return stream.answers == 0, len(stream.pending)
