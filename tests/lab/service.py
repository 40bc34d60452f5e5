"""kube-proxy, as it is in iptables mode: a Service is a random choice of DNAT in PREROUTING and OUTPUT of nat.

The rules are kube-proxy's own, shortened: KUBE-SERVICES finds the Service, KUBE-SVC-* draws a replica by
`statistic`, KUBE-SEP-* translates; what the node itself asks is masqueraded. The filter table is a strict node's:
what belongs to no known connection does not come in, which is why node-local-dns and we put an ACCEPT in front.
"""

from collections.abc import Mapping, Sequence

from tests.lab.addresses import CLUSTER_4, CLUSTER_6, UPSTREAM_4, replica_4, replica_6
from tests.lab.spaces import Space


def proxy(node: Space, replicas: Sequence[int], *, variant: str = "nft") -> None:
    """Make kube-dns (both families) and kube-dns-upstream lead to these replicas, as kube-proxy syncs."""
    four = {CLUSTER_4: "DNS", UPSTREAM_4: "UP"}
    _restore(node, f"iptables-{variant}-restore", four, [replica_4(number) for number in replicas], "{}")
    _restore(node, f"ip6tables-{variant}-restore", {CLUSTER_6: "DNS"}, [replica_6(n) for n in replicas], "[{}]")


def strict_filter(node: Space, *, variant: str = "nft") -> None:
    """Let in only what the node has asked for, itself, and pings with what IPv6 lives on."""
    for program, icmp in ((f"iptables-{variant}-restore", "icmp"), (f"ip6tables-{variant}-restore", "ipv6-icmp")):
        rules = (
            "*filter",
            ":INPUT DROP [0:0]",
            "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-A INPUT -i lo -j ACCEPT",
            f"-A INPUT -p {icmp} -j ACCEPT",
            "COMMIT",
        )
        node.run(program, given="\n".join(rules) + "\n")


def _restore(node: Space, program: str, services: Mapping[str, str], replicas: Sequence[str], form: str) -> None:
    chains = ["KUBE-SERVICES", "KUBE-POSTROUTING"]
    rules = [
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
    ]
    for address, short in services.items():
        for protocol in ("udp", "tcp"):
            service = f"KUBE-SVC-{short}-{protocol.upper()}"
            chains.append(service)
            rules.append(f"-A KUBE-SERVICES -d {address} -p {protocol} --dport 53 -j {service}")
            # kube-proxy marks what does not come from a pod; here that is what the node itself sends.
            rules.append(f"-A {service} -m addrtype --src-type LOCAL -j MARK --set-xmark 0x4000/0x4000")
            for number, replica in enumerate(replicas):
                endpoint = f"KUBE-SEP-{short}-{protocol.upper()}-{number}"
                chains.append(endpoint)
                left = len(replicas) - number
                draw = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
                rules.append(f"-A {service}{draw} -j {endpoint}")
                to = f"{form.format(replica)}:53"
                rules.append(f"-A {endpoint} -p {protocol} -m {protocol} -j DNAT --to-destination {to}")
    head = "".join(f":{chain} - [0:0]\n" for chain in chains)
    node.run(program, given=f"*nat\n{head}" + "\n".join(rules) + "\nCOMMIT\n")
