"""Every packet of a node passes the table's chains, so what comes most is decided by their first rules."""

from resolver.system.notrack import Way, table
from resolver.system.options import NodeOptions
from tests.system.network import LOCAL4, LOCAL6


def rules(chain: str, *local_ips: str) -> list[str]:
    line = table(NodeOptions(local_ips), "x", Way(owner=True, short=True, sockets=True))
    start = f"add rule inet x {chain} "
    return [part.removeprefix(start) for part in line.split("; ") if part.startswith(start)]


def test_of_what_arrives_udp_is_decided_first_and_other_tcp_by_one_comparison() -> None:
    assert rules("prerouting", LOCAL4, LOCAL6)[:4] == [
        "udp dport != 53 accept",
        "meta l4proto udp ip daddr @alive4 socket transparent 0 notrack accept",
        "meta l4proto udp ip6 daddr @alive6 socket transparent 0 notrack accept",
        "tcp dport != 53 accept",
    ]


def test_of_what_leaves_our_answers_are_decided_first_then_questions_of_the_node_to_us() -> None:
    assert rules("output", LOCAL4)[:2] == [
        f"udp sport 53 ip saddr {{ {LOCAL4} }} notrack accept",
        "udp dport 53 ip daddr @alive4 notrack accept",
    ]


def test_a_packet_of_a_connection_looks_for_it_and_not_for_who_is_alive() -> None:
    known = "ip daddr . tcp dport . ip saddr"
    assert rules("prerouting", LOCAL4)[3:] == [
        "tcp dport 53 ip saddr . tcp sport . ip daddr @connections4 notrack accept",
        "tcp dport 53 tcp flags & (syn | ack) == syn ip daddr @alive4 socket transparent 0 notrack",
    ]
    assert rules("output", LOCAL4)[3:5] == [
        f"tcp sport 53 ip saddr {{ {LOCAL4} }} tcp flags & (fin | rst) != 0x0 notrack "
        f"update @connections4 {{ {known} timeout 5s }} accept",
        f"tcp sport 53 ip saddr {{ {LOCAL4} }} notrack update @connections4 {{ {known} }} accept",
    ]
