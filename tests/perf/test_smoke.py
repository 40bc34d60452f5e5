"""A benchmark that counts wrong answers, or divides by the wrong number, would steer the whole project wrong."""

import subprocess
import sys

import pytest

from perf import cpu, loadgen, smoke

PRINTED = """\
[Status] Testing complete (end of file)

Statistics:

  Queries sent:         1000
  Queries completed:    {completed} (99.00%)
  Queries lost:         {lost} (1.00%)

  Response codes:       {rcodes}
  Average packet size:  request 35, response 51
  Run time (s):         0.500000
  Queries per second:   2000.0
"""

#   completed, lost, rcodes, does it count
RUNS = [
    (1000, 0, "NOERROR 1000 (100.00%)", True),
    (990, 10, "NOERROR 990 (100.00%)", False),
    (1000, 0, "NOERROR 999 (99.90%), SERVFAIL 1 (0.10%)", False),
    (1000, 0, "NXDOMAIN 1000 (100.00%)", False),
]


@pytest.mark.parametrize(("completed", "lost", "rcodes", "counts"), RUNS)
def test_a_run_with_anything_wrong_does_not_count(completed: int, lost: int, rcodes: str, counts: bool) -> None:
    result = loadgen.parse(PRINTED.format(completed=completed, lost=lost, rcodes=rcodes))
    assert (result.sent, result.completed, result.lost, result.seconds) == (1000, completed, lost, 0.5)
    assert (result.request_bytes, result.response_bytes) == (35, 51)
    assert result.clean == counts


def test_other_text_is_an_error() -> None:
    with pytest.raises(loadgen.LoadError):
        loadgen.parse("dnsperf: unable to open the file")


@pytest.mark.parametrize(("response_bytes", "counts"), [(51, True), (35, False), (83, False)])
def test_an_answer_of_another_size_does_not_count(
    monkeypatch: pytest.MonkeyPatch, response_bytes: int, counts: bool
) -> None:
    result = loadgen.Result(1000, 1000, 0, {"NOERROR": 1000}, 0.5, 35, response_bytes)
    used = iter([1_000_000, 9_000_000])
    monkeypatch.setattr(loadgen, "run", lambda *_args, **_more: result)
    monkeypatch.setattr(cpu, "used_ns", lambda _pid: next(used))
    contestant = smoke.Contestant("ours", "127.0.0.1", 53, 1)
    smoke.measure(contestant, smoke.KINDS[0], "r0", 0)
    assert contestant.us == ({"hit": [8.0]} if counts else {})
    assert bool(contestant.rejected) != counts


def test_the_table_shows_medians_ratio_and_what_was_rejected() -> None:
    ours = smoke.Contestant("ours", "", 0, 0, {"hit": [4.0, 6.0, 5.0]}, {"hit": [1e5]}, ["hit r3: 1 lost"])
    peer = smoke.Contestant("peer", "", 0, 0, {"hit": [10.0]}, {"hit": [5e4]})
    text = smoke.table([ours, peer], smoke.KINDS[:2])
    assert "5.0 [4.0-6.0]" in text
    assert "0.50" in text
    assert "100,000, 50,000" in text
    assert "does not count: ours hit r3: 1 lost" in text
    assert "none" in text


def test_missed_names_are_new_in_every_run_and_known_names_are_not() -> None:
    hit, stored, miss = smoke.KINDS
    assert list(hit.questions("a")) == list(hit.questions("b"))
    assert [line.lower() for line in stored.questions("a")] == [line.lower() for line in hit.questions("a")]
    assert not set(miss.questions("a")) & set(miss.questions("b"))


def test_time_used_is_counted_in_nanoseconds_and_grows() -> None:
    program = "import sys\nfor _ in sys.stdin: print(sum(range(300_000)), flush=True)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        used_ns = []
        for _ in range(2):
            child.stdin.write("again\n")
            child.stdin.flush()
            child.stdout.readline()
            used_ns.append(cpu.used_ns(child.pid))
        child.stdin.close()
    assert 100_000 < used_ns[1] - used_ns[0] < 60_000_000_000
