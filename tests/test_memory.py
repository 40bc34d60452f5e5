"""How much memory the caches take: the ledger's charges are near the truth, and the process keeps to its budget."""

import gc
import socket
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resolver.accept.decode import decode
from resolver.accept.lane import Table
from resolver.accept.packets import CLIENT_SHARE, DictTable, PacketCache
from resolver.cache.cache import Cache
from resolver.cache.ledger import Ledger
from resolver.cache.lifetime import decide
from resolver.cache.options import CacheOptions
from resolver.reply.fit import fit
from resolver.report.series import SeriesTable
from resolver.wire.question import Question
from resolver.wire.ttls import scan
from tests.accept.lane import LABELS, answer_to
from tests.support import mirror, process
from tests.support.addresses import free_port, loopback
from tests.support.client import parse, query
from tests.support.scrape import fetch

MIB = 1024 * 1024

CHARGED_MIN, CHARGED_MAX = 1.0, 1.3
"""What the ledger says of one entry over what Python has allocated for it; malloc and dead space come on top."""

#       records in an answer, entries: just before and just after the tables have grown
SIZES = [
    pytest.param(1, 2_700, id="small"),
    pytest.param(4, 2_800, id="usual"),
    pytest.param(60, 600, id="large"),
]


@pytest.mark.parametrize("new_table", [DictTable, Table], ids=["python", "compiled"])
@pytest.mark.parametrize(("addresses", "number"), SIZES)
def test_the_ledger_charges_what_it_costs(addresses: int, number: int, new_table: Callable[[], Any]) -> None:
    wires = [query(f"name{at:06d}.svc.cluster.local.", "A", edns=True).to_wire() for at in range(number)]
    answers = [answer_to(wire, addresses=addresses) for wire in wires]
    ledger = Ledger(10**12)
    cache = Cache(CacheOptions(success_capacity=10**6), ledger)
    packets = PacketCache(ledger, new_table)
    series = SeriesTable().count(LABELS, ".", "", 1, 0, False, "cache", 1, 1, 0.0)

    def store() -> None:
        for at, (wire, answer) in enumerate(zip(wires, answers, strict=True)):
            found = scan(bytes(bytearray(answer)))  # bytes of its own, as they come from a socket
            cache.put(question_of(wire).key, found, decide(found, 1, cache.options), 1000.0 + at / 1024)

    def render() -> None:
        for at, wire in enumerate(wires):
            if at % CLIENT_SHARE == 0:
                packets.sweep(1000.0)
            question = question_of(bytes(bytearray(wire)))
            entry = cache.success.entries[question.key]
            response = fit(question, entry.packet, entry.ttl_offsets, 0, 0, 65535)
            assert question.packet_key is not None
            packets.keep(question.packet_key, response, "", entry.ttl_offsets, 0, 0, entry.life, series)

    for fill in (store, render):
        charged_bytes = -ledger.used_bytes
        cost_bytes = allocated(fill)
        charged_bytes += ledger.used_bytes
        assert CHARGED_MIN <= charged_bytes / cost_bytes <= CHARGED_MAX, (charged_bytes, cost_bytes)
    assert len(packets.table) == len(cache.success.entries) == number


def question_of(wire: bytes) -> Question:
    question = decode(wire)
    assert isinstance(question, Question)
    return question


def allocated(work: Callable[[], None]) -> int:
    """Return the bytes that `work` has allocated and not given back."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


class Asker:
    """Asks a server many questions in a closed loop, over one socket of the address `source`."""

    AT_ONCE = 64

    def __init__(self, server: process.Server, source: str = "") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.connect((server.host, server.port))
        self._socket.settimeout(10)
        self._template = query("x.", "A", edns=True).to_wire()

    def ask(self, names: Sequence[str]) -> None:
        """Ask for every name, and take every answer."""
        tail = self._template[-15:]
        for start in range(0, len(names), self.AT_ONCE):
            batch = names[start : start + self.AT_ONCE]
            for number, name in enumerate(batch):
                label = name.encode()
                head = bytes((0, number)) + self._template[2:12]
                self._socket.send(head + bytes((len(label),)) + label + b"\7example\0" + tail)
            for _ in batch:
                answer = self._socket.recv(4096)
                assert answer[3] & 0xF == 0, parse(answer)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def peak_resident_bytes(pid: int) -> int:
    """Return the most memory that the process ever held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)


