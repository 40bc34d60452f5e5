"""Flights as a value: who joins what, and the two bounds."""

from typing import Any

from resolver.accept.decode import decode
from resolver.collapse.flights import Flight, Flights, Waiter
from resolver.collapse.options import CollapseOptions
from resolver.wire.question import Question
from tests.support.client import query


def question(name: str = "web.example.", rdtype: str = "A", **how: Any) -> Question:
    decoded = decode(query(name, rdtype, **how).to_wire())
    assert isinstance(decoded, Question)
    return decoded


def waiter(asked: Question, client: object = None) -> Waiter:
    return Waiter(None, client, asked, None, 0.0)


def started(flights: Flights, asked: Question) -> Flight:
    flight = flights.start(asked, [waiter(asked)])
    assert flight is not None
    return flight


def test_who_asks_the_same_joins() -> None:
    flights = Flights(CollapseOptions())
    flight = started(flights, question("web.example."))
    again = question("WEB.example.", edns=True, size=4096, query_id=7)
    assert again.key in flights.by_key
    flights.join(flight, waiter(again, "b"))
    assert [each.client for each in flight.waiters] == [None, "b"]
    assert [each.question.asked for each in flight.waiters] == [flight.question.asked, again.asked]
    assert (len(flights.by_key), flights.joined) == (1, 1)


def test_another_type_or_bit_is_another_flight() -> None:
    keys = {question(rdtype=rdtype, do=do, cd=cd).key for rdtype in ("A", "AAAA") for do in (0, 1) for cd in (0, 1)}
    assert len(keys) == 8
    flights = Flights(CollapseOptions())
    started(flights, question())
    assert question(do=True).key not in flights.by_key
    assert question("web.example.org.").key not in flights.by_key


def test_one_flight_too_many_does_not_start() -> None:
    flights = Flights(CollapseOptions(flights_max=2))
    first = started(flights, question("a."))
    started(flights, question("b."))
    assert flights.start(question("c."), []) is None
    assert (len(flights.by_key), flights.turned_away) == (2, 1)
    del flights.by_key[first.key]  # it lands
    started(flights, question("c."))


def test_one_waiter_too_many_gets_no_seat() -> None:
    flights = Flights(CollapseOptions(waiters_max=2))
    flight = started(flights, question())
    for number in range(3):
        flights.join(flight, waiter(question(), number))
    assert [each.client for each in flight.waiters] == [None, 0]
    assert (flights.joined, flights.turned_away) == (1, 2)


def test_a_flight_begins_with_nothing_in_hand() -> None:
    flight = started(Flights(CollapseOptions()), question())
    assert (flight.done, flight.paired, flight.stale, flight.key) == (False, False, None, question().key)


def test_each_client_has_its_count_of_flights_in_the_air_and_none_stays_behind() -> None:
    flights = Flights(CollapseOptions())
    one, two, other = (
        flights.start(question(name), [], client)
        for name, client in (("a.", "10.0.0.7"), ("b.", "10.0.0.7"), ("c.", "10.0.0.8"))
    )
    own = flights.start(question("d."), [])
    assert flights.by_client == {"10.0.0.7": 2, "10.0.0.8": 1}
    for flight in (one, other, own):
        assert flight is not None
        flights.land(flight)
    assert flights.by_client == {"10.0.0.7": 1}
    assert two is not None
    flights.land(two)
    assert (flights.by_client, flights.by_key) == ({}, {})
