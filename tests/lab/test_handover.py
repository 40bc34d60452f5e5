"""Updates, ends and restarts under load: nothing is lost, and what was known stays known.

A kubelet rolls updates (`maxSurge: 1`) while pods ask at a steady rate of 10,000 questions a second, which two
processors that also run the lab bear.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import dns.rdatatype
import pytest

from tests.lab.addresses import CLUSTER_4, CLUSTER_6, LOCAL_4
from tests.lab.asking import ask
from tests.lab.clients import Load
from tests.lab.container import Spec
from tests.lab.kubelet import Pod as OurPod
from tests.lab.lab import Lab
from tests.lab.spaces import pause, wait_for
from tests.lab.turns import Turn, slowness

RATE = 10_000
TCP_RATE = 200
ROLLS = 10
NAMES = [f"n{number}.lab" for number in range(2000)]
TURN_MAX_MS = 5.0
"""Of CPU: that others run meanwhile makes no turn longer."""

GROWTH_MS = 5.0
"""What cannot be sliced: the store's table is copied when it grows past 43,690 entries, 4 ms at best."""

TRIES = 3
"""A busy machine only adds: the bound holds if one of so many runs keeps it."""

PAGES = [("127.0.0.1", 9253, "/metrics"), ("127.0.0.1", 9353, "/metrics"), (LOCAL_4, 8080, "/health")]
SHARE = ("-handover-dir", "/run/node-resolver")
LONG = """\
.:53 {{
    errors
    cache 3600 {{
        success 65536
    }}
    bind {bind}
    forward . {outside} {{
        prefer_udp
    }}
    prometheus :9253
    health {local}:8080 {{
        lameduck 1s
    }}
}}
"""
"""Nothing expires during a test: what is asked upstream was not known."""


def begin(lab: Lab, *more: str, rate: int = RATE) -> tuple[OurPod, list[Load]]:
    """Deploy, fill the cache, and begin a load over UDP, TCP and IPv6 from pods."""
    spec = lab.spec(*SHARE, *more, corefile=LONG)
    ours = lab.kubelet.start(spec)
    lab.kubelet.until_ready(ours)
    lab.until_intercepting()
    pod, other = lab.pod(), lab.pod(CLUSTER_6)
    lab.load(pod, rate=2000, seconds=1.0, names=NAMES).end()
    loads = [
        lab.load(pod, rate=rate, seconds=100.0, names=NAMES),
        lab.load(pod, protocol="tcp", rate=TCP_RATE, seconds=100.0, names=NAMES, sockets=8),
        lab.load(other, CLUSTER_6, rate=TCP_RATE, seconds=100.0, names=NAMES),
        # On the node itself a socket's own address is the one that it asks, and goes with us: one question each.
        lab.load(lab.host, rate=TCP_RATE, seconds=100.0, names=NAMES, turn=1),
    ]
    pause(0.3)
    return ours, loads


def nothing_lost(lab: Lab, loads: Sequence[Load], *, by: set[str]) -> None:
    for load in loads:
        load.end(early=True)
        lab.say(f"{load.who}: {load.sum_up()}")
    for load in loads:
        assert load.sum_up().clean, load.sum_up()
        assert set(load.sum_up().by) <= by


def nothing_left_over(lab: Lab, ours: OurPod) -> None:
    """One process of ours with one rule holder, one table, no socket of anybody else."""
    wait_for("one table is left", lambda: len(lab.tables()) == 1, within_s=5.0)
    below = ours.container.children()
    holders = [name for _, name in below if name == "nft"]
    assert holders == ["nft"], below
    inside = {ours.container.pid, *(pid for pid, _ in below)}
    listening = lab.node.run("ss", "-Hlntup")
    strangers = [line for line in listening.splitlines() if not any(f"pid={pid}," in line for pid in inside)]
    assert not strangers
    # The name of a socket that nobody listens at any more is removed by the next process that starts.
    listed = lab.node.run("ss", "-Hlxp").splitlines()
    assert len([line for line in listed if ".handover" in line]) == 1, listed


