"""Questions that are answered as fast as they come, or at a steady rate: cached, stored, unseen, over UDP and TCP.

"Known" names were asked three times, with and without EDNS, right before a run, and UDP runs have new ones every
time: a run over names of TTL 30 has no expiry in it. What expiry costs shows in the day (`whole.a_day`).
"""

from functools import partial

from perf.bench import Bench
from perf.contestants import Contestant
from perf.questions import Ask, mixed, names, warming, zipf
from perf.servers import Server

NAMES = 5_000
FLAT_OUT, FLAT_OUT_REPEAT = 100_000, 3
RATE_S = {1_000: 4, 10_000: 4}  # CPU at a steady rate
LATENCY_S = {1_000: 5, 10_000: 2}  # long enough for 5 and 20 answers beyond p99.9
LATENCY_PARTS = 3
"""Of a round. Where a machine changes its pace between the turns of two servers, that is in their ratio: one run of
15 s a turn said 0.88 and another 1.32, half an hour apart. Short turns are nearer to each other, and more."""
KNOWN = 1_000
STORED, UNSEEN, PIPELINED = 60_000, 20_000, 100_000
CONNECTIONS, CONNECTIONS_TIMES = 1_000, 5  # once is 50 ms of a server
IN_THE_AIR = {"2 in the air on each of 50": (50, 100), "20 in the air on each of 10": (10, 200)}
"""Of TCP connections that stay open: how many there are, and questions in the air in all. Stub resolvers ask for A
and AAAA together; only what a forwarder pipelines brings many questions in one read."""
SAMPLE = 100  # answers that are looked into after a run of dnsperf


def forwards(contestant: Contestant) -> bool:
    """Everybody but the floor."""
    return contestant.forwards


def cached_udp(bench: Bench) -> None:
    """Known names, flat out and at steady rates."""
    picks = zipf(bench.scaled(NAMES, 50), bench.scaled(FLAT_OUT, 500))
    with bench.field(3 * NAMES * bench.rounds) as started:
        for turn, server in bench.turns(started):
            _flat_out(bench, server, f"f{turn}", picks)
            _at_rates(bench, server, f"c{turn}", RATE_S)


def cached_bare(bench: Bench) -> None:
    """Known names, flat out."""
    picks = zipf(bench.scaled(NAMES, 50), bench.scaled(FLAT_OUT, 500))
    with bench.field(NAMES * bench.rounds) as started:
        for turn, server in bench.turns(started):
            _flat_out(bench, server, f"f{turn}", picks)


def _flat_out(bench: Bench, server: Server, run: str, picks: list[int]) -> None:
    own = names(bench.scaled(NAMES, 50), run)
    fill, asked, sample = (
        bench.load.prepare(asks) for asks in (warming(own), mixed(own, picks), mixed(own, picks[:SAMPLE]))
    )
    if bench.warm("flat out", server, fill):
        repeat = FLAT_OUT_REPEAT if bench.scale >= 1 else 1
        act = partial(bench.dnsperf, server, asked, repeat=repeat)
        bench.measure("flat out", server, act, sample=sample)
    for used in (fill, asked, sample):
        used.forget()


def _at_rates(bench: Bench, server: Server, run: str, lasting_s: dict[int, int]) -> None:
    for rate, seconds in lasting_s.items():
        own = names(bench.scaled(NAMES, 50), f"{run}-{rate}")
        fill = bench.load.prepare(warming(own))
        asked = bench.load.prepare(mixed(own, zipf(len(own), bench.scaled(rate * seconds, 100))))
        case = f"{rate:,} q/s"
        if bench.warm(case, server, fill):
            bench.measure(case, server, partial(bench.own, server, asked, rate=rate))
        fill.forget()
        asked.forget()


def latency(bench: Bench) -> None:
    """Known names in an open loop."""
    with bench.field(2 * NAMES * LATENCY_PARTS * bench.rounds) as started:
        for turn, server in bench.turns(started, parts=LATENCY_PARTS):
            _at_rates(bench, server, f"l{turn}", LATENCY_S)


def stored(bench: Bench) -> None:
    """Names that the cache has, written in a way that no packet cache has."""
    known = names(bench.scaled(KNOWN, 50), "stored", "long")
    capitals = [Ask(name.upper()) for name in known]
    fill, sample = bench.load.prepare(Ask(name) for name in known), bench.load.prepare(capitals[:SAMPLE])
    asked = bench.load.prepare(capitals * max(1, bench.scaled(STORED) // len(capitals)))
    with bench.field(NAMES) as started:
        ready = [server for server in started if bench.warm("flat out", server, fill)]
        for _, server in bench.turns(ready):
            bench.measure("flat out", server, partial(bench.dnsperf, server, asked), sample=sample)


def tcp_pipelined(bench: Bench) -> None:
    """Known names over connections that stay open."""
    known = [Ask(name) for name in names(bench.scaled(KNOWN, 50), "tcp", "long")]
    fill, sample = bench.load.prepare(known * 3), bench.load.prepare(known[:SAMPLE])
    asked = bench.load.prepare(known * max(1, bench.scaled(PIPELINED) // len(known)))
    with bench.field(NAMES, lambda who: who.tcp) as started:
        for case, (clients, outstanding) in IN_THE_AIR.items():
            ready = [server for server in started if bench.warm(case, server, fill)]
            for _, server in bench.turns(ready):
                act = partial(bench.dnsperf, server, asked, tcp=True, clients=clients, outstanding=outstanding)
                bench.measure(case, server, act, sample=sample)


def unseen(bench: Bench) -> None:
    """Names that nobody asked for before."""
    count = bench.scaled(UNSEEN, 100)
    with bench.field(count * bench.rounds, forwards) as started:
        for turn, server in bench.turns(started):
            asked = bench.load.prepare(Ask(name) for name in names(count, f"unseen{turn}"))
            sample = bench.load.prepare(asked.asks[-SAMPLE:])
            bench.measure("flat out", server, partial(bench.dnsperf, server, asked), sample=sample)
            asked.forget()
            sample.forget()


def tcp_connections(bench: Bench) -> None:
    """One TCP connection for each question."""
    known = [Ask(name) for name in names(bench.scaled(CONNECTIONS, 50), "conn", "long")]
    fill, asked = bench.load.prepare(known * 3), bench.load.prepare(known)
    with bench.field(NAMES, forwards) as started:
        ready = [server for server in started if bench.warm("100 at a time", server, fill)]
        for _, server in bench.turns(ready):
            act = partial(bench.own, server, asked, tcp=True, repeat=CONNECTIONS_TIMES)
            bench.measure("100 at a time", server, act)
