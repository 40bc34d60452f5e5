"""The text of the table that brings pods to us, and of what is said to it later. Pure: `nft` runs it.

What the table does, and why:

- Packets to an address in `alive4`/`alive6` skip conntrack, and so the DNAT of kube-proxy: they reach our socket.
  The elements expire by themselves; a beat puts them in anew. `flush` and `add` in one line are one transaction: no
  packet ever finds the set empty (tried: 620,000 packets during 6,000 beats). To add an element that is there does
  not extend it.
- They skip it only where a socket listens. When we are killed the kernel may close our sockets before it ends the
  child that holds this table (`nft_child`); what a pod asks meanwhile goes to kube-dns, and is not lost in between.
- Answers from our addresses skip it always, not only while we are alive: an answer under way when the set runs
  empty would make a conntrack entry whose reply direction is the pod's next question, which then misses kube-dns.
- Of TCP only the first packet of a connection asks `alive`. The rest asks `connections4`/`connections6`, where our
  own packets put their connection in. So neither end of interception breaks a connection: those with kube-dns stay
  there when we begin, those with us are served to their end when we stop.
- Every packet of the node passes these chains, so the first rules are what decides for most: answers of ours,
  questions to us, and that a port which is none of ours is no business of the rest. A rule that has decided ends
  its chain; other tables' chains still see the packet. A set costs more than a comparison, so UDP compares. A
  connection's packets come next, the many before its first.
- The question that we put to ourselves reaches us by its mark before an address is alive: its answer is what makes
  the address alive.
- ICMP port-unreachable from our addresses is dropped: a glibc with one nameserver fails on it at once, while a lost
  packet is asked again, of kube-dns by then.
- `tracked` is for nodes that forbid NOTRACK: a DNAT to the very same address, before kube-proxy's, binds an empty
  mapping, and later nat chains see nothing to do. Questions over UDP then get a short conntrack timeout where the
  kernel has such, so that no entry keeps a socket on us for long once we are gone.

Each function returns one line; nft takes a line as one transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from resolver.system.options import SELF_QUESTION_MARK, NodeOptions

PREFIX = "node_resolver_"
"""How the tables of all processes begin; what follows names the process."""

RAW, AFTER_CONNTRACK, BEFORE_DNAT = -300, -150, -110
"""Priorities: of raw, before conntrack (-200); of mangle; and before the nat of kube-proxy (-100)."""

CLOSED_S = 5
"""How long a connection stays known after our FIN or RST: the client's last packets."""

LEAST_LIFE_S = 0.01
"""What lives shorter is not put in: 0 ms would be for ever."""

SHORT_S = 2
"""Conntrack timeout of an intercepted question in `tracked`: below the 5 s after which glibc asks again."""

_FAMILIES = (("4", "ip", "ipv4_addr"), ("6", "ip6", "ipv6_addr"))


class Way(NamedTuple):
    """What the table makes use of, where the kernel and nft know it.

    owner    The kernel removes it when the socket that made it is closed (Linux 5.12, nft 1.0).
    short    Questions have a short conntrack timeout of their own (`tracked` only).
    sockets  Packets skip conntrack only where a socket listens (`notrack` only; Linux 4.18 with NFT_SOCKET).
    """

    owner: bool
    short: bool
    sockets: bool


def table(options: NodeOptions, name: str, way: Way) -> str:
    """Return the line that makes the table, with nobody in it."""
    parts = [f"add table inet {name}" + (" { flags owner; }" if way.owner else "")]
    timeout = f"timeout {options.alive_s * 1000:.0f}ms"
    for number, _, kind in _FAMILIES:
        parts.append(f"add set inet {name} alive{number} {{ type {kind}; flags timeout; {timeout}; }}")
    if options.interception == "tracked":
        chains = _tracked(options, name, short=way.short, parts=parts)
    else:
        chains = _untracked(options, name, parts=parts, sockets=way.sockets)
    for chain, (hook, rules) in chains.items():
        parts.append(f"add chain inet {name} {chain} {{ {hook}; policy accept; }}")
        parts += (f"add rule inet {name} {chain} {rule}" for rule in rules)
    return "; ".join(parts)


def beat(options: NodeOptions, name: str, lives: Mapping[str, float]) -> str:
    """Return the line that keeps addresses in for so many seconds each, `alive_s` at most, and no others."""
    parts = []
    for number, _, _, addresses in _ours(options):
        parts.append(f"flush set inet {name} alive{number}")
        elements = [
            address if lives[address] >= options.alive_s else f"{address} timeout {lives[address] * 1000:.0f}ms"
            for address in addresses
            if lives.get(address, 0.0) >= LEAST_LIFE_S
        ]
        if elements:
            parts.append(f"add element inet {name} alive{number} {{ {', '.join(elements)} }}")
    return "; ".join(parts)


def disarm(name: str) -> str:
    """Return the line that takes our addresses out."""
    return f"flush set inet {name} alive4; flush set inet {name} alive6"


def probe(name: str) -> str:
    """Return the line whose answer says that the table is there, and that all before it is done."""
    return f"list set inet {name} alive4"


def remove(name: str) -> str:
    """Return the line that removes the table."""
    return f"delete table inet {name}"


def abandoned(text: str) -> bool:
    """Tell whether the table that `nft list table` printed as `text` belongs to nobody any more.

    Owned tables go with their owner. Without owners, a living process has its addresses in; one that hesitates to
    intercept finds its table gone at the next check, and makes it again.
    """
    return "flags owner" not in text and "elements" not in "".join(_sets(text))


