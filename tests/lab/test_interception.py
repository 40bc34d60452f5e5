"""Pods are answered by us while we live, without a trace in the connection table; what others break is put back."""

import os
import signal
from functools import partial

import pytest

from tests.lab.addresses import CLUSTER_4, CLUSTER_6, LOCAL_4, LOCAL_6, LOCAL_IPS
from tests.lab.asking import ask_author
from tests.lab.clients import Lookups, Pod
from tests.lab.lab import Lab
from tests.lab.leftovers import are_there, leave_behind
from tests.lab.spaces import wait_for

BACK_S = 6.0
"""The interval of this lab (1 s), the beats until we are asked again, and room for a busy machine."""


def seen(lab: Lab, clients: list[Pod]) -> tuple[set[str], int]:
    """Ask every local address over UDP and TCP from every client; who answered, and how many were tracked."""
    lab.forget_connections()
    authors = {
        ask_author(client.space, host, tcp=tcp, within_s=2.0)
        for client in clients
        for host in LOCAL_IPS
        for tcp in (False, True)
    }
    return authors, sum(len(lab.tracked(host)) for host in LOCAL_IPS)


def test_pods_and_the_host_are_answered_by_us_without_a_connection_entry(lab: Lab) -> None:
    pods = [lab.pod(CLUSTER_4), lab.pod(CLUSTER_6), lab.pod(LOCAL_4), lab.pod(LOCAL_6)]
    lab.deploy()
    assert seen(lab, [pods[0], pods[1], lab.host]) == ({"us"}, 0)
    lookups = [lab.lookups(pod, libc=libc, times=10) for pod in pods for libc in ("glibc", "musl")]
    for each in lookups:
        found = each.end(finish=True)
        assert [(one.error, one.by) for one in found] == [("", "us")] * 10
    for pod in pods:
        assert pod.dig("web.shop.svc.cluster.local", "A") == ["10.96.7.7"]
        assert pod.dig("+tcp", "web.shop.svc.cluster.local", "AAAA") == ["fd00:10:96::7"]
    assert sum(len(lab.tracked(host)) for host in LOCAL_IPS) == 0


def test_without_rules_the_same_questions_go_to_kube_dns_and_are_tracked(lab: Lab) -> None:
    """The address on the node is not enough: kube-proxy's translation comes first."""
    pod = lab.pod()
    lab.deploy("-setupiptables=false", intercepting=False)
    for host in (CLUSTER_4, CLUSTER_6):
        for client in (pod, lab.host):
            assert ask_author(client.space, host, within_s=2.0).startswith("kube-dns-")
        assert len(lab.tracked(host)) == 2


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_what_node_local_dns_left_behind_does_not_outlive_us(lab: Lab, variant: str) -> None:
    pod = lab.pod()
    leave_behind(lab.node, [LOCAL_4, CLUSTER_4], variant)
    assert ask_author(pod.space, CLUSTER_4) == "", "without us this node has no DNS"
    # iptables-legacy opens a raw socket. Who comes by `kubectl set image` has it, as node-local-dns had: its
    # manifest does not drop what containers have by default.
    raw = ("net_raw",) if variant == "legacy" else ()
    ours = lab.deploy(capabilities=("net_admin", "net_bind_service", *raw))
    wait_for("pods are answered by us", lambda: ask_author(pod.space, CLUSTER_4) == "us")
    wait_for("the leftovers are gone", lambda: not are_there(lab.node, variant))
    ours.paused = True
    lab.say("SIGKILL")
    ours.container.send(signal.SIGKILL)
    wait_for("pods are answered by kube-dns", lambda: ask_author(pod.space, CLUSTER_4).startswith("kube-dns-"))


def kill_the_rule_holder(lab: Lab) -> None:
    holders = [pid for pid, name in lab.kubelet.pods[0].container.children() if name == "nft"]
    assert len(holders) == 1
    os.kill(holders[0], signal.SIGKILL)


