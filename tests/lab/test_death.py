"""However we die, or hang, pods are back at kube-dns at once; applications never see an error.

Each test has a load at 1,000 questions a second in one pod, and applications in two others. The kubelet is held
back until kube-dns was seen to answer. What is lost is what has just arrived: either the rules or our sockets are
gone before the kernel frees our memory, so that a big process loses no more than a small one.

A process that hangs does so just after a beat: its rules stay in for as long as they can. musl asks a second time
after 2.5 s, and gives up at 5 s; glibc, after 5 s, asks later. Both meet kube-dns.
"""

import signal
import time
from functools import partial

import pytest

from tests.lab import cgroup
from tests.lab.addresses import CLUSTER_4, CLUSTER_6
from tests.lab.asking import ask_author
from tests.lab.clients import Lookups, Pod, Sum
from tests.lab.kubelet import Pod as OurPod
from tests.lab.lab import Lab
from tests.lab.spaces import pause, wait_for

RATE = 1000
LOST_MAX = 10
TRIES = 3
"""A busy machine only adds to what is lost: the bound holds if one of so many deaths keeps it."""

RULES_GONE_S = 0.5
SWELLS_S = 1.5
"""To take memory up to a limit, and for the kernel to look for more in vain and to report."""

HANGS_S = 5.0
BIG_MIB, BALLAST_MIB = 100, 75
LIMIT_MIB = 160
"""Of a cgroup, for who has no ballast."""


def at_kube_dns(pod: Pod) -> bool:
    return ask_author(pod.space, CLUSTER_4).startswith("kube-dns-")


def has_had(lookups: Lookups, number: int) -> bool:
    return len(lookups.seen) >= number


def applications(lab: Lab) -> list[Lookups]:
    """Begin getaddrinfo in two pods, over IPv4 and IPv6, and return once both have had answers from us."""
    begun = [lab.lookups(lab.pod(host), libc=libc) for host, libc in ((CLUSTER_4, "glibc"), (CLUSTER_6, "musl"))]
    for each in begun:
        wait_for("an application has had answers", partial(has_had, each, 6))
        assert {one.by for one in each.seen} == {"us"}
    return begun


def without_error(lookups: Lookups) -> None:
    found = lookups.end()
    assert not [one for one in found if one.error]
    assert found[-1].by != "nobody"


def dead(ours: OurPod, times: int) -> bool:
    return len(ours.exits) >= times


def die(lab: Lab, ours: OurPod, pod: Pod, how: signal.Signals, status: int, within_s: float) -> Sum:
    """Hit our process under load, see the rules go and kube-dns answer; return what became of the questions.

    status, within_s  How it is to end, and how soon the rules are to be gone.
    """
    ours.paused = True
    load = lab.load(pod, rate=RATE)
    pause(0.5)
    deaths = len(ours.exits)
    rss_mib = ours.container.rss_mib()
    hit_s = lab.say(f"{how.name} to the process with {rss_mib:.0f} MiB")
    ours.container.send(how)
    gone_s = lab.until_no_table(within_s=10.0)
    wait_for("the kubelet sees it", partial(dead, ours, deaths + 1))
    pause(max(0.0, hit_s + within_s - time.monotonic()) + 0.5)
    load.end(early=True)
    total, after = load.sum_up(), load.sum_up(since_s=hit_s + within_s)
    figures = f"rules gone after {gone_s * 1e3:.0f} ms, {total.failed} lost of {total.asked}, {rss_mib:.0f} MiB"
    lab.say(figures)
    print(f"{how.name}: {figures}")
    assert ours.exits[-1] == status
    assert gone_s <= within_s
    assert load.sum_up(until_s=hit_s - 0.1).clean  # what has just arrived dies with us
    assert set(total.rcodes) == {0}
    assert total.fates["refused"] == 0
    assert after.clean
    assert set(after.by) <= {"kube-dns-1", "kube-dns-2"}
    ours.paused = False
    return total


DEATHS = {
    "killed": (signal.SIGKILL, -signal.SIGKILL, RULES_GONE_S),
    "memory fault": (signal.SIGUSR2, -signal.SIGSEGV, RULES_GONE_S),
    "out of memory": (signal.SIGTTIN, -signal.SIGKILL, RULES_GONE_S + SWELLS_S),
}
SIZES = [pytest.param(0, id="small"), pytest.param(BALLAST_MIB, id="big")]


@pytest.mark.parametrize("ballast_mib", SIZES)
@pytest.mark.parametrize("how", DEATHS)
def test_death_under_load_loses_no_more_than_ten_questions(lab: Lab, how: str, ballast_mib: int) -> None:
    limit_mib = 0
    if how == "out of memory":
        if cgroup.parent() is None:
            pytest.skip("no memory cgroup can be made here")
        limit_mib = LIMIT_MIB + ballast_mib
    ours = lab.deploy(ballast_mib=ballast_mib, memory_mib=limit_mib)
    assert not ballast_mib or ours.container.rss_mib() >= BIG_MIB
    pod = lab.pod()
    lookups = applications(lab)
    lost = []
    for _ in range(TRIES):
        lost.append(die(lab, ours, pod, *DEATHS[how]).failed)
        if lost[-1] <= LOST_MAX:
            break
        lab.until_intercepting(within_s=20.0)
    assert min(lost) <= LOST_MAX, lost
    for each in lookups:
        without_error(each)


def test_a_stopped_process_is_not_asked_any_more_and_comes_back(lab: Lab) -> None:
    ours = lab.deploy()
    pod = lab.pod()
    glibc, musl = applications(lab)
    lab.until_beat()
    lab.say("SIGSTOP")
    ours.container.send(signal.SIGSTOP)
    took_s = wait_for("pods are answered by kube-dns", lambda: at_kube_dns(pod), within_s=10.0)
    lab.say(f"kube-dns answers {took_s:.2f} s after SIGSTOP")
    print(f"SIGSTOP: kube-dns answers after {took_s:.2f} s")
    assert took_s <= HANGS_S
    wait_for("applications go on", lambda: glibc.seen[-1].by.startswith("kube-dns-"))
    wait_for("applications go on", lambda: musl.seen[-1].by.startswith("kube-dns-"))
    without_error(glibc)
    without_error(musl)
    lab.say("SIGCONT")
    ours.container.send(signal.SIGCONT)
    lab.until_intercepting(within_s=30.0)


def test_a_stuck_loop_is_ended_and_pods_go_to_kube_dns_meanwhile(lab: Lab) -> None:
    ours = lab.deploy()
    pod = lab.pod()
    ours.paused = True
    glibc, musl = applications(lab)
    lab.until_beat()
    lab.say("the loop is stuck")
    ours.container.send(signal.SIGWINCH)
    took_s = wait_for("pods are answered by kube-dns", lambda: at_kube_dns(pod), within_s=10.0)
    ended_s = took_s + wait_for("the kernel ends it", partial(dead, ours, 1), within_s=10.0)
    lab.say(f"kube-dns answered after {took_s:.2f} s, it ended after {ended_s:.2f} s")
    print(f"stuck: kube-dns answers after {took_s:.2f} s, ended after {ended_s:.2f} s")
    assert ours.exits == [signal.SIGALRM]
    assert took_s <= HANGS_S
    assert ended_s <= HANGS_S
    wait_for("applications go on", lambda: glibc.seen[-1].by.startswith("kube-dns-"))
    wait_for("applications go on", lambda: musl.seen[-1].by.startswith("kube-dns-"))
    without_error(glibc)
    without_error(musl)
    ours.paused = False
    lab.until_intercepting(within_s=30.0)
