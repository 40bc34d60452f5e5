"""Numbers of our own that have no class: read from the parts when a scrape asks (`metrics.Source`)."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from resolver.accept.lanes import lane_of
from resolver.accept.listener import Listener
from resolver.accept.tcp_listener import TcpListener
from resolver.accept.udp import UdpListener
from resolver.kept import Kept
from resolver.listeners import Listeners
from resolver.metrics import NodeCounters, Reading, Source
from resolver.system import conntrack, queues


def readings_of(kept: Kept, listeners: Listeners) -> Source:
    """Return the source; it reads the listeners that exist when it is asked."""

    def read() -> list[Reading]:
        udp, tcp = list(listeners.udp.values()), list(listeners.tcp.values())
        return [*_kept(kept), *_sockets(udp, tcp), *_receive_queues(udp), *_accept_queues(tcp)]

    return read


def node_readings(node: NodeCounters) -> Source:
    """Return the source for the set-up of the node."""

    def read() -> list[Reading]:
        return [
            *_labelled_gauge(
                "resolver_interception",
                "1 while pods are brought to every local address of the family.",
                "family",
                node.intercepted,
            ),
            _gauge("resolver_fail_open", "1 while we live and pods are at the cluster's DNS.", node.fail_open),
            *_labelled(
                "resolver_fail_open_total",
                "Times that an address failed open, and why.",
                "reason",
                node.failed_open,
            ),
            *_labelled(
                "resolver_node_put_back_total",
                "Parts of the node's set-up that somebody else had changed.",
                "kind",
                node.put_back,
            ),
            _counter(
                "resolver_heartbeat_failures_total",
                "Rounds in which a local address did not answer our own question.",
                node.beats_failed,
            ),
            *_labelled(
                "resolver_node_command_failures_total",
                "Commands of the node's set-up that failed.",
                "command",
                node.commands_failed,
            ),
        ]

    return read


def conntrack_readings() -> list[Reading]:
    """Return what the kernel's connection tracking says. It reads files: for `Registry.file_sources`."""
    readings = []
    if (table := conntrack.table()) is not None:
        readings += [
            _gauge("resolver_conntrack_entries", "Connections that the kernel tracks now.", table.entries),
            _gauge("resolver_conntrack_entries_limit", "Connections that it tracks at most.", table.limit),
        ]
    if (lost := conntrack.losses()) is not None:
        readings += [
            _counter(
                "resolver_conntrack_insert_failures_total",
                "Connections that got no entry: a race, or no free port.",
                lost.insert_failed,
            ),
            _counter(
                "resolver_conntrack_drops_total",
                "Packets dropped because no entry could be had.",
                lost.dropped,
            ),
            _counter(
                "resolver_conntrack_early_drops_total",
                "Entries given up early to make room in a full table.",
                lost.early_dropped,
            ),
        ]
    return readings


def _kept(kept: Kept) -> list[Reading]:
    flights = [memory.flights for memory in kept.memories.values()]
    ledger = kept.ledger
    waiting = sum(len(one.by_key) for one in flights)
    return [
        _gauge("resolver_cache_bytes", "Bytes that all caches hold, as the ledger counts them.", ledger.used_bytes),
        _gauge("resolver_cache_budget_bytes", "Bytes that all caches may hold.", ledger.budget_bytes),
        _gauge("resolver_flights", "Questions that wait for upstream now.", waiting),
        _gauge(
            "resolver_flights_of_one_client",
            "Those of them that the client with the most has started, in one server block.",
            max((max(one.by_client.values(), default=0) for one in flights), default=0),
        ),
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
    everyone: list[Listener] = [*udp, *tcp]
    renderings = sum(len(listener.packets.table) for listener in everyone)
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


def _receive_queues(listeners: Iterable[UdpListener]) -> list[Reading]:
    """Return what waits at each UDP address and what was lost there; a wildcard's two sockets are one address."""
    waiting, buffers, drops = Counter[str](), Counter[str](), Counter[str]()
    for listener in listeners:
        with suppress(OSError):  # a kernel that does not say it
            found = queues.receive_queue(listener.sock)
            waiting[listener.labels.server] += found.waiting_bytes
            buffers[listener.labels.server] += found.buffer_bytes
            drops[listener.labels.server] += found.drops
    return [
        *_labelled_gauge("resolver_udp_receive_queue_bytes", "Receive buffer in use now.", "server", waiting),
        *_labelled_gauge("resolver_udp_receive_buffer_bytes", "Receive buffer in all.", "server", buffers),
        *_labelled("resolver_udp_receive_drops_total", "Datagrams that the kernel dropped.", "server", drops),
    ]


def _accept_queues(listeners: Iterable[TcpListener]) -> list[Reading]:
    """Return the same for TCP, of connections that wait to be accepted."""
    waiting, drops = Counter[str](), Counter[str]()
    for listener in listeners:
        with suppress(OSError):  # a kernel that does not say it
            found = queues.accept_queue(listener.sock)
            waiting[listener.labels.server] += found.waiting
            drops[listener.labels.server] += found.drops
    return [
        *_labelled_gauge("resolver_tcp_accept_queue", "Connections that wait to be accepted.", "server", waiting),
        *_labelled("resolver_tcp_accept_drops_total", "Connections that the kernel dropped.", "server", drops),
    ]


def _gauge(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, "gauge", (), value)


def _counter(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, "counter", (), value)


def _labelled_gauge(name: str, text: str, label: str, values: dict[str, int]) -> list[Reading]:
    return [Reading(name, text, "gauge", ((label, key),), value) for key, value in sorted(values.items())]


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> list[Reading]:
    return [Reading(name, text, "counter", ((label, key),), value) for key, value in sorted(values.items())]