def test_ten_updates_in_a_row_lose_nothing_and_forget_nothing(lab: Lab) -> None:
    ours, loads = begin(lab)
    pause(1.0)
    updates: list[tuple[float, int]] = []
    with watching_pages(lab) as pages:
        for _ in range(ROLLS):
            before = lab.outside.asked()
            ours = lab.kubelet.update(ours, ours.container.spec)
            alone_s = time.monotonic()
            pause(1.0)
            updates.append((alone_s, lab.outside.asked() - before))
    nothing_lost(lab, loads, by={"us"})
    misses = [missed for _, missed in updates]
    print(f"{ROLLS} updates: {misses} questions went upstream, {len(pages)} pages were read")
    print(*(f"{load.who}: {load.sum_up()}" for load in loads), sep="\n")
    # The old process knew all names. A cold one asks for each of NAMES, a fifth of a second's questions.
    for alone_s, missed in updates:
        assert missed <= 0.05 * loads[0].sum_up(alone_s, alone_s + 1.0).asked, misses
    assert len(pages) > ROLLS
    assert not [page for page in pages if page[1] != 200]
    nothing_left_over(lab, ours)


@contextlib.contextmanager
def watching_pages(lab: Lab) -> Iterator[list[tuple[str, int]]]:
    """Read the pages that generations share the ports of, again and again; yield what came of each."""
    seen: list[tuple[str, int]] = []
    enough = threading.Event()

    def watch() -> None:
        while not enough.is_set():
            for host, port, path in PAGES:
                # Who is just being connected while the old process closes its port is reset, and asks again.
                status = lab.get(host, port, path)[0] or lab.get(host, port, path)[0]
                seen.append((f"{port}{path}", status))
                enough.wait(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        enough.set()
        watcher.join()


def killed_at(lab: Lab, spec: Spec, step: int) -> None:
    """Start a successor that is killed at this step of the hand-over."""
    successor = lab.kubelet.start(replace(spec, dies_at=step))
    successor.paused = True
    wait_for(f"it dies at step {step}", lambda: successor.exits, within_s=15.0)
    assert f"killed at step {step} " in successor.container.output()
    successor.remove()
    lab.kubelet.pods.remove(successor)


def count_steps(lab: Lab, spec: Spec) -> int:
    """Return how many steps a hand-over has until the successor is Ready; it is killed then, too."""
    successor = lab.kubelet.start(replace(spec, dies_at=-1))
    lab.kubelet.until_ready(successor)
    steps = successor.container.output().count(" of the hand-over: ")
    successor.remove()
    lab.kubelet.pods.remove(successor)
    return steps


def test_a_successor_that_is_killed_at_any_step_of_the_hand_over_costs_nothing(lab: Lab) -> None:
    ours, loads = begin(lab)
    spec = ours.container.spec
    steps = count_steps(lab, spec)
    # The first ones give sockets, the last ones say who serves; in between are pieces of the cache.
    chosen = [*range(1, 9), *range(12, steps - 4, max(1, steps // 4)), *range(steps - 3, steps + 1)]
    print(f"a hand-over has {steps} steps; killed at {chosen}")
    for step in chosen:
        killed_at(lab, spec, step)
    assert ours.restarts == 0
    nothing_lost(lab, loads, by={"us"})
    nothing_left_over(lab, ours)


def test_an_end_without_a_successor_loses_nothing(lab: Lab) -> None:
    """Pods go to kube-dns first; then what has arrived is answered, over connections that are open as well."""
    ours, loads = begin(lab, rate=1000)
    assert lab.kubelet.terminate(ours) == 0
    pause(0.5)
    nothing_lost(lab, loads, by={"us", "kube-dns-1", "kube-dns-2"})
    assert lab.tables() == []
    assert "nodelocaldns" not in lab.node.run("ip", "addr")


def written_since(path: Path, since_ns: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > since_ns


def test_after_kill_and_restart_the_cache_is_warm_and_its_ages_are_right(lab: Lab) -> None:
    ours = lab.kubelet.start(lab.spec(*SHARE, "-snapshot-interval", "1s", corefile=LONG))
    lab.kubelet.until_ready(ours)
    lab.until_intercepting()
    pod = lab.pod()
    lab.load(pod, rate=2000, seconds=1.0, names=NAMES).end()
    filled_s = lab.say("2,000 names are known")
    snapshot = lab.shared / "cache.snapshot"
    for _ in range(2):  # the first one may have begun before
        before_ns = time.time_ns()
        wait_for("a snapshot", partial(written_since, snapshot, before_ns), within_s=20.0)
    before = lab.outside.asked()
    lab.say("SIGKILL")
    ours.container.send(signal.SIGKILL)
    wait_for("it is started again", lambda: ours.restarts == 1)
    lab.until_intercepting(within_s=20.0)
    load = lab.load(pod, rate=2000, seconds=1.0, names=NAMES)
    load.end()
    assert load.sum_up().clean
    asked = lab.outside.asked() - before
    print(f"{asked} of {len(NAMES)} names were asked upstream after the restart")
    assert asked <= 0.05 * len(NAMES)
    answer = ask(pod.space, CLUSTER_4, "n7.lab.", within_s=2.0)
    (rrset,) = [each for each in answer.answer if each.rdtype == dns.rdatatype.A]
    age_s = lab.say("an answer") - filled_s
    assert lab.ttl_s - age_s - 3 <= rrset.ttl <= lab.ttl_s - int(age_s) + 1


def through_everything(lab: Lab, spec: Spec) -> tuple[Turn, float]:
    """Start, two updates, an end without a successor, with scrapes and snapshots; return the longest turn.

    And how much slower the machine was then than the one that the bound is meant for.
    """
    snapshot = lab.shared / "cache.snapshot"
    ours = lab.kubelet.start(spec)
    lab.kubelet.until_ready(ours)
    containers = [ours.container]
    for _ in range(2):
        ours = lab.kubelet.update(ours, spec)
        containers.append(ours.container)
        before_ns = time.time_ns()
        wait_for("a snapshot", partial(written_since, snapshot, before_ns), within_s=30.0)
        for _ in range(3):
            lab.scrape()
    slower = slowness()
    assert lab.kubelet.terminate(ours) == 0
    longest = [container.longest_turn() for container in containers]
    print(f"longest turns on a machine {slower:.2f} times slower:", *longest)
    return max(longest), slower


KNOWN = [pytest.param(2_000, TURN_MAX_MS, id="small"), pytest.param(50_000, TURN_MAX_MS + GROWTH_MS, id="large")]


@pytest.mark.parametrize(("known", "max_ms"), KNOWN)
def test_no_turn_of_the_loop_takes_over_five_milliseconds(lab: Lab, known: int, max_ms: float) -> None:
    spec = replace(lab.spec(*SHARE, "-snapshot-interval", "1s", corefile=LONG), measured=True)
    pod = lab.pod()
    ours = lab.kubelet.start(spec)
    lab.kubelet.until_ready(ours)
    lab.until_intercepting()
    lab.load(pod, rate=4000, seconds=known / 4000, names=["*.many.lab"]).end()
    assert lab.scrape().value("coredns_cache_entries") >= known
    assert lab.kubelet.terminate(ours) == 0
    load = lab.load(pod, rate=1000, seconds=100.0, names=NAMES)
    for _ in range(TRIES):
        longest, slower = through_everything(lab, spec)
        if longest.ms <= max_ms * slower:
            break
    load.end(early=True)
    assert longest.ms <= max_ms * slower, longest
