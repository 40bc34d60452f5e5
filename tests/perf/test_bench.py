"""Each workload runs, too small to measure anything; wrong servers are found out; nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import __main__ as command
from perf import contestants, load, results
from perf.places import FIRST_CLIENT, Place
from perf.questions import Ask
from perf.results import Results
from perf.workloads import WORKLOADS, whole
from tests.support.addresses import loopback

LIMIT_S = 120
PEERS = "unbound,dnsmasq"


def perf(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "perf", *arguments]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Results:
    path = tmp_path_factory.mktemp("perf") / "results.json"
    done = subprocess.run(
        perf("--rounds", "1", "--scale", "0.001", "--peers", PEERS, "--lanes", "python", "--json", str(path)),
        cwd=contestants.ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ours, python" in done.stdout
    assert "cached-udp: starting ours, python (less than a minute left)" in done.stderr
    return results.load(path)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_has_numbers_for_everybody(everything: Results, name: str) -> None:
    block = everything[name]
    rejected = {(row.server, row.case): row.rejected for row in block.rows if row.rejected}
    assert not rejected
    assert {"ours, python", "unbound", "dnsmasq"} <= set(block.servers())
    for row in block.rows:
        assert row.values[WORKLOADS[name].metrics[0]], (row.case, row.server)
        assert row.lost == 0
    assert block.versions["unbound"].startswith("Version ")
    assert block.missing["coredns"] == "no binary given (--coredns PATH)"


def test_cached_names_are_not_fetched_again_and_unseen_ones_are(everything: Results) -> None:
    for row in everything["cached-udp"].rows:
        assert row.values["asked_percent"][0] < 5, (row.case, row.server)
    for row in everything["unseen"].rows:
        assert row.values["asked_percent"][0] >= 99, row.server


def test_hits_are_counted_by_those_who_can(everything: Results) -> None:
    counted = {row.server: "hit_percent" in row.values for row in everything["day"].rows}
    assert counted == {"ours, python": True, "unbound": True, "dnsmasq": False}


def test_a_binary_that_is_given_takes_part(tmp_path: Path) -> None:
    # Ours understands the flags of node-cache, so it stands in for one; on a node, with a rule of its.
    rule = "iptables -t raw -A OUTPUT -p tcp --sport 8080 -j ACCEPT"
    binary = tmp_path / "node-cache"
    binary.write_text(
        "#!/bin/sh\nPATH=$PATH:/usr/sbin:/sbin\n"
        f'case "$*" in *setupiptables=true*) {rule} ;; esac\nexec {sys.executable} -m resolver "$@"\n'
    )
    binary.chmod(0o755)
    path = tmp_path / "results.json"
    arguments = ["start", "--rounds", "1", "--peers", "", "--lanes", "python", "--json", str(path)]
    status = command.main([*arguments, "--node-cache", str(binary), "--coredns", str(tmp_path / "none")])
    assert status == 0
    block = results.load(path)["start"]
    assert block.servers() == ["ours, python", "node-cache"]
    assert block.missing == {"coredns": "--coredns: no such program"}
    assert str(tmp_path) not in path.read_text()


def test_a_server_that_does_not_start_is_left_out_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = tmp_path / "coredns"
    binary.write_text("#!/bin/sh\necho plugin/broken >&2\nexit 1\n")
    binary.chmod(0o755)
    arguments = ["start", "--rounds", "1", "--peers", "", "--lanes", "python", "--coredns", str(binary)]
    assert command.main(arguments) == 0
    assert "left out: coredns: coredns does not answer: plugin/broken" in capsys.readouterr().out


def test_an_unknown_workload_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["cached-udpp"])
    assert "there is: cached-udp, cached-bare" in capsys.readouterr().err


def test_what_there_is_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--peers", PEERS]) == 0
    printed = capsys.readouterr().out
    assert "beside us: floor, unbound, dnsmasq" in printed
    assert all(name in printed for name in WORKLOADS)


def test_nobody_sets_up_a_node_when_none_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    arguments = ["start", "--plain", "--rounds", "1", "--peers", "", "--lanes", "python", "--json", str(path)]
    assert command.main(arguments) == 0
    block = results.load(path)["start"]
    assert block.machine["where"] == command.WITHOUT_NODES
    assert block.command.endswith("--lanes python --plain")


def test_others_than_those_of_targets_leave_off_before_a_million_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "GROWTH", (1_000, 5_000))
    monkeypatch.setattr(whole, "GROWTH_OTHERS", 50)
    path = tmp_path / "results.json"
    arguments = ["growth-names", "--rounds", "2", "--scale", "0.05", "--peers", PEERS, "--lanes", "python"]
    assert command.main([*arguments, "--json", str(path)]) == 0
    rounds = {(row.server, row.case): len(row.values["cpu_us"]) for row in results.load(path)["growth-names"].rows}
    assert rounds == {
        **{(name, f"{size} names"): 2 for name in ("ours, python", "floor", "unbound") for size in (50, 250)},
        ("dnsmasq", "50 names"): 1,
    }


@pytest.mark.parametrize("to", ["us", "all of the terminal"])
def test_ctrl_c_ends_everything_that_was_started(to: str) -> None:
    process = subprocess.Popen(
        perf("cached-udp", "--peers", PEERS, "--lanes", "python"),
        cwd=contestants.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "filling" in line:
                break
        (os.kill if to == "us" else os.killpg)(process.pid, signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == command.INTERRUPTED, "".join(said)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # its session is empty: all have ended
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> load.Load:
    folder = tmp_path_factory.mktemp("native")
    return load.Load(load.compile_native(folder)[0], folder)


def answer_with(kind: str, query: bytes) -> list[bytes]:
    """Answers to `query`, right or wrong as `kind` says."""
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\xc0\x00\x02\x01"
    right = query[:2] + b"\x81\x80" + query[4:6] + b"\x00\x01" + query[8:] + record
    return {
        "right": [right],
        "silent": [],
        "failing": [right[:3] + b"\x82" + right[4:]],
        "empty": [query[:2] + b"\x81\x80" + query[4:]],
        "other name": [right.replace(b"known", b"other")],
        "other address": [right[:-1] + b"\x02"],
        "not an answer": [query],
        "twice": [right, right],
        "expired": [right.replace(b"\x00\x1e\x00\x04", b"\x00\x00\x00\x04")],
    }[kind]


@pytest.fixture
def scripted(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    kind, host = str(request.param), loopback()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))

        def serve() -> None:
            while True:
                query, client = sock.recvfrom(4096)
                if query == b"end":
                    return
                for answer in answer_with(kind, query):
                    sock.sendto(answer, client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"end", sock.getsockname())
        thread.join()


#   kind, answered, lost, wrong of 20
JUDGED = [
    ("right", 20, 0, 0),
    ("twice", 20, 0, 0),
    ("expired", 20, 0, 0),
    ("silent", 0, 20, 0),
    ("failing", 20, 0, 20),
    ("empty", 20, 0, 20),
    ("other name", 20, 0, 20),
    ("other address", 20, 0, 20),
    ("not an answer", 20, 0, 20),
]


@pytest.mark.parametrize(
    ("scripted", "kind", "answered", "lost", "wrong"),
    [(kind, kind, *counts) for kind, *counts in JUDGED],
    indirect=["scripted"],
    ids=[kind for kind, *_ in JUDGED],
)
@pytest.mark.parametrize("rate", [0, 2000], ids=["closed", "open"])
def test_the_load_generator_looks_into_answers(
    scripted: tuple[str, int], generator: load.Load, rate: int, kind: str, answered: int, lost: int, wrong: int
) -> None:
    asked = generator.prepare(Ask(f"known{number}.example") for number in range(20))
    host, port = scripted
    outcome = generator.own(Place(host, port, 0, FIRST_CLIENT), asked, rate=rate, sockets=3, limit_s=1)
    assert (outcome.sent, outcome.answered, outcome.lost, outcome.wrong) == (20, answered, lost, wrong)
    assert outcome.expired == (20 if kind == "expired" else 0)
    if answered:
        assert 0 < outcome.latency_us["p50"] <= outcome.latency_us["p99.9"] <= outcome.latency_us["max"]
