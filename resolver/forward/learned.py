"""What a pool of connections knows of its upstream: when to connect, how many, how much to put on each. Pure.

The rules, each for a server that exists:

- A server that closes after K answers, with questions still on the connection (K is 1 for servers without
  pipelining, 128 for CoreDNS): new connections carry K questions each, for `LEARNED_S`, then it is tried again.
- A server that lets only two connections in (a VPC's resolver) refuses the third or leaves it in its queue: no
  more are opened for a while, those that work are shared.
- A server that is gone: one connection attempt at a time, a first repetition at once, then with pauses.
"""

CONNECTIONS_MAX = 8
"""To one upstream. CoreDNS answers the questions of one connection one after the other: a slow one holds up
those behind it, so one connection is too few; a node's 8 are 8,000 for a CoreDNS that serves 1,000 nodes."""

SHORT_LIVED_MAX = 64
"""The same for servers that answer fewer than `SHORT_LIVED_QUESTIONS` on one connection."""

SHORT_LIVED_QUESTIONS = 16

IN_FLIGHT_MAX = 128
"""Questions on one connection at a time."""

LEARNED_S = 60.0

RETRY_MIN_S, RETRY_MAX_S = 0.1, 0.4
"""Between attempts while no connection works. Health checks come every 0.5 s: each of them gets its own."""

GROWTH_MIN_S, GROWTH_MAX_S = 1.0, 30.0
"""Between attempts while others work."""


class Learned:
    """Tell it what happened; ask it what to do."""

    __slots__ = (
        "_failed_s",
        "_failures",
        "_grow_after_s",
        "_questions_max",
        "_questions_until_s",
        "_retry_after_s",
    )

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._failed_s = float("-inf")
        self._retry_after_s = self._grow_after_s = float("-inf")
        self._questions_max = 0
        self._questions_until_s = float("-inf")

    def questions_max(self, now_s: float) -> int:
        """How many questions one connection carries in its life."""
        return self._questions_max if now_s < self._questions_until_s else 1_000_000_000

    def in_flight_max(self, now_s: float) -> int:
        """How many questions one connection carries at a time."""
        return min(IN_FLIGHT_MAX, self.questions_max(now_s))

    def connections_max(self, now_s: float) -> int:
        """How many connections may take questions."""
        return SHORT_LIVED_MAX if self.questions_max(now_s) < SHORT_LIVED_QUESTIONS else CONNECTIONS_MAX

    def may_connect(self, usable: int, leaving: int, connecting: int, now_s: float) -> bool:
        """Tell whether one more connection may be opened.

        usable      Connections that take questions.
        leaving     Those that take none any more and wait for their last answers.
        connecting  Those that are being opened.
        """
        if usable == 0:
            if self._failures and (connecting or self.pausing(now_s)):
                return False
        elif now_s < self._grow_after_s:
            return False
        bound = self.connections_max(now_s)
        return usable + connecting < bound and usable + connecting + leaving < 2 * bound

    def pausing(self, now_s: float) -> bool:
        """Tell whether nothing is to be tried at the moment because it failed before."""
        return now_s < self._retry_after_s

    def failed(self, now_s: float) -> None:
        """A connection could not be opened, or never gave an answer."""
        pause_s = 0.0 if self._failures == 0 else min(RETRY_MIN_S * 2 ** (self._failures - 1), RETRY_MAX_S)
        self._retry_after_s = now_s + pause_s
        self._grow_after_s = now_s + min(GROWTH_MIN_S * 2**self._failures, GROWTH_MAX_S)
        self._failures = min(self._failures + 1, 10)
        self._failed_s = now_s

    def proven(self, born_s: float) -> None:
        """A connection opened at `born_s` gave its first answer: one older than the last failure proves nothing."""
        if born_s < self._failed_s:
            return
        self._failures = 0
        self._retry_after_s = self._grow_after_s = float("-inf")

    def closed(self, answers: int, outstanding: int, now_s: float) -> None:
        """The upstream closed a connection after so many answers, with so many questions still on it."""
        if not outstanding:
            return
        if answers:
            self._questions_max = answers
            self._questions_until_s = now_s + LEARNED_S
        else:
            self.failed(now_s)