def delete_the_device(lab: Lab) -> None:
    lab.node.run("ip", "link", "del", "nodelocaldns")


def delete_an_address(lab: Lab) -> None:
    lab.node.run("ip", "addr", "del", f"{CLUSTER_4}/32", "dev", "nodelocaldns")


def delete_the_accept_rules(lab: Lab) -> None:
    """All of the filter table's, as a firewall that is loaded anew does; the strict node's rules come back."""
    for program, suffix in (("iptables", "/32"), ("ip6tables", "/128")):
        saved = lab.node.run(f"{program}-save", "-t", "filter")
        kept = [line for line in saved.splitlines() if not any(f" {ip}{suffix} " in line for ip in LOCAL_IPS)]
        assert len(kept) < len(saved.splitlines())
        lab.node.run(f"{program}-restore", given="\n".join(kept) + "\n")


BREAKS = {
    "rules": kill_the_rule_holder,
    "device": delete_the_device,
    "address": delete_an_address,
    "accept_rules": delete_the_accept_rules,
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_somebody_else_removes_is_put_back_and_counted(lab: Lab, broken: str) -> None:
    pod = lab.pod()
    lab.deploy()
    kind = "address" if broken == "device" else broken
    before = lab.scrape().value("resolver_node_put_back_total", kind=kind)
    lab.say(f"somebody removes: {broken}")
    BREAKS[broken](lab)

    def put_back() -> bool:
        return lab.scrape().value("resolver_node_put_back_total", kind=kind) > before

    took_s = wait_for("it is put back and counted", put_back, within_s=BACK_S)
    lab.say(f"put back and counted after {took_s:.2f} s")
    wait_for("pods are answered by us", lambda: ask_author(pod.space, CLUSTER_4) == "us", within_s=BACK_S)
    assert lab.scrape().value("resolver_interception", family="1") == 1
    assert seen(lab, [pod]) == ({"us"}, 0)


def test_a_foreign_flush_of_all_rules_changes_nothing(lab: Lab) -> None:
    pod = lab.pod()
    lab.deploy()
    load = lab.load(pod, rate=200)
    lab.say("nft flush ruleset")
    lab.node.run("nft", "flush", "ruleset")
    wait_for("a while", lambda: len(lab.tables()) >= 1)
    assert seen(lab, [pod, lab.host]) == ({"us"}, 0)
    load.end(early=True)
    assert load.sum_up().clean, load.sum_up()
    assert set(load.sum_up().by) == {"us"}


def has_had(lookups: Lookups, number: int) -> bool:
    return len(lookups.seen) >= number


def test_the_teardown_of_node_local_dns_while_we_serve_costs_no_answer(lab: Lab) -> None:
    """In a migration its last pod may end beside us: it deletes the device that has our addresses, too."""
    pod = lab.pod()
    leave_behind(lab.node, [LOCAL_4, CLUSTER_4], "nft")
    lab.deploy("-syncinterval", "1h")  # not that: the failed beat brings it back
    lookups = [lab.lookups(lab.pod(CLUSTER_4), libc=libc) for libc in ("glibc", "musl")]
    for each in lookups:
        wait_for("an application has had answers", partial(has_had, each, 6))
    lab.say("node-local-dns ends")
    lab.node.run("ip", "link", "del", "nodelocaldns")
    lab.node.run("iptables-nft", "-t", "raw", "-F")
    took_s = wait_for(
        "the device is back", lambda: "nodelocaldns" in lab.node.run("ip", "-o", "link"), within_s=10.0
    )
    # The address has failed: five good beats, and by chance half as many again.
    again_s = took_s + lab.until_intercepting(within_s=20.0)
    print(f"device back after {took_s:.2f} s, pods are answered by us after {again_s:.2f} s")
    for each in lookups:
        assert not [one for one in each.end() if one.error]
    assert ask_author(pod.space, CLUSTER_4, within_s=2.0) == "us"
