"""The parts of the benchmark that need no server: questions, popularity, ratios, tables, the page."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf import contestants, cpu, day, load, machine, questions, report, results, servers, show, svg, targets
from perf.__main__ import parse
from perf.estimate import Estimate
from perf.loadgen import LoadError
from perf.questions import Ask
from perf.results import Block
from perf.workloads import WORKLOADS


def test_popularity_is_zipfs_and_the_same_every_time() -> None:
    picks = questions.zipf(1000, 50_000)
    assert picks == questions.zipf(1000, 50_000)
    assert set(picks) <= set(range(1000))
    first, tenth = picks.count(0), picks.count(9)
    assert 8 < first / tenth < 12  # weight 1 to weight 1/10


@given(st.sampled_from(["a.example", "B.c.example."]), st.sampled_from(["A", "AAAA"]), st.booleans())
def test_a_question_is_what_dnspython_would_ask(name: str, rdtype: str, edns: bool) -> None:
    message = dns.message.from_wire(Ask(name, rdtype, edns).wire())
    other = dns.message.make_query(name, rdtype, use_edns=0 if edns else -1, payload=4096, id=0)
    assert message.to_wire() == other.to_wire()


def test_every_other_question_has_edns() -> None:
    mixed = questions.mixed(["a", "b"], [0, 1, 1, 0])
    assert [(ask.name, ask.edns) for ask in mixed] == [("a", False), ("b", True), ("b", False), ("a", True)]
    assert len(questions.warming(["a", "b"])) == 12


def test_the_floor_is_not_asked_for_records() -> None:
    denied = Ask("x.example", rcode=questions.NXDOMAIN)
    assert questions.pack([denied])[2:4] == b"\x03\x00"
    assert questions.pack([denied], judged=False)[2:4] == b"\x00\x00"
    assert questions.pack([Ask("x.example")])[3] == len(questions.NEEDLES["A"])


def test_a_day_expects_what_its_zones_say() -> None:
    zones = {name: dns.zone.from_text(text, name) for name, text in day.zones().items()}
    asks = day.day(3000)
    assert asks[: len(day.day(1000))] == day.day(1000)
    for ask in asks:
        zone = zones["cluster.local." if ask.name.endswith("cluster.local") else "outside.example."]
        node = zone.get_node(f"{ask.name}.")
        assert (ask.rcode == questions.NOERROR) == (node is not None), ask
        assert ask.data == (node is not None and zone.get_rdataset(f"{ask.name}.", ask.rdtype) is not None), ask
    outside = sum(ask.name.endswith("outside.example") for ask in asks) / 2
    lookups = sum(ask.rcode == questions.NOERROR for ask in asks) / 2
    assert 0.02 < outside / lookups < 0.1


def test_a_lookup_goes_through_the_search_list_with_both_types() -> None:
    names = [(ask.name, ask.rdtype) for ask in day.lookup("service3.team3", "team5")]
    assert names == [
        ("service3.team3.team5.svc.cluster.local", "A"),
        ("service3.team3.team5.svc.cluster.local", "AAAA"),
        ("service3.team3.svc.cluster.local", "A"),
        ("service3.team3.svc.cluster.local", "AAAA"),
    ]
    assert len(list(day.lookup("api1.outside.example", "team5"))) == 8


def test_metrics_are_summed_over_their_labels() -> None:
    text = '# HELP a b\na_total{x="1 }"} 2\na_total{x="2"} 3.5\nb 1e3\n\n'
    assert servers.sums(text) == {"a_total": 5.5, "b": 1000.0}


def test_what_the_load_generator_prints_is_read() -> None:
    printed = (
        '{"sent": 3, "answered": 2, "lost": 1, "wrong": 0, "expired": 1, "rcodes": {"0": 1, "3": 1, "9": 0},'
        ' "seconds": 0.5, "latency_us": {"p50": 1.5}, "late_us": {"p99": 2}}'
    )
    outcome = load.read_own(printed)
    assert (outcome.rcodes, outcome.expired) == ({"NOERROR": 1, "NXDOMAIN": 1, "9": 0}, 1)
    assert "1 lost" in outcome.problem
    with pytest.raises(LoadError):
        load.read_own("Segmentation fault")


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (load.Outcome(10, 10, 0, 0, {"NOERROR": 10}, 1), True),
        (load.Outcome(10, 9, 1, 0, {"NOERROR": 9}, 1), False),
        (load.Outcome(10, 9, 0, 0, {"NOERROR": 9}, 1), False),
        (load.Outcome(10, 10, 0, 1, {"NOERROR": 10}, 1), False),
        (load.Outcome(0, 0, 0, 0, {}, 1), False),
    ],
)
def test_a_run_with_anything_wrong_has_a_problem(outcome: load.Outcome, counts: bool) -> None:
    assert (outcome.problem == "") == counts


def test_time_of_ended_children_is_counted() -> None:
    before_ns = cpu.tree_used_ns(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(4_000_000))"], check=True, timeout=30)
    assert cpu.tree_used_ns(os.getpid()) - before_ns > 30_000_000


def test_a_process_is_pinned_only_inside_the_block() -> None:
    before = os.sched_getaffinity(0)
    with cpu.pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def a_block() -> Block:
    block = Block(
        "2026-01-31", "python -m perf cached-udp", {"memory": "1 GiB"}, {"unbound": "1.17"}, {"kresd": "no"}
    )
    for value in (5.0, 6.0, 9.0):
        block.note("flat out", "ours, compiled", {"cpu_us": value}, sent=10, rcodes={"NOERROR": 10})
    block.note("flat out", "unbound", {"cpu_us": 5.0}, sent=10, rcodes={"NOERROR": 10})
    block.note("flat out", "floor", {"cpu_us": 4.0}, sent=10, rcodes={"NOERROR": 10})
    block.note("flat out", "dnsmasq", {"cpu_us": 1.0}, sent=10, lost=2, rcodes={"SERVFAIL": 8}, problem="2 lost")
    return block


def test_ratios_are_of_medians_and_rejected_runs_count_nowhere() -> None:
    block = a_block()
    assert block.ratio("flat out", "ours, compiled", "unbound", "cpu_us") == 1.2
    assert block.ratio("flat out", "ours, compiled", "dnsmasq", "cpu_us") is None
    assert block.ratio("flat out", "ours, compiled", "nobody", "cpu_us") is None
    head, rows = show.lay_out(block, ("cpu_us",))
    assert head == ["case", "server", "CPU µs per answer", "x unbound", "x floor", "rcodes", "lost", "rejected"]
    assert rows[0][1:] == ["ours, compiled", "6.0 [5.0-9.0]", "1.20", "1.50", "NOERROR 30", "0", ""]
    assert rows[-1][1:] == ["dnsmasq", "-", "-", "-", "SERVFAIL 8", "2", "1"]
    text = show.plain(head, rows).splitlines()
    assert text[1].index("6.0 [") < text[0].index("x unbound")


def test_results_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "there" / "results.json"
    assert results.load(path) == {}
    results.save(path, {"cached-udp": a_block()})
    assert results.load(path) == {"cached-udp": a_block()}
    path.write_text('{"a": {"rows": [{"no": 1}]}}')
    with pytest.raises(ValueError, match="has no results"):
        results.load(path)


def test_targets_are_judged_in_the_right_direction() -> None:
    said = {target.text: word for target, _, word in targets.verdicts({"cached-udp": a_block()})}
    assert said["ours, compiled, cached-udp, flat out: CPU µs per answer ≤ 1.15 × floor"] == "missed"
    assert list(said.values()).count("not measured") == len(said) - 2
    more = targets.Target("day", "x", "hit_percent", 1.0, "node-cache")
    assert (more.holds(1.01), more.holds(0.99)) == (True, False)
    grown = Block()
    grown.note("1,000 names", "ours, compiled", {"cpu_us": 5})
    grown.note("1,000,000 names", "ours, compiled", {"cpu_us": 6})
    (target,) = (target for target in targets.TARGETS if target.against_case)
    assert target.measured({"growth-names": grown}) == 1.2


def test_targets_name_workloads_metrics_and_cases_that_there_are() -> None:
    for target in targets.TARGETS:
        assert target.metric in WORKLOADS[target.workload].metrics
    for workload in WORKLOADS.values():
        assert set(workload.metrics) <= set(results.METRICS)


def test_what_was_measured_is_named_and_results_do_not_change_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        given = ["git", "-c", "user.name=n", "-c", "user.email=n@example", *words]
        return subprocess.run(given, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    for name in ("perf", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("before")
    git("add", ".")
    git("commit", "-q", "-m", "before")
    head = git("rev-parse", "--short=10", "HEAD")
    (tmp_path / "docs/file").write_text("results")
    assert machine.commit(tmp_path / "perf") == head
    (tmp_path / "perf/file").write_text("after")
    assert machine.commit(tmp_path / "perf") == f"{head}-dirty"
    assert machine.commit(tmp_path / "nowhere") == "unknown"


def test_make_bench_measures_everything_and_writes_the_page() -> None:
    said = subprocess.run(
        ["make", "-n", "bench", "BENCH=--rounds 5"],
        capture_output=True,
        text=True,
        check=True,
        cwd=contestants.ROOT,
    )
    (line,) = (line for line in said.stdout.splitlines() if " -m perf " in line)
    options = parse(shlex.split(line.partition(" -m perf ")[2]))
    assert options.workloads == list(WORKLOADS)
    assert (options.json, options.report, options.rounds) == (Path("docs/performance.json"), True, 5)


def test_all_workloads_in_three_rounds_fit_into_forty_minutes() -> None:
    planned_s = [workload.planned_s(deciding=5, others=3, rounds=3) for workload in WORKLOADS.values()]
    assert 30 * 60 < sum(planned_s) < 40 * 60
    assert WORKLOADS["idle"].planned_s(1, 1, 3) == 1 + 30 + 1 + 10


def test_time_left_follows_how_long_workloads_took() -> None:
    now_s = 100.0
    estimate = Estimate({"a": 60, "b": 120, "c": 300}, lambda: now_s)
    assert estimate.left_s() == 480
    estimate.begin("a")
    now_s += 20
    assert estimate.left_s() == 460
    now_s += 100  # it takes twice as long, and then this is known
    assert estimate.left_s() == 420
    estimate.begin("b")
    assert estimate.left_s() == 840
    now_s += 200
    assert estimate.text == "about 11 min left"
    estimate.begin("c")
    now_s += 10_000
    assert estimate.text == "less than a minute left"


def test_where_others_are_better_is_said() -> None:
    ((_, case, _, mine, peer, ratio),) = targets.worse({"cached-udp": a_block()}, {"cached-udp": ("cpu_us",)})
    assert (case, mine, peer, ratio) == ("flat out", "ours, compiled", "unbound", 1.2)


def measured(*rounds: float) -> svg.Measured:
    return svg.Measured.of(rounds)


def test_the_page_is_rewritten_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(
        "# Mine\n\n<!-- perf: cached-udp -->\nold\n<!-- /perf -->\nalso mine\n<!-- perf: worse --><!-- no mark\n"
        "<!-- perf: day -->\n<!-- /perf -->\n"
    )
    report.write(page, {"cached-udp": a_block()})
    once = page.read_text()
    assert "old" not in once
    assert "# Mine" in once
    assert "also mine" in once
    assert "- dnsmasq, flat out: 2 lost" in once
    assert report.NOT_YET in once
    assert (tmp_path / "img" / "perf-cached-udp.svg").exists()
    report.write(page, {"cached-udp": a_block()})
    assert page.read_text() == once


def test_the_page_has_a_place_for_everything() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "performance.md").read_text()
    marks = [found.group(2) for found in report.MARKED.finditer(page)]
    assert marks == ["machine", "targets", "worse", *WORKLOADS]


def test_who_is_better_stands_in_one_line() -> None:
    line = "| Cached, UDP | flat out: CPU µs per answer, ours, compiled | unbound 1.20 × |"
    assert line in report.behind({"cached-udp": a_block()})
    assert "In no case" in report.behind({"cached-udp": Block()})


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Nov 20 15:35:17 PowerDNS Recursor 4.8.8 (C) 2001-2022 PowerDNS.COM BV", "PowerDNS Recursor 4.8.8"),
        ("Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley", "Dnsmasq version 2.90"),
        ("\nVersion 1.17.1\n\nConfigure line: --x", "Version 1.17.1"),
        ("no digits", ""),
        (
            "2026/11/28 10:04:25 [INFO] Starting node-cache image: 1.26.7\n"
            "CoreDNS-1.13.2\nlinux/amd64, go1.27.3,\n",
            "node-cache 1.26.7, CoreDNS-1.13.2",
        ),
        (
            "2026/11/28 10:04:25 [INFO] Starting node-cache image: UNKNOWN\nCoreDNS-1.13.2\n",
            "node-cache of unknown version, CoreDNS-1.13.2",
        ),
        ("2026/11/28 10:04:25 [INFO] Starting node-cache image: UNKNOWN\n[FATAL] Error parsing flags", ""),
    ],
)
def test_versions_are_said_without_dates_and_rights(printed: str, said: str) -> None:
    assert contestants.version_line(printed) == said
