"""One upstream question for many identical client questions.

When a deployment rolls, hundreds of pods ask for the same name in the same millisecond, and none of them is in
the cache yet. A *flight* is the single upstream exchange that all of them wait for.

What callers may rely on:

- For one key there is at most one flight at any moment, whoever asked: UDP, TCP, a retransmission, a
  prefetch, a refresh of a stale answer.
- A flight belongs to nobody. The client that caused it may give up; the flight lands all the same, and its
  answer is still there for the others and the cache.
- At most `flights_max` are in the air and `waiters_max` wait for each. One more is turned away; nothing is
  queued, because a queue in front of a slow upstream only makes late answers later.

What is not here: retries and the choice of upstream (`forward`), lifetimes (`cache`), each client's own ID and
size (`reply`).
"""

from typing import Any, NamedTuple

from resolver.collapse.options import CollapseOptions
from resolver.wire.question import Question


class Waiter(NamedTuple):
    """One client that waits: whom to answer, through which listener and route, and since when."""

    listener: Any  # accept and pipeline are above this layer
    client: object
    question: Question
    route: Any
    started_s: float


class Flight:
    """One question on its way.

    done   It has landed.
    stale  The expired entry that waiters get if it comes to nothing, or too late.

    No `__init__`: `Flights.start` fills it, one Python call less for every miss.
    """

    __slots__ = ("done", "key", "question", "stale", "waiters")
    done: bool
    key: bytes
    question: Question
    stale: Any
    waiters: list[Waiter]


class Flights:
    """All flights of one server block; they outlive a reload, as its cache does.

    `by_key` holds those in the air. The pipeline takes a flight out when it lands and answers its waiters.
    """

    __slots__ = ("by_key", "joined", "options", "turned_away")

    def __init__(self, options: CollapseOptions) -> None:
        self.options = options
        self.by_key: dict[bytes, Flight] = {}
        self.joined = 0
        self.turned_away = 0

    def join(self, waiter: Waiter) -> None:
        """Add `waiter` to the flight for its question, which must be in the air.

        Beyond `waiters_max` it gets no seat, and silence: most of them are one client's retransmissions.
        """
        flight = self.by_key[waiter.question.key]
        if len(flight.waiters) < self.options.waiters_max:
            flight.waiters.append(waiter)
            self.joined += 1
        else:
            self.turned_away += 1

    def start(self, question: Question, waiters: list[Waiter]) -> Flight | None:
        """Return a new flight for `question`, or None when too many are in the air. There must not be one yet."""
        if len(self.by_key) >= self.options.flights_max:
            self.turned_away += 1
            return None
        flight = self.by_key[question.key] = Flight()
        flight.done = False
        flight.key = question.key
        flight.question = question
        flight.stale = None
        flight.waiters = waiters
        return flight
