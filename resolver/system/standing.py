"""The standing nat table: sends questions for a link-local address to the cluster's DNS while we are not there.

Pods that are pointed at a link-local address have nobody else there: no kube-proxy sends it on. What callers may
rely on:

- The table is not owned by a process and not named by one: it outlives us on purpose, and generations share it.
  It is removed only when asked.
- While we live it sees none of the questions that we intercept: our NOTRACK, or our own mapping, comes first.
- It spreads questions over the members at random, each family over its own; one without members is left alone.
- Questions from the node itself get a source address that the members can answer to.
- It is written in one transaction; a question sees the old members or the new ones.

`table` is pure; `StandingNat` runs `nft`.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.options import NodeOptions

NAME = "standing_node_resolver"
"""Unlike the tables of processes (`notrack.PREFIX`), which are swept away once nobody owns them."""
MEMBERS_MAX = 64
"""More kube-dns pods than a cluster has; each is one element of a map."""

_DESTINATION, _SOURCE = -105, 95
"""Priorities just before those of kube-proxy's nat: -100 and 100. Our own mapping has -110."""


def endpoint(text: str) -> tuple[str, int]:
    """Return address and port of `IP`, `IP:PORT` or `[IPv6]:PORT`. Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: the port is not 1 to 65535")
    return str(ip_address(host)), int(port)


def table(options: NodeOptions, members: Sequence[str]) -> str:
    """Return what `nft -f` takes to make the table as it is to be, whatever it was before.

    members  Endpoints, as `endpoint` reads them. Raises ValueError for anything else.
    """
    found = sorted({endpoint(text) for text in members})[:MEMBERS_MAX]
    sending: list[str] = []
    returning: list[str] = []
    for ip, ours in (("ip", options.addresses4), ("ip6", options.addresses6)):
        standing = [address for address in ours if address in options.standing_addresses]
        targets = [one for one in found if (":" in one[0]) == (ip == "ip6")]
        if not standing or not targets:
            continue
        to_us = f"{ip} daddr {{ {', '.join(standing)} }}"
        elements = ", ".join(f"{number} : {address} . {port}" for number, (address, port) in enumerate(targets))
        sending += (
            f"{to_us} {protocol} dport {options.dns_port} "
            f"dnat {ip} to numgen random mod {len(targets)} map {{ {elements} }}"
            for protocol in ("udp", "tcp")
        )
        returning.append(f"ct status dnat ct original {to_us} {ip} saddr {{ {', '.join(standing)} }} masquerade")
    chains = (
        ("prerouting", _DESTINATION, sending),
        ("output", _DESTINATION, sending),
        ("postrouting", _SOURCE, returning),
    )
    lines = [f"table inet {NAME} {{", "}", f"delete table inet {NAME}", f"table inet {NAME} {{"]
    for hook, priority, rules in chains:
        lines += [f"chain {hook} {{", f"type nat hook {hook} priority {priority}; policy accept;", *rules, "}"]
    return "\n".join((*lines, "}", ""))


class StandingNat:
    """The table. `members` are the endpoints that it sends to now, as we last wrote them."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.members: tuple[str, ...] = ()

    async def update(self, members: Sequence[str]) -> bool:
        """Write the table for `members` (`IP`, `IP:PORT`, `[IPv6]:PORT`) in one transaction; True if it changed.

        No members: the last known ones stay. Raises CommandFailed.
        """
        wanted = tuple(sorted(set(members)))
        if not wanted or wanted == self.members:
            return False
        await self._write(wanted)
        self.members = wanted
        return True

    async def check(self) -> bool:
        """Whether the table is there; writes it again when it is not. Raises CommandFailed."""
        if not self.members or NAME in await self._nft("list", "tables", "inet", containing=(NAME,)):
            return True
        await self._write(self.members)
        return False

    async def remove(self) -> None:
        """Remove it, if it is there. Raises CommandFailed."""
        self.members = ()
        await self._nft("-f", "-", text=f"table inet {NAME} {{\n}}\ndelete table inet {NAME}\n")

    async def _write(self, members: Sequence[str]) -> None:
        try:
            text = table(self.options, members)
        except ValueError as error:
            raise CommandFailed("nft", "failed", f"no such endpoint: {error}") from None
        await self._nft("-f", "-", text=text)

    async def _nft(self, *words: str, text: str = "", containing: tuple[str, ...] = ()) -> str:
        said = await commands.run(
            ("nft", *words), text=text, timeout_s=self.options.command_s, containing=containing
        )
        return said.stdout
