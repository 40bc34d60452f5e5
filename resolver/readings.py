"""Numbers of our own that have no class: read from the parts when a scrape asks (`metrics.Source`)."""

from collections import Counter

from resolver.accept.lanes import lane_of
from resolver.accept.listener import Listener
from resolver.accept.tcp_listener import TcpListener
from resolver.accept.udp import UdpListener
from resolver.kept import Kept
from resolver.listeners import Listeners
from resolver.metrics import Reading, Source


def readings_of(kept: Kept, listeners: Listeners) -> Source:
    """Return the source; it reads the listeners that exist when it is asked."""

    def read() -> list[Reading]:
        return [*_kept(kept), *_sockets(list(listeners.udp.values()), list(listeners.tcp.values()))]

    return read


def _kept(kept: Kept) -> list[Reading]:
    flights = [memory.flights for memory in kept.memories.values()]
    ledger = kept.ledger
    waiting = sum(len(one.by_key) for one in flights)
    return [
        _gauge("resolver_cache_bytes", "Bytes that all caches hold, as the ledger counts them.", ledger.used_bytes),
        _gauge("resolver_cache_budget_bytes", "Bytes that all caches may hold.", ledger.budget_bytes),
        _gauge("resolver_flights", "Questions that wait for upstream now.", waiting),
        _counter(
            "resolver_collapsed_total",
            "Questions that joined one that was already on its way.",
            sum(one.joined for one in flights),
        ),
        _counter(
            "resolver_turned_away_total",
            "Questions turned away because too many wait for upstream.",
            sum(one.turned_away for one in flights),
        ),
    ]


def _sockets(udp: list[UdpListener], tcp: list[TcpListener]) -> list[Reading]:
    renderings = sum(len(listener.packets.table) for listener in udp if listener.packets is not None)
    everyone: list[Listener] = [*udp, *tcp]
    dropped = {
        "short": sum(listener.dropped_short for listener in everyone),
        "not_a_query": sum(listener.dropped_answers for listener in everyone),
    }
    counters = [listener.server.counters for listener in tcp]
    closed = {
        "full": sum(one.refused_full for one in counters),
        "client_limit": sum(one.refused_client for one in counters),
        "made_room": sum(one.evicted for one in counters),
        "idle": sum(one.closed_idle for one in counters),
        "read_timeout": sum(one.closed_read for one in counters),
        "write_timeout": sum(one.closed_write for one in counters),
        "accept_error": sum(one.accept_errors for one in counters),
    }
    lanes = {"compiled": 0, "python": 0} | Counter(lane_of(listener) for listener in udp)
    return [
        *_labelled_gauge("resolver_lane_listeners", "UDP listeners by the lane that answers.", "lane", lanes),
        _gauge("resolver_packet_cache_entries", "Answers kept as bytes, ready to send.", renderings),
        _counter("resolver_udp_received_total", "Datagrams read.", sum(one.received for one in udp)),
        _counter(
            "resolver_udp_send_failures_total",
            "Answers that the kernel did not take.",
            sum(one.send_failures for one in udp),
        ),
        _gauge(
            "resolver_tcp_connections", "Open TCP connections.", sum(one.server.open_connections for one in tcp)
        ),
        _counter(
            "resolver_tcp_accepted_total", "TCP connections taken.", sum(one.accepted for one in counters)
        ),
        *_labelled(
            "resolver_tcp_closed_total", "TCP connections that we ended, and why.", "reason", closed
        ),
        *_labelled(
            "resolver_packets_dropped_total", "Packets left unanswered on purpose.", "reason", dropped
        ),
    ]  # fmt: skip


def _gauge(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, "gauge", (), value)


def _counter(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, "counter", (), value)


def _labelled_gauge(name: str, text: str, label: str, values: dict[str, int]) -> list[Reading]:
    return [Reading(name, text, "gauge", ((label, key),), value) for key, value in sorted(values.items())]


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> list[Reading]:
    return [Reading(name, text, "counter", ((label, key),), value) for key, value in sorted(values.items())]
