"""One address, port and protocol: where a query's bytes become a question and find their pipeline.

A listener owns its socket, its packet cache, its table of zones and its labels. A reload gives it a new table in
one assignment; the socket stays. UDP (`accept.udp`) and TCP (`accept.tcp`) build on this.
"""

from collections.abc import Callable, Iterable

from resolver.accept.decode import Rejection, decode
from resolver.accept.packets import PacketCache
from resolver.admit import check
from resolver.pipeline import Route
from resolver.reply import failures
from resolver.report.series import ListenerLabels, SeriesTable
from resolver.wire import names
from resolver.wire.header import CLASS_IN, TYPE_DS
from resolver.wire.question import Question

Table = dict[bytes, Route]
"""Routes by zone, as a lower-case wire name."""


class Listener:
    """What both protocols share."""

    def __init__(
        self,
        labels: ListenerLabels,
        max_bytes: int,
        series: SeriesTable,
        packets: PacketCache,
        decode: Callable[[bytes], Question | Rejection | None] = decode,
    ) -> None:
        self.labels = labels
        self.max_bytes = max_bytes
        self.packets = packets
        self.series = series
        self.dropped_short = 0
        self.dropped_answers = 0
        self._decode = decode
        self._table: Table = {}
        self._only: Route | None = None

    def use(self, routes: Iterable[Route]) -> None:
        """Answer by these routes from now on; renderings made by the old ones are dropped."""
        self._table = {names.from_text(route.zone): route for route in routes}
        # Most listeners have one zone, the root: then there is nothing to look up.
        self._only = self._table.get(names.ROOT) if len(self._table) == 1 else None
        self.packets.clear()

    def zones(self) -> list[str]:
        """Return the zones that are answered here."""
        return [route.zone for route in self._table.values()]

    def sweep(self, now_s: float) -> None:
        """Drop some of the renderings that are dead; called every `packets.SWEEP_EVERY_S`."""
        self.packets.sweep(now_s)

    def answer(self, query: bytes, client: object, now_s: float) -> bytes | None:
        """Return the answer to the query, or None: a flight has it, or silence is right. Never raises."""
        question = self._decode(query)
        if type(question) is not Question:
            return self._reject(query, question)
        route = self._only
        if route is None:
            route = self._route(question)
            if route is None:
                return self._outside(question)
        return route.pipeline.answer(question, client, self, route, now_s)

    def client_host(self, client: object) -> object:
        """Return what one client's share of the packet cache is counted by.

        What a client is differs by protocol: each one's listener says it.
        """
        raise NotImplementedError  # not abstract: tests route questions on a listener without a socket

    def send(self, response: bytes, client: object) -> None:
        """Send an answer that a flight brought. Never raises: a client that is gone is no error.

        Here is no socket: each protocol's listener says how.
        """
        raise NotImplementedError  # not abstract: tests route questions on a listener without a socket

    def _route(self, question: Question) -> Route | None:
        """Return the route of the longest zone above the name; type DS belongs to the parent's side of a cut."""
        name = question.key[:-5]
        if question.qclass != CLASS_IN:
            return next(iter(self._table.values()), None)
        position = 0
        if question.qtype == TYPE_DS and name != names.ROOT:
            position = name[0] + 1
        table = self._table
        while True:
            route = table.get(name[position:])
            if route is not None or not name[position]:
                break
            position += name[position] + 1
        if route is None and question.qtype == TYPE_DS:
            route = table.get(name)
        return route

    def _outside(self, question: Question) -> bytes:
        response = failures.refuse(question, check.OUTSIDE)
        self.series.count(
            self.labels, check.NO_ZONE_LABEL, "", question.qtype, check.OUTSIDE.rcode, question.do, "",
            question.size_bytes, len(response), 0.0,
        )  # fmt: skip
        return response

    def _reject(self, query: bytes, rejection: Question | Rejection | None) -> bytes | None:
        if not isinstance(rejection, Rejection):
            if len(query) < 12:
                self.dropped_short += 1
            else:
                self.dropped_answers += 1
            return None
        packet, rcode = rejection
        self.series.count(
            self.labels, check.NO_ZONE_LABEL, "", 0, rcode, False, "", len(query), len(packet), 0.0
        )  # fmt: skip
        return packet
