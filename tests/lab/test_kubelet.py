"""The lab's container and kubelet: what they hold our process to, and that they restart and roll as real ones."""

import signal
import subprocess
from dataclasses import replace
from functools import partial

import pytest

from tests.lab import cgroup
from tests.lab.asking import ask_author
from tests.lab.container import Spec
from tests.lab.kubelet import Pod
from tests.lab.lab import Lab
from tests.lab.spaces import wait_for

NO_SET_UP = ("-setupinterface=false", "-setupiptables=false")
COREFILE = """\
.:53 {{
    bind 127.0.0.1
    forward . {outside}
}}
"""


def plain(lab: Lab) -> Spec:
    """A resolver on the node that does nothing to the node."""
    return replace(lab.spec(corefile=COREFILE), flags=("-probe-socket", "/run/pod/probe"))


def test_a_container_has_two_capabilities_and_writes_nowhere_but_in_its_folders(lab: Lab) -> None:
    pod = lab.kubelet.start(replace(plain(lab), ballast_mib=60))
    lab.kubelet.until_ready(pod)
    container = pod.container
    assert ask_author(lab.node, "127.0.0.1", within_s=2.0) == "us"
    assert container.rss_mib() > 80
    assert container.status("NSpid").split()[-1] == "1"
    # CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12.
    assert {container.status(name) for name in ("CapPrm", "CapEff", "CapBnd")} == {f"{1 << 10 | 1 << 12:016x}"}
    assert (container.status("NoNewPrivs"), container.status("Uid").split()[0]) == ("1", "0")
    words = ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", "sh", "-c"]
    refused = 'for at in / /etc /tmp /run /usr /sys/fs/cgroup; do ! touch "$at/x" 2>/dev/null || echo "$at"; done'
    allowed = "touch /run/pod/x /run/node-resolver/x && : >>/run/xtables.lock && echo written"
    for script, expected in ((refused, ""), (allowed, "written\n")):
        done = subprocess.run([*words, script], capture_output=True, text=True, timeout=10, check=False)
        assert done.stdout == expected, done.stderr


def restarted(pod: Pod, before: int) -> bool:
    return pod.restarts > before


def test_what_exits_is_restarted_a_little_later_each_time(lab: Lab) -> None:
    pod = lab.kubelet.start(plain(lab))
    for _ in range(2):
        lab.kubelet.until_ready(pod)
        before = pod.restarts
        pod.container.send(signal.SIGKILL)
        wait_for("it is started again", partial(restarted, pod, before))
    lab.kubelet.until_ready(pod)
    assert pod.exits == [-signal.SIGKILL] * 2
    assert lab.kubelet.terminate(pod) == 0
    assert pod.restarts == 2


def test_an_update_ends_the_old_pod_only_when_the_new_one_is_ready(lab: Lab) -> None:
    shared = "127.0.0.1"  # of all addresses; with -localip two generations share the port
    spec = replace(plain(lab), flags=(*plain(lab).flags, "-localip", shared, *NO_SET_UP))
    old = lab.kubelet.start(spec)
    lab.kubelet.until_ready(old)
    new = lab.kubelet.update(old, spec)
    assert lab.kubelet.pods == [new]
    assert old.exits == [0]
    told = [text for _, text in lab.stories]
    order = [
        f"resolver-2 started, pid {new.container.pid}",
        "resolver-2 is Ready",
        "SIGTERM to resolver-1",
        "resolver-1 ended with 0",
    ]
    assert sorted(order, key=told.index) == order
    assert ask_author(lab.node, "127.0.0.1", within_s=2.0) == "us"


@pytest.mark.skipif(cgroup.parent() is None, reason="no memory cgroup can be made here")
def test_a_container_over_its_memory_limit_is_killed_and_started_again(lab: Lab) -> None:
    pod = lab.kubelet.start(replace(plain(lab), memory_mib=80))
    lab.kubelet.until_ready(pod)
    pod.container.send(signal.SIGTTIN)
    wait_for("it is started again", lambda: pod.restarts == 1)
    assert pod.exits == [-signal.SIGKILL]
    lab.kubelet.until_ready(pod)


def test_a_memory_fault_is_a_real_one(lab: Lab) -> None:
    pod = lab.kubelet.start(plain(lab))
    lab.kubelet.until_ready(pod)
    pod.container.send(signal.SIGUSR2)
    wait_for("it is started again", lambda: pod.restarts == 1)
    assert pod.exits == [-signal.SIGSEGV]
