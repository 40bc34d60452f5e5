"""`python -m perf [WORKLOAD...]`: our server beside its peers and the floor, `all` workloads when none is named.

    --list              say what there is to measure, and who would take part
    --rounds N          rounds; each server runs once in each (3)
    --scale X           sizes as a factor (1.0); 0.01 shows in seconds that everything runs, and measures nothing
    --peers A,B         of unbound, dnsmasq, kresd, pdns (all)
    --lanes A,B         of compiled, python (both; one that does not start is left out)
    --plain             no namespaces, as without root: nobody sets up a node
    --node-cache PATH, --coredns PATH     binaries to measure beside us
    --json FILE         add the results to FILE; other workloads in it are kept
    --report            rewrite docs/performance.md and its pictures from FILE (docs/performance.json);
                        nothing is measured unless workloads, or `all`, are named as well

The server has one processor, load and upstream have the other. As root each server has a network namespace of its
own, in which ours and node-cache set up the node as they would, and for the others that is done; else all are on
loopback addresses and nobody does. No packet leaves the machine. Ctrl-C ends everything that was started; what is
finished by then is in FILE.
"""

import argparse
import datetime as dt
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perf import contestants, cpu, machine, places, report, results, show
from perf.bench import DECIDING, Bench
from perf.contestants import Contestant
from perf.estimate import Estimate
from perf.load import Load, compile_native
from perf.loadgen import LoadError
from perf.results import Block, Results
from perf.targets import verdicts
from perf.workloads import WORKLOADS
from tests.support.unbound import UnboundError

DOCS = contestants.ROOT / "docs"
INTERRUPTED = 130
WITH_NODES = "each server on a node, a network namespace of its own; all nodes alike"
WITHOUT_NODES = "all servers on plain loopback addresses (namespaces need root; or --plain)"
BARE = "all servers on plain loopback addresses, where it says 'without nodes'"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; ends the process with a message when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m perf", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--peers", default=",".join(contestants.PEERS))
    parser.add_argument("--lanes", default=",".join(contestants.LANES))
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--node-cache")
    parser.add_argument("--coredns")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(argv)
    options.peers = [name for name in options.peers.split(",") if name]
    options.lanes = [name for name in options.lanes.split(",") if name]
    if "all" in options.workloads:
        options.workloads = list(WORKLOADS)
    for given, known in (
        (options.workloads, WORKLOADS),
        (options.peers, contestants.PEERS),
        (options.lanes, contestants.LANES),
    ):
        for name in given:
            if name not in known:
                parser.error(f"{name} is unknown; there is: {', '.join(known)}")
    if options.rounds < 1 or not 0 < options.scale <= 100:
        parser.error("--rounds is at least 1, --scale more than 0")
    return options


def main(argv: Sequence[str]) -> int:
    """Measure, print, write; 1 when a workload has no run of ours that counts, 130 after Ctrl-C."""
    options = parse(argv)
    path = options.json or (DOCS / "performance.json" if options.report else None)
    peers, missing = contestants.discover(options.peers, node_cache=options.node_cache, coredns=options.coredns)
    if options.list:
        return say_what_there_is(peers, missing)
    try:
        had = results.load(path) if path else {}
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    status = 0
    if options.workloads or not options.report:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: nothing is left behind
        screen = show.screen()
        try:
            status = measure(options, peers, missing, had, path, screen)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except (LoadError, UnboundError) as problem:
            screen.warn(str(problem))
            status = 1
        finally:
            screen.close()
    if options.report and status != INTERRUPTED:
        for file in report.write(DOCS / "performance.md", had):
            print(file.relative_to(contestants.ROOT))
    return status


def measure(
    options: argparse.Namespace,
    peers: Sequence[Contestant],
    missing: dict[str, str],
    had: Results,
    path: Path | None,
    screen: show.Screen,
) -> int:
    """Run the workloads into `had`, and into the file after each."""
    server_cpu, load_cpu = cpu.cores()
    if server_cpu == load_cpu:
        screen.warn("one processor only: load and server disturb each other")
    lacking = "--plain" if options.plain else places.why_no_nodes()
    if lacking and not options.plain:
        screen.warn(f"no namespaces ({lacking}): nobody sets up a node")
    counts = 0
    with tempfile.TemporaryDirectory(prefix="perf-") as name, cpu.pinned(load_cpu):
        folder = Path(name)
        generator, echo = compile_native(folder)
        everybody = [*map(contestants.ours, options.lanes), contestants.floor(echo), *peers]
        versions = {one.name: contestants.version(one) for one in everybody}
        load = Load(generator, folder)
        estimate = planned(options, everybody)
        progress = show.TimeLeft(screen, estimate)
        for workload in options.workloads or WORKLOADS:
            nodes = not lacking and not WORKLOADS[workload].bare
            where = WITH_NODES if nodes else WITHOUT_NODES if lacking else BARE
            facts = {**machine.facts(), "where": where}
            block = Block(dt.date.today().isoformat(), command(options, workload), facts)
            block.missing = dict(missing)
            estimate.begin(workload)
            bench = Bench(
                everybody, load, progress, options.rounds, options.scale, server_cpu, load_cpu, block, workload,
                nodes=nodes,
            )  # fmt: skip
            WORKLOADS[workload].run(bench)
            block.versions = {name: said for name, said in versions.items() if name in block.servers()}
            had[workload] = block
            if path:
                results.save(path, had)
            show_block(screen, workload, block)
            counts += any(row.values for row in block.rows if row.server.startswith(contestants.OURS))
    for target, measured, word in verdicts(had) if options.scale >= 1 else ():
        if measured is not None and target.workload in (options.workloads or WORKLOADS):
            print(f"{word:>6}: {target.text} ({measured:.2f})")
    return int(counts < len(options.workloads or WORKLOADS))


def planned(options: argparse.Namespace, everybody: Sequence[Contestant]) -> Estimate:
    """How long the workloads take, about."""
    deciding = sum(one.name in DECIDING for one in everybody)
    counts = deciding, len(everybody) - deciding, options.rounds
    return Estimate(
        {name: WORKLOADS[name].planned_s(*counts) * options.scale for name in options.workloads or WORKLOADS}
    )


def show_block(screen: show.Screen, workload: str, block: Block) -> None:
    """Print one finished workload."""
    about = WORKLOADS[workload]
    screen.table(about.title, *show.lay_out(block, about.metrics))
    for row in block.rows:
        for reason in dict.fromkeys(row.rejected):
            print(f"does not count: {row.server}, {row.case}: {reason}")
    for name, reason in block.missing.items():
        print(f"left out: {name}: {reason}")


def command(options: argparse.Namespace, workload: str) -> str:
    """How one would measure this again; no path of this machine is in it."""
    words = ["python -m perf", workload, f"--rounds {options.rounds} --scale {options.scale:g}"]
    if options.peers != list(contestants.PEERS):
        words.append(f"--peers {','.join(options.peers) or chr(34) * 2}")
    if options.lanes != list(contestants.LANES):
        words.append(f"--lanes {','.join(options.lanes)}")
    if options.plain:
        words.append("--plain")
    words += [f"--{name} PATH" for name in ("node-cache", "coredns") if getattr(options, name.replace("-", "_"))]
    return " ".join(words)


def say_what_there_is(peers: Sequence[Contestant], missing: dict[str, str]) -> int:
    """For --list."""
    for name, workload in WORKLOADS.items():
        print(f"{name:<16} {workload.title}: {workload.about}")
    print(f"\nbeside us: {', '.join(['floor', *(peer.name for peer in peers)])}")
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
