"""What a server costs as a whole: a day in a cluster, growth, memory, start, and doing nothing."""

import contextlib
import random
import threading
from functools import partial

from perf import cpu, servers
from perf.bench import DECIDING, Bench
from perf.day import day
from perf.load import Prepared
from perf.questions import Ask, names
from perf.servers import Server
from perf.workloads.hot import forwards

DAY, DAY_RATE = 60_000, 2_000  # 30 s: six lifetimes of a cluster's answers
MEMORY = (10_000, 100_000)
GROWTH, GROWTH_ASKED = (1_000, 10_000, 100_000, 1_000_000), 100_000
GROWTH_OTHERS = 100_000  # how far servers go that decide no target: to fetch a million names takes some minutes
FILL_S = 180  # a server that takes longer to fetch what a size needs stays out of this size and those above
SOCKETS = (1, 10, 100, 1_000)
SOCKETS_NAMES, SOCKETS_ASKED = 1_000, 100_000
IDLE_S = 60
MIB = 1024 * 1024


def a_day(bench: Bench) -> None:
    """Search lists, pairs, expiry. An unmeasured quarter of the day comes before each run."""
    asks = day(bench.scaled(DAY, 200))
    begin, asked = bench.load.prepare(asks[: len(asks) // 4]), bench.load.prepare(asks)
    case = f"{DAY_RATE:,} q/s"
    with bench.field(0, forwards) as started:
        for _, server in bench.turns(started):
            if bench.warm(case, server, begin):
                act = partial(bench.own, server, asked, rate=DAY_RATE, burst=2)
                bench.measure(case, server, act, hits=True)


def growth_names(bench: Bench) -> None:
    """The same number of questions over ever more known names."""
    sizes = sorted({bench.scaled(size, 20) for size in GROWTH})
    dice = random.Random(1)
    with bench.field(sizes[-1] + 1_000) as everybody:
        had, started = 0, everybody
        for size in sizes:
            case = f"{size:,} names"
            known = [Ask(name) for name in names(size, "grown", "long")]
            fill, again = bench.load.prepare(known[had:]), bench.load.prepare(known * 2)
            asked = bench.load.prepare(dice.choices(known, k=bench.scaled(GROWTH_ASKED, 200)))
            sample = bench.load.prepare(asked.asks[:100])
            had = size
            started = [
                server
                for server in started
                if (size <= GROWTH_OTHERS or server.name in DECIDING) and _filled(bench, case, server, fill, again)
            ]
            for _, server in bench.turns(started):
                bench.measure(case, server, partial(bench.dnsperf, server, asked), sample=sample)
                bench.block.note(case, server.name, {"rss_mib": cpu.tree_rss_bytes(server.pid) / MIB})
            for used in (fill, again, asked, sample):
                used.forget()


def _filled(bench: Bench, case: str, server: Server, fill: Prepared, again: Prepared) -> bool:
    """Fetch what is new, then ask for all twice more: known names are those that have been asked again."""
    return bench.warm(case, server, fill, limit_s=FILL_S) and bench.warm(case, server, again, limit_s=FILL_S)


def growth_sockets(bench: Bench) -> None:
    """The same questions from ever more client sockets."""
    known = [Ask(name) for name in names(bench.scaled(SOCKETS_NAMES, 20), "sockets", "long")]
    fill = bench.load.prepare(known * 3)
    asked = bench.load.prepare(known * max(1, bench.scaled(SOCKETS_ASKED) // len(known)))
    with bench.field(0) as started:
        ready = [server for server in started if bench.warm("1 socket", server, fill)]
        for count in SOCKETS:
            case = f"{count:,} socket{'s' if count > 1 else ''}"
            for _, server in bench.turns(ready):
                bench.measure(case, server, partial(bench.own, server, asked, sockets=count))


def memory(bench: Bench) -> None:
    """Resident memory after start and after so many names; each server is started anew for every round."""
    sizes = [bench.scaled(size, 20) for size in MEMORY]
    fills = [bench.load.prepare(Ask(name) for name in names(size, "kept", "long")) for size in sizes]
    for _, contestant in bench.turns(list(filter(forwards, bench.contestants))):
        with bench.one(contestant, max(sizes) + 1_000) as server:
            if server is None:
                continue
            _note_rss(bench, "0 entries", server)
            for size, fill in zip(sizes, fills, strict=True):
                case = f"{size:,} entries"
                if bench.warm(case, server, fill, limit_s=FILL_S):
                    _note_rss(bench, case, server)


def _note_rss(bench: Bench, case: str, server: Server) -> None:
    bench.block.note(case, server.name, {"rss_mib": cpu.tree_rss_bytes(server.pid) / MIB})


def start(bench: Bench) -> None:
    """From start to the first right answer; asked every 2 ms."""
    for _, contestant in bench.turns(list(filter(forwards, bench.contestants))):
        with bench.one(contestant, 0) as server:
            if server is not None:
                bench.block.note("first right answer", server.name, {"start_ms": server.start_s * 1000})


def idle(bench: Bench) -> None:
    """Nobody asks. All at once, for a minute: what a server does now and then (our check of the node) is in it."""
    lasting_s = max(0.05, IDLE_S * bench.scale)
    with bench.field(0) as started, contextlib.ExitStack() as scraping:
        for server in started:
            scraping.enter_context(servers.scraped(server))
        for number in range(bench.rounds):
            bench.progress.say(f"{bench.workload}: everybody, for {lasting_s:.0f} s")
            idle_ones = [server for server in started if number == 0 or server.name in DECIDING]
            before_ns = [cpu.tree_used_ns(server.pid) for server in idle_ones]
            threading.Event().wait(lasting_s)
            for server, since_ns in zip(idle_ones, before_ns, strict=True):
                used_ns = cpu.tree_used_ns(server.pid) - since_ns
                bench.block.note("no questions", server.name, {"cpu_percent": used_ns / 1e7 / lasting_s})
