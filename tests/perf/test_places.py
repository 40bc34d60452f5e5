"""A server's rules are its own, bring the load to it, and go with it; nobody else sees any of them."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import contestants, places, servers, show
from perf.bench import NOT_BROUGHT, Bench
from perf.contestants import Contestant
from perf.load import Load, Outcome, compile_native
from perf.places import Place
from perf.questions import Ask
from perf.results import Block
from perf.servers import Server

needs_nodes = pytest.mark.skipif(
    os.getuid() != 0 or bool(places.why_no_nodes()), reason="no namespaces can be made here: needs root"
)
OURS = contestants.ours("python")


def said(place: Place, *command: str) -> str:
    program = contestants.find(command[0])
    assert program is not None
    with place.inside():
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp("native")
    return Load(compile_native(folder)[0], folder)


@pytest.fixture(scope="module")
def bench(load: Load) -> Bench:
    peer = contestants.peer("unbound", contestants.find("unbound") or "unbound")
    cpus = min(os.sched_getaffinity(0))
    return Bench([OURS, peer], load, show.Plain(), 1, 0.01, cpus, cpus, Block(), nodes=True)


@pytest.fixture(scope="module")
def started(bench: Bench) -> Iterator[dict[str, Server]]:
    with bench.field(1000) as running:
        yield {server.name: server for server in running}


@needs_nodes
def test_questions_come_to_us_past_connection_tracking_by_our_rules(
    bench: Bench, started: dict[str, Server], load: Load
) -> None:
    ours = started[OURS.name]
    asked = load.prepare(Ask(f"brought{number}.long.perf.example") for number in range(200))
    for tcp in (False, True):
        assert not bench.own(ours, asked, tcp=tcp).problem
        assert not bench.dnsperf(ours, asked, tcp=tcp).problem
    assert ours.brought()
    tracked = said(ours.plan.place, "conntrack", "-L")
    assert f"dst={ours.upstream.host}" in tracked, "connections are tracked there, as on a node"
    assert f"src={places.FIRST_POD} " not in tracked


@needs_nodes
def test_a_peer_has_the_same_address_and_nothing_of_our_rules(started: dict[str, Server]) -> None:
    ours, peer = started[OURS.name].plan.place, started["unbound"].plan.place
    assert (ours.host, ours.port) == (peer.host, peer.port) == ("169.254.20.10", 53)
    assert "node_resolver_" in said(ours, "nft", "list", "tables")
    assert said(peer, "nft", "list", "tables").split("\n")[:2] == ["table ip kube-proxy", "table inet perf"]
    assert "node_resolver_" not in said(places.plain(), "nft", "list", "tables")


@needs_nodes
def test_a_peers_node_tracks_connections_but_not_the_peers(
    bench: Bench, started: dict[str, Server], load: Load
) -> None:
    peer = started["unbound"]
    asked = load.prepare(Ask(f"untracked{number}.long.perf.example") for number in range(200))
    for tcp in (False, True):
        assert not bench.own(peer, asked, tcp=tcp).problem
    tracked = said(peer.plan.place, "conntrack", "-L")
    assert f"dst={peer.upstream.host}" in tracked
    assert f"src={places.FIRST_POD} " not in tracked
    assert f"dst={peer.plan.host} " not in tracked


@needs_nodes
def test_a_run_without_rules_does_not_count(bench: Bench, started: dict[str, Server]) -> None:
    ours = started[OURS.name]
    unheard = Contestant(OURS.name, OURS.command, scraped=True, rules='resolver_interception{family="1"} 2')
    server = Server(unheard, ours.plan, ours.upstream, ours.pid, 0.0)
    bench.measure("x", server, lambda: Outcome(1, 1, 0, 0, {"NOERROR": 1}, 1.0))
    row = bench.block.row("x", OURS.name)
    assert (row.rejected, row.values) == ([NOT_BROUGHT], {})


@needs_nodes
def test_a_server_that_sets_no_rules_is_left_out(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ours understands the flags of node-cache, but its rules are not the ones that are looked for.
    monkeypatch.setattr(servers, "SET_UP_S", 0.2)
    binary = tmp_path / "node-cache"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m resolver "$@"\n')
    binary.chmod(0o755)
    with bench.one(contestants.coredns_like("node-cache", str(binary)), 1000) as server:
        assert server is None
    assert bench.block.missing["node-cache"].startswith("node-cache sets no rules: ")


@needs_nodes
def test_only_the_thread_inside_is_there_and_comes_back() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with places.node(address=True, rules=False) as place:
        with place.inside():
            assert os.readlink("/proc/thread-self/ns/net") != before
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((place.host, place.port))
            with pytest.raises(ZeroDivisionError), place.inside():
                raise ZeroDivisionError
        assert os.readlink("/proc/thread-self/ns/net") == before
    assert shutil.which("ip") is None or place.host not in said(places.plain(), "ip", "addr")


def test_without_nodes_servers_have_loopback_addresses_and_nobody_sets_rules(load: Load) -> None:
    cpus = min(os.sched_getaffinity(0))
    bench = Bench([OURS], load, show.Plain(), 1, 0.01, cpus, cpus, Block())
    with bench.field(1000) as (ours,):
        assert ours.plan.host.startswith("127.")
        assert "-localip" not in Path(f"/proc/{ours.pid}/cmdline").read_text().split("\0")
        assert ours.brought()
        asked = load.prepare([Ask("plain.long.perf.example")])
        assert not bench.own(ours, asked).problem


def test_who_decides_no_target_has_one_round(load: Load) -> None:
    everybody = [OURS, contestants.floor(Path("echo")), *(contestants.peer(n, n) for n in ("unbound", "kresd"))]
    bench = Bench(everybody, load, show.Plain(), 2, 1.0, 0, 0, Block())
    turns = [(number, one.name) for number, one in bench.turns(everybody)]
    assert turns == [
        *((0, name) for name in ("ours, python", "floor", "unbound", "kresd")),
        *((1, name) for name in ("floor", "unbound", "ours, python")),
    ]
