"""The node's flags in a real process: modes, a reload, an end in order, and crash after crash."""

import re
import signal
import time
from functools import partial

from resolver.system.options import ALIVE_S
from tests.lab.addresses import CLUSTER_4, CLUSTER_6, LOCAL_4, LOCAL_IPS
from tests.lab.asking import ask_author
from tests.lab.lab import COREFILE, Lab
from tests.lab.spaces import pause, wait_for

SHARE = ("-handover-dir", "/run/node-resolver")
COMMENT = "node-resolver: allow DNS traffic"


def device(lab: Lab) -> str:
    devices = lab.node.run("ip", "-o", "link", "show").splitlines()
    return next((line for line in devices if " nodelocaldns:" in line), "")


def accept_rules(lab: Lab) -> int:
    return sum(lab.node.run(program, check=False).count(COMMENT) for program in ("iptables-save", "ip6tables-save"))


def at_kube_dns(lab: Lab, host: str = CLUSTER_4) -> bool:
    return lab.author(host).startswith("kube-dns-")


def said(lab: Lab, pattern: str) -> list[str]:
    return re.findall(pattern, lab.kubelet.pods[0].container.output())


def loaded(lab: Lab, times: int) -> bool:
    return len(said(lab, "plugin/reload: reloaded")) == times


def test_a_reload_touches_nothing_of_the_node(lab: Lab) -> None:
    pod = lab.pod()
    ours = lab.deploy()
    tables, load = lab.tables(), lab.load(pod, rate=500, seconds=60.0)
    path = ours.container.spec.corefile
    text = path.read_text()
    for times in range(1, 4):
        path.write_text(text.replace("cache 30", f"cache {30 + times}"))
        lab.say("SIGHUP")
        ours.container.send(signal.SIGHUP)
        wait_for("it is loaded", partial(loaded, lab, times))
    pause(ALIVE_S + 0.5)
    load.end(early=True)
    assert load.sum_up().clean, load.sum_up()
    assert set(load.sum_up().by) == {"us"}
    assert lab.tables() == tables
    assert len(said(lab, "interception on")) == 1
    assert not said(lab, "interception off")


def test_an_address_that_a_reload_gives_up_is_answered_by_kube_dns(lab: Lab) -> None:
    ours = lab.deploy()
    path = ours.container.spec.corefile
    path.write_text(path.read_text().replace(f" {CLUSTER_6}", ""))
    lab.say("SIGHUP")
    ours.container.send(signal.SIGHUP)
    wait_for("kube-dns answers there", lambda: at_kube_dns(lab, CLUSTER_6), within_s=6.0)
    assert lab.author(CLUSTER_4) == "us"
    assert said(lab, f"no block answers on {CLUSTER_6}, port 53")
    assert lab.scrape().value("resolver_interception", family="2") == 0
    assert lab.scrape().value("resolver_fail_open") == 0, "nobody asked for it"


def test_an_end_in_order_leaves_nothing_behind(lab: Lab) -> None:
    ours = lab.deploy()
    assert device(lab)
    assert accept_rules(lab) == 4 * len(LOCAL_IPS)
    ours.paused = True
    ours.container.send(signal.SIGTERM)
    assert ours.container.wait(10.0) == 0
    assert (lab.tables(), device(lab), accept_rules(lab)) == ([], "", 0)
    assert at_kube_dns(lab)


def test_skipteardown_leaves_what_brings_nobody_here(lab: Lab) -> None:
    ours = lab.deploy("-skipteardown")
    ours.paused = True
    ours.container.send(signal.SIGTERM)
    assert ours.container.wait(10.0) == 0
    assert lab.tables() == []
    assert device(lab)
    assert accept_rules(lab) == 4 * len(LOCAL_IPS)
    assert at_kube_dns(lab)
    ours.paused = False
    lab.until_intercepting()
    assert accept_rules(lab) == 4 * len(LOCAL_IPS), "none twice"


def test_tracked_brings_pods_here_with_connection_entries_and_lets_them_go_as_fast(lab: Lab) -> None:
    pod = lab.pod()
    ours = lab.deploy("-interception", "tracked")
    for host in (CLUSTER_4, CLUSTER_6, LOCAL_4):
        assert ask_author(pod.space, host, within_s=2.0) == "us"
    assert ask_author(pod.space, CLUSTER_4, tcp=True, within_s=2.0) == "us"
    assert lab.tracked(CLUSTER_4)
    ours.paused = True
    lab.say("SIGKILL")
    ours.container.send(signal.SIGKILL)
    wait_for("kube-dns answers", lambda: ask_author(pod.space, CLUSTER_4).startswith("kube-dns-"), within_s=2.0)


def test_without_rules_a_service_address_that_kube_dns_answers_makes_nobody_ill(lab: Lab) -> None:
    ours = lab.deploy("-setupiptables=false", intercepting=False)
    for server in lab.replicas.values():
        server.stop()
    lab.say("kube-dns is gone")
    began_s = time.monotonic()
    wait_for("more time than an answer lasts", lambda: time.monotonic() - began_s > 5.0, within_s=10.0)
    assert lab.get(LOCAL_4, 8080, "/health") == (200, "OK")
    assert ours.exits == []
    assert lab.author(LOCAL_4) == "us"


def test_standing_nat_answers_for_us_while_we_are_away(lab: Lab) -> None:
    pod = lab.pod(LOCAL_4)
    ours = lab.deploy("-standing-nat", "10.244.1.2,10.244.1.3")
    assert ask_author(pod.space, LOCAL_4, within_s=2.0) == "us"
    ours.paused = True
    lab.say("SIGKILL")
    ours.container.send(signal.SIGKILL)
    wait_for("kube-dns answers", lambda: ask_author(pod.space, LOCAL_4).startswith("kube-dns-"), within_s=2.0)
    assert ask_author(lab.node, LOCAL_4, within_s=2.0).startswith("kube-dns-")
    ours.paused = False
    lab.until_intercepting()
    assert ask_author(pod.space, LOCAL_4, within_s=2.0) == "us"


def test_after_crash_upon_crash_pods_come_later(lab: Lab) -> None:
    ours = lab.kubelet.start(lab.spec(*SHARE, corefile=COREFILE))
    lab.kubelet.until_ready(ours)
    lab.until_intercepting()
    lab.say("SIGKILL")
    ours.container.send(signal.SIGKILL)
    wait_for("it is started again", lambda: len(ours.exits) == 1 and said(lab, "crashed lately"), within_s=10.0)
    began_s = time.monotonic()
    assert said(lab, r"1 of us crashed lately: pods come after [567] good beats")
    wait_for("kube-dns answers meanwhile", lambda: at_kube_dns(lab), within_s=3.0)
    lab.until_intercepting(within_s=20.0)
    assert time.monotonic() - began_s >= 3.5, "five good beats take four seconds"
    assert lab.scrape().value("resolver_fail_open_total", reason="crashed") == 1
    ours.paused = True
    ours.container.send(signal.SIGTERM)
    assert ours.container.wait(10.0) == 0
    assert len([path for path in lab.shared.iterdir() if path.name.startswith("intercepting-")]) == 1
