"""What the node set-up can say: the flags of node-local-dns (kubernetes/dns 1.26) and ours, with their bounds."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

Interception = Literal["notrack", "tracked"]

SELF_QUESTION_MARK = 0x35
"""SO_MARK of questions that this process puts to its own addresses. kube-proxy would send them on to the cluster's
DNS until we are armed, and we are armed only when one was answered: so the table brings packets with this mark to
us whether or not an address is alive. 53: the bits above its byte are Calico's, Cilium's and kube-proxy's."""


ALIVE_S = 2.4
"""How long pods are still sent to a process that has become silent. musl asks again after 2.5 s, and gives up at
5 s: its second question must meet the cluster's DNS, and 0.1 s is room for a first one that was on its way when we
fell silent. A beat comes once a second (`status.health.EVERY_S`): one may be lost and the next 0.4 s late, or one
1.4 s late if none is lost. Quicker beats would not fall together with what else is done once a second, and double
the wake-ups of an idle process; all that they would bear besides is a loop that stands still for longer than 0.4 s
just after a lost question, and then pods are better off elsewhere."""

UPSTREAMS = "upstreams"
"""Alone in `standing_nat`: the members are the upstreams that host names in the Corefile led to."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What this process does to the node it runs on. Addresses are canonical text, as `ipaddress` prints them.

    `notrack`  packets to our addresses skip conntrack, and with it the DNAT of kube-proxy (node-local-dns).
    `tracked`  they are tracked, and a DNAT to the very same address comes before that of kube-proxy: for nodes
               whose policy engine forbids NOTRACK (Calico).
    """

    local_ips: tuple[str, ...] = ()  # `-localip`, at most 16, families may be mixed
    dns_port: int = 53  # `-dns.port`
    health_port: int = 8080  # `-health-port`; only in rules
    interface_name: str = "nodelocaldns"  # `-interfacename`, at most 15 characters (IFNAMSIZ)
    setup_interface: bool = True  # `-setupinterface`
    setup_iptables: bool = True  # `-setupiptables`: the rules of this package, whatever program sets them
    skip_teardown: bool = False  # `-skipteardown`: leave device and ACCEPT rules behind
    sync_interval_s: float = 60.0  # `-syncinterval`, 1 s to 24 h: how often all of it is looked at
    interception: Interception = "notrack"
    standing_nat: tuple[str, ...] = ()  # kube-dns pods, `IP` or `IP:PORT`, for the standing nat table; or UPSTREAMS
    alive_s: float = ALIVE_S  # 1 to 60: a process that is silent for so long is asked no more
    command_s: float = 5.0  # one run of ip, nft or iptables (node-local-dns waits 5 s for the xtables lock)
    start_s: float = 5.0  # the lasting nft must have taken the rules by then
    connections_max: int = 32_768  # known TCP connections, per family: 0.5 MiB of the kernel's, 4 when full
    connection_s: int = 60  # one that we sent nothing on for so long is forgotten; our own idle time is 10 s

    def __post_init__(self) -> None:
        for text in self.local_ips:
            ip_address(text)  # what is no address must never become part of a rule
        if not 1.0 <= self.alive_s <= 60.0:
            raise ValueError("alive_s is from 1 to 60")

    @property
    def addresses4(self) -> tuple[str, ...]:
        """The IPv4 addresses among `local_ips`, in their order."""
        return tuple(text for text in self.local_ips if isinstance(ip_address(text), IPv4Address))

    @property
    def addresses6(self) -> tuple[str, ...]:
        """The IPv6 addresses among `local_ips`, in their order."""
        return tuple(text for text in self.local_ips if isinstance(ip_address(text), IPv6Address))

    @property
    def standing_addresses(self) -> tuple[str, ...]:
        """What the standing nat table is for: in each family the link-local addresses, which no Service stands in
        for; where there are none (pods rarely ask fe80::), all of that family."""
        found: list[str] = []
        for family in (self.addresses4, self.addresses6):
            found += [text for text in family if ip_address(text).is_link_local] or family
        return tuple(found)
