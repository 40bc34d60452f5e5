"""When pods are sent to us: after our own question was answered, and never on the strength of an old answer.

Every address of ours is an element of a set in the kernel that runs out after `alive_s`. `Heartbeat` is told after
each round of questions to ourselves which addresses answered, and says which elements to put in again. It is pure;
`Prober` asks, `resolver.node` does what it says.

- An address that is off comes on after so many good beats in a row: one at first, REARM_BEATS after a failure,
  twice as many after each further one, at most BEATS_MAX. An hour of good beats forgives.
- An address that is on and did not answer is not put in again. If it answers before its element has run out,
  nothing has happened. Else it is off: pods are at the cluster's own DNS.
- A process that follows on crashed ones waits as if it had failed so often itself (`crashes`).
- Nodes that failed open together do not come back together: each wait is up to JITTER longer, by chance.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FIRST_BEATS = 1
"""The first upstream answer and one answer to ourselves: more proof would only be a longer gap after a restart."""

REARM_BEATS = 5
BEATS_MAX = 120
"""Two minutes: a process that crashes as soon as it gets traffic disturbs pods 30 times in an hour at most."""

JITTER = 0.5
FORGIVEN_AFTER_S = 3600.0


class Beat(NamedTuple):
    """What one round means.

    lives   What the set is to hold from now on: addresses and how many seconds they live. Those that answered live
            `alive_s`, those that did not what is left to them. Empty: nobody answered, and the set runs out.
    on      Those of them that were off until now.
    off     Addresses that have just been given up: their elements have run out.
    """

    lives: Mapping[str, float]
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


@dataclass(slots=True)
class _Address:
    """failures: times that it went off, or crashes before us; needed: good beats still to come before it is on."""

    needed: int
    failures: int = 0
    extended_s: float | None = None  # None: it is off
    on_since_s: float = 0.0
    good: int = field(default=0)


def beats_needed(failures: int, chance: float) -> int:
    """Return how many good beats come before an address is on; `chance` is 0 to 1."""
    if not failures:
        return FIRST_BEATS
    beats = min(BEATS_MAX, REARM_BEATS << min(failures - 1, 10))
    return beats + round(beats * JITTER * chance)


class Heartbeat:
    """The state of each address. Times are one monotonic clock's, chances are 0 to 1."""

    def __init__(self, addresses: Iterable[str], alive_s: float, *, crashes: int = 0, chance: float = 0.0) -> None:
        """`alive_s` is how long an element lives that is not put in again: the timeout of the nft table's sets."""
        self._alive_s = alive_s
        self._crashes = crashes
        self._addresses: dict[str, _Address] = {}
        self.aim(addresses, chance)

    def aim(self, addresses: Iterable[str], chance: float) -> None:
        """From now on these are ours; what is known of those that stay is kept."""
        needed = beats_needed(self._crashes, chance)
        known = self._addresses
        self._addresses = {address: known.get(address) or _Address(needed, self._crashes) for address in addresses}

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, on or off."""
        return tuple(self._addresses)

    @property
    def alive(self) -> tuple[str, ...]:
        """Addresses that are on."""
        return tuple(address for address, state in self._addresses.items() if state.extended_s is not None)

    @property
    def beats_to_go(self) -> int:
        """The most good beats that any address still needs; 0 when all are on."""
        off = [state for state in self._addresses.values() if state.extended_s is None]
        return max((state.needed - state.good for state in off), default=0)

    def beat(self, now_s: float, answered: Collection[str], chance: float) -> Beat:
        """One round is over; return what is to be done."""
        extended = False
        on: list[str] = []
        off: list[str] = []
        for address, state in self._addresses.items():
            if state.extended_s is not None and now_s - state.extended_s >= self._alive_s:
                self._give_up(state, now_s, chance)
                off.append(address)
            if address not in answered:
                state.good = 0
                continue
            if state.extended_s is None:
                state.good += 1
                if state.good < state.needed:
                    continue
                state.on_since_s = now_s
                on.append(address)
            state.extended_s = now_s
            extended = True
        return Beat(self.lives(now_s) if extended else {}, tuple(on), tuple(off))

    def lives(self, now_s: float) -> dict[str, float]:
        """Return the addresses that are on, and how many seconds are left to them."""
        return {
            address: self._alive_s - (now_s - state.extended_s)
            for address, state in self._addresses.items()
            if state.extended_s is not None and now_s - state.extended_s < self._alive_s
        }

    def lost(self) -> tuple[str, ...]:
        """The set is gone from the kernel, by no fault of the addresses; return those that were on.

        They come on again with their next good beat.
        """
        gone = self.alive
        for address in gone:
            state = self._addresses[address]
            state.extended_s, state.good, state.needed = None, 0, FIRST_BEATS
        return gone

    def _give_up(self, state: _Address, now_s: float, chance: float) -> None:
        if state.extended_s is not None and state.extended_s - state.on_since_s >= FORGIVEN_AFTER_S:
            state.failures = 0
        state.failures += 1
        state.extended_s, state.good = None, 0
        state.needed = beats_needed(state.failures, chance)
