"""The lab itself: a node without us works as a Kubernetes node does, and it is gone afterwards."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.addresses import CLUSTER_4, CLUSTER_6, UPSTREAM_4
from tests.lab.asking import ask_author
from tests.lab.clients import Programs
from tests.lab.lab import Lab
from tests.lab.spaces import NETNS, WORK, remove_stale, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("host", [CLUSTER_4, CLUSTER_6])
@pytest.mark.parametrize("tcp", [False, True])
def test_without_us_pods_are_answered_by_kube_dns_through_the_connection_table(
    lab: Lab, host: str, tcp: bool
) -> None:
    pod = lab.pod(host)
    assert lab.tracked(host) == []
    for client in (pod, lab.host):
        authors = {ask_author(client.space, host, tcp=tcp, within_s=2.0) for _ in range(40)}
        assert authors == {"kube-dns-1", "kube-dns-2"}
    assert len(lab.tracked(host)) > 60  # 80, unless a port was drawn twice
    assert lab.outside.asked() == 1  # the lab's own look whether it answers


def test_applications_in_a_pod_use_both_stub_resolvers_and_dig(lab: Lab) -> None:
    pod = lab.pod()
    seen = [
        lookups
        for libc in ("glibc", "musl")
        for lookups in lab.lookups(pod, libc=libc, names=["who.lab", "web.shop"], times=20).end(finish=True)
    ]
    assert len(seen) == 40
    assert not [each for each in seen if each.error]
    assert {each.by for each in seen if each.name == "who.lab"} >= {"kube-dns-1", "kube-dns-2"}
    assert {frozenset(each.addresses) for each in seen if each.name == "web.shop"} == {
        frozenset({"fd00:10:96::7", "10.96.7.7"})
    }
    assert pod.dig("web.shop.svc.cluster.local") == ["10.96.7.7"]
    assert lab.host.dig(f"@{UPSTREAM_4}", "web.shop.svc.cluster.local") == ["10.96.7.7"]


def test_a_load_tells_the_fate_of_every_question(lab: Lab) -> None:
    pod = lab.pod()
    loads = [
        lab.load(pod, host, protocol, rate=500, seconds=1.0)
        for host in (CLUSTER_4, CLUSTER_6)
        for protocol in ("udp", "tcp")
    ]
    for load in loads:
        load.end()
        assert load.sum_up().clean, load.sum_up()
        assert load.sum_up().asked == 500
        assert len(load.sum_up().by) == 2
    during = lab.load(pod, rate=500, seconds=2.0, timeout_ms=300)
    began_s = time.monotonic()
    wait_for("half a second of load", lambda: time.monotonic() - began_s > 0.5)
    killed_s = lab.say("kube-dns-1 is killed")
    lab.replicas[1].stop()
    during.end()
    assert during.sum_up(until_s=killed_s - 0.1).clean
    after = during.sum_up(since_s=killed_s)
    assert after.failed > 100, after
    assert after.fates["refused"] > 0, "the port of a pod that has no process any more is unreachable"
    assert set(after.by) == {"kube-dns-2"}


def test_what_a_killed_run_leaves_behind_is_removed_by_the_next_one(programs: Programs) -> None:
    script = (
        "import sys, tests.lab.spaces as s\n"
        "space = s.Space('left')\n"
        "work = s.work_folder()\n"
        "folder = work.__enter__()\n"
        "import subprocess\n"
        "p = subprocess.Popen(space.command('sleep', '1000'))\n"
        "print(space.name, folder.name, p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as run:
        assert run.stdout is not None
        space, folder, pid = run.stdout.readline().split()
        assert not {space, folder} & set(remove_stale()), "it is still running"
        run.kill()
        run.wait(10)
    assert {space, folder} <= set(remove_stale())
    assert not (NETNS / space).exists()
    assert not (WORK / folder).exists()
    wait_for("its process is gone", lambda: not Path(f"/proc/{pid}").exists())