HEAP_BYTES = 64 * MIB
"""Where glibc's heaps of threads begin and end."""

BUDGET_BYTES = 32 * MIB
BATCH = 640
NAMES = 60_000
"""With a rendering each, and one in six large, about 90 MB: three budgets."""


def test_resident_memory_stays_within_the_budget_and_a_margin() -> None:
    status = loopback()
    port = free_port(status)
    with mirror.in_a_thread() as upstream:
        corefile = (
            f".:{{port}} {{\n bind {{host}}\n prometheus {status}:{port}\n"
            f" cache 3600 {{\n success 1000000\n }}\n forward . {upstream.host}:{upstream.port}\n}}\n"
        )
        with process.running(corefile, flags=["-cache-memory", str(BUDGET_BYTES)]) as server:
            names = [f"{'abcdez'[number % 6]}{number:08d}" for number in range(NAMES)]
            most_renderings = 0.0
            for start in range(0, NAMES, BATCH):
                # Each batch from another client: one alone may add 1,000 renderings a second.
                asker = Asker(server, source=loopback())
                asker.ask(names[start : start + BATCH])
                asker.ask(names[start : start + BATCH])  # a second question makes a rendering
                asker.close()
                page = fetch(status, port)
                most_renderings = max(most_renderings, page.value("resolver_packet_cache_entries"))
            peak_bytes = peak_resident_bytes(server.pid)
            assert page.value("resolver_cache_bytes") > 0.95 * BUDGET_BYTES
            assert page.value("resolver_cache_bytes") <= BUDGET_BYTES
            # Renderings were among what was weighed: at the most, as they go with entries that are pushed out.
            assert most_renderings > 10_000
            assert peak_bytes <= BUDGET_BYTES * 1.15 + 40 * MIB


KNOWN = 250
"""Below `store.MAX_CHANCES`: of more, that many in a row may cost one of them its place."""

FLOOD = 20_000


def test_a_flood_of_names_asked_once_evicts_nobody_who_is_in_use() -> None:
    """Hits are answered in front of the store, so an LRU store would take the hottest names for the oldest."""
    status = loopback()
    port = free_port(status)
    with mirror.in_a_thread() as upstream:
        corefile = (
            f".:{{port}} {{\n bind {{host}}\n prometheus {status}:{port}\n cache 3600\n"
            f" forward . {upstream.host}:{upstream.port}\n}}\n"
        )
        with process.running(corefile, flags=["-cache-memory", "4Mi"]) as server:
            asker = Asker(server)
            known = [f"k{number:08d}" for number in range(KNOWN)]
            asker.ask(known)
            asker.ask(known)
            for start in range(0, FLOOD, 1_000):
                asker.ask([f"f{number:08d}" for number in range(start, start + 1_000)])
                asker.ask(known)
            asker.close()
            evicted = fetch(status, port).value("coredns_cache_evictions_total")
        assert evicted > FLOOD / 2
        assert upstream.asked["f"] == FLOOD
        assert upstream.asked["k"] == KNOWN


def test_all_threads_allocate_from_one_heap() -> None:
    """A heap of its own, which glibc gives each thread, is 64 MiB of addresses, nearly all of them out of reach."""
    status = loopback()
    port = free_port(status)
    with process.running(f".:{{port}} {{\n bind {{host}}\n prometheus {status}:{port}\n cache\n}}\n") as server:
        fetch(status, port)  # reads files in a thread
        threads = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
        heaps = 0
        for line in Path(f"/proc/{server.pid}/maps").read_text().splitlines():
            first, last = (int(address, 16) for address in line.split()[0].split("-"))
            heaps += (
                "---p" in line and first % HEAP_BYTES and last % HEAP_BYTES == 0 and last - first > HEAP_BYTES / 2
            )
    assert threads > 1
    assert heaps == 0