def _sets(text: str) -> Iterable[str]:
    """Return the lines within `set alive4 {` and `set alive6 {`."""
    inside = False
    for line in text.splitlines():
        if line.strip().startswith("set "):
            inside = line.split()[1].startswith("alive")
        elif inside:
            yield line


def _ours(options: NodeOptions) -> list[tuple[str, str, str, Sequence[str]]]:
    """Return number, nft's word, type and our addresses of each family that we have addresses of."""
    found = (options.addresses4, options.addresses6)
    return [(*family, addresses) for family, addresses in zip(_FAMILIES, found, strict=True) if addresses]


Chains = dict[str, tuple[str, list[str]]]


def _untracked(options: NodeOptions, name: str, *, parts: list[str], sockets: bool) -> Chains:
    """Return the chains of `notrack`, and add the sets that they need to `parts`."""
    dns, health = options.dns_port, options.health_port
    incoming = [f"udp dport != {dns} accept"]
    answers: list[str] = []
    questions: list[str] = []
    served = "socket transparent 0 " if sockets else ""
    for number, ip, _, addresses in _ours(options):
        incoming.append(f"meta l4proto udp {ip} daddr @alive{number} {served}notrack accept")
        answers.append(f"udp sport {dns} {ip} saddr {{ {', '.join(addresses)} }} notrack accept")
        # From the node itself and from pods with hostNetwork; the socket that is known here is the sender's.
        questions.append(f"udp dport {dns} {ip} daddr @alive{number} notrack accept")
    incoming.append(f"tcp dport != {dns} accept")
    outgoing = [*answers, *questions]
    ports = f"{{ {dns}, {health} }}"
    outgoing.append(f"meta l4proto {{ tcp, udp }} th dport != {ports} th sport != {ports} accept")
    for number, ip, kind, addresses in _ours(options):
        known = f"connections{number}"
        parts.append(
            f"add set inet {name} {known} {{ type {kind} . inet_service . {kind}; flags dynamic, timeout; "
            f"timeout {options.connection_s}s; size {options.connections_max}; }}"
        )
        ours = f"{{ {', '.join(addresses)} }}"
        # The port before the address: to look an address up is what a rule costs.
        new = f"tcp dport {dns} tcp flags & (syn | ack) == syn {ip} daddr @alive{number}"
        going_on = f"tcp dport {dns} {ip} saddr . tcp sport . {ip} daddr @{known} notrack accept"
        incoming += [going_on, f"{new} {served}notrack"]
        answer = f"tcp sport {dns} {ip} saddr {ours}"
        peer = f"{ip} daddr . tcp dport . {ip} saddr"
        outgoing += [
            # To put it into a set that is full ends a rule: `notrack` stands in front of it.
            f"{answer} tcp flags & (fin | rst) != 0x0 notrack "
            f"update @{known} {{ {peer} timeout {CLOSED_S}s }} accept",
            f"{answer} notrack update @{known} {{ {peer} }} accept",
            going_on,
            f"{new} notrack",
            f"meta mark {SELF_QUESTION_MARK:#x} {ip} daddr {ours} udp dport {dns} notrack",
            f"{ip} daddr {ours} tcp dport {health} notrack",
            f"{ip} saddr {ours} tcp sport {health} notrack",
            _silence(ip, ours),
        ]
    return {
        "prerouting": (f"type filter hook prerouting priority {RAW}", incoming),
        "output": (f"type filter hook output priority {RAW}", outgoing),
    }


def _tracked(options: NodeOptions, name: str, *, short: bool, parts: list[str]) -> Chains:
    """Return the chains of `tracked`, and add the timeouts that they need to `parts`."""
    dns = options.dns_port
    nat: list[str] = []
    own: list[str] = []
    soon: list[str] = []
    silent: list[str] = []
    for number, ip, _, addresses in _ours(options):
        nat += [
            f"{ip} daddr @alive{number} {protocol} dport {dns} dnat {ip} to {ip} daddr"
            for protocol in ("udp", "tcp")
        ]
        ours = f"{{ {', '.join(addresses)} }}"
        own.append(f"meta mark {SELF_QUESTION_MARK:#x} {ip} daddr {ours} udp dport {dns} dnat {ip} to {ip} daddr")
        silent.append(_silence(ip, ours))
        if short:
            parts.append(
                f"add ct timeout inet {name} short{number} {{ protocol udp; l3proto {ip}; "
                f"policy = {{ unreplied : {SHORT_S}, replied : {SHORT_S} }}; }}"
            )
            soon.append(f'{ip} daddr @alive{number} udp dport {dns} ct timeout set "short{number}"')
    return {
        "prerouting": (f"type nat hook prerouting priority {BEFORE_DNAT}", nat),
        "output": (f"type nat hook output priority {BEFORE_DNAT}", nat + own),
        "prerouting_timeout": (f"type filter hook prerouting priority {AFTER_CONNTRACK}", soon),
        "output_timeout": (f"type filter hook output priority {AFTER_CONNTRACK}", soon + silent),
    }


def _silence(ip: str, ours: str) -> str:
    word = "icmp" if ip == "ip" else "icmpv6"
    return f"{ip} saddr {ours} {word} type destination-unreachable {word} code port-unreachable drop"
