"""One upstream question for many identical client questions, and for AAAA with A where a name did not exist.

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

    client_host  Whose question started it, for that client's share; None for a refresh of our own.
    done   It has landed.
    paired  Somebody waits who asked for AAAA, and goes on alone unless the name does not exist.
    stale  The expired entry that waiters get if it comes to nothing, or too late.

    No `__init__`: `Flights.start` fills it, one Python call less for every miss.
    """

    __slots__ = ("client_host", "done", "key", "paired", "question", "stale", "waiters")
    client_host: object
    done: bool
    key: bytes
    paired: bool
    question: Question
    stale: Any
    waiters: list[Waiter]


class Flights:
    """All flights of one server block; they outlive a reload, as its cache does.

    `by_key` holds those in the air, `by_client` how many of them each client has started. `land` takes one out;
    then the pipeline answers its waiters.
    """

    __slots__ = ("by_client", "by_key", "joined", "options", "turned_away")

    def __init__(self, options: CollapseOptions) -> None:
        self.options = options
        self.by_client: dict[object, int] = {}
        self.by_key: dict[bytes, Flight] = {}
        self.joined = 0
        self.turned_away = 0

    def join(self, flight: Flight, waiter: Waiter) -> None:
        """Add `waiter` to a flight that is in the air.

        Beyond `waiters_max` it gets no seat, and silence: most of them are one client's retransmissions.
        """
        if len(flight.waiters) < self.options.waiters_max:
            flight.waiters.append(waiter)
            self.joined += 1
        else:
            self.turned_away += 1

    def start(self, question: Question, waiters: list[Waiter], client_host: object = None) -> Flight | None:
        """Return a new flight for `question`, or None when too many are in the air. There must not be one yet.

        client_host  What the asker's share is counted by; None for questions of our own.
        """
        if len(self.by_key) >= self.options.flights_max:
            self.turned_away += 1
            return None
        flight = self.by_key[question.key] = Flight()
        flight.done = False
        flight.key = question.key
        flight.paired = False
        flight.question = question
        flight.stale = None
        flight.waiters = waiters
        flight.client_host = client_host
        if client_host is not None:
            self.by_client[client_host] = self.by_client.get(client_host, 0) + 1
        return flight

    def land(self, flight: Flight) -> None:
        """Take `flight` out of the air."""
        flight.done = True
        self.by_key.pop(flight.key, None)
        host = flight.client_host
        if host is not None:
            left = self.by_client[host] - 1
            if left:
                self.by_client[host] = left
            else:
                del self.by_client[host]
