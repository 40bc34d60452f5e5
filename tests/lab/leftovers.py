"""What node-local-dns leaves on a node when it is killed: its device with the addresses, and its rules.

Its own rules (kubernetes/dns 1.26, cache_app.go), twelve for each address; only its device is a bridge here:
the kernel may have no dummy devices.
"""

from collections.abc import Sequence

from tests.lab.spaces import Space

SKIP, ALLOW = "NodeLocal DNS Cache: skip conntrack", "NodeLocal DNS Cache: allow DNS traffic"

_RULES = (
    ("raw", "PREROUTING -p tcp -d {ip} --dport 53", SKIP, "NOTRACK"),
    ("raw", "PREROUTING -p udp -d {ip} --dport 53", SKIP, "NOTRACK"),
    ("filter", "INPUT -p tcp -d {ip} --dport 53", ALLOW, "ACCEPT"),
    ("filter", "INPUT -p udp -d {ip} --dport 53", ALLOW, "ACCEPT"),
    ("raw", "OUTPUT -p tcp -s {ip} --sport 53", SKIP, "NOTRACK"),
    ("raw", "OUTPUT -p udp -s {ip} --sport 53", SKIP, "NOTRACK"),
    ("filter", "OUTPUT -p tcp -s {ip} --sport 53", ALLOW, "ACCEPT"),
    ("filter", "OUTPUT -p udp -s {ip} --sport 53", ALLOW, "ACCEPT"),
    ("raw", "OUTPUT -p tcp -d {ip} --dport 53", SKIP, "NOTRACK"),
    ("raw", "OUTPUT -p udp -d {ip} --dport 53", SKIP, "NOTRACK"),
    ("raw", "OUTPUT -p tcp -d {ip} --dport 8080", SKIP, "NOTRACK"),
    ("raw", "OUTPUT -p tcp -s {ip} --sport 8080", SKIP, "NOTRACK"),
)


def leave_behind(node: Space, addresses: Sequence[str], variant: str) -> None:
    """Put them there, through iptables-nft or iptables-legacy."""
    node.run("ip", "link", "add", "nodelocaldns", "type", "bridge")
    for address in addresses:
        node.run("ip", "addr", "add", f"{address}/32", "dev", "nodelocaldns")
    for table in ("raw", "filter"):
        lines = [
            f'-I {match.format(ip=address)} -m comment --comment "{comment}" -j {target}'
            for address in addresses
            for where, match, comment, target in _RULES
            if where == table
        ]
        given = f"*{table}\n" + "\n".join(lines) + "\nCOMMIT\n"
        node.run(f"iptables-{variant}-restore", "--noflush", given=given)


def are_there(node: Space, variant: str) -> bool:
    """Whether any of the rules is."""
    return "NodeLocal DNS Cache: skip conntrack" in node.run(f"iptables-{variant}-save")
