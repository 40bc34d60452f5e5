"""Keys of server blocks and zone arguments: `[scheme://]zone[:port]`, and networks as reverse zones.

The rules are CoreDNS's (plugin/normalize.go, plugin/pkg/cidr): zones become lower case with a trailing dot; a
network such as `10.0.0.0/22` becomes the reverse zones that make it up, host bits masked, and where its mask is
not on an octet (IPv6: nibble) there are several. A zone has at most 255 characters. Stricter than CoreDNS: what
looks like a network or a port and is none is an error, not a zone that no question will ever have.

All functions raise ValueError whose text says what is wrong, and nothing else.
"""

import ipaddress
import re
from typing import NamedTuple

from resolver.errors import Malformed
from resolver.settings.values import port as read_port
from resolver.settings.values import shown
from resolver.wire import names

ZONE_MAX_CHARACTERS = 255

DEFAULT_PORTS = {"dns": None, "tls": 853, "quic": 853, "grpc": 443, "https": 443, "https3": 443}
"""Schemes of keys; dns listens on `-dns.port`."""

_LATER_SCHEMES = frozenset(DEFAULT_PORTS) - {"dns"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LIKE_A_NETWORK = re.compile(r"[0-9a-fA-F:.]+/[0-9]+")


class Key(NamedTuple):
    """One key of a server block; several zones only for a network whose mask is off the boundary."""

    zones: tuple[str, ...]
    port: int


def key(word: str, dns_port: int) -> Key:
    """Return a server block's key; `dns_port` is the port of keys that name none."""
    scheme, rest = "dns", word
    if found := _SCHEME.fullmatch(word):
        scheme, rest = found[1].lower(), found[2]
    if scheme in _LATER_SCHEMES:
        raise ValueError(f"serving {scheme}:// comes with a later release")
    if scheme != "dns":
        raise ValueError(f"unknown scheme {shown(scheme)}")
    zone, number = _split_port(rest)
    if not zone:
        raise ValueError(f"{shown(word)} names no zone; write .{word if number is not None else ''} for all names")
    return Key(expand(zone), dns_port if number is None else number)


def expand(word: str) -> tuple[str, ...]:
    """Return the zone or zones that `word`, a name or a network, stands for; a port is not accepted."""
    if len(word) > ZONE_MAX_CHARACTERS:
        raise ValueError(f"zone {shown(word)} is longer than {ZONE_MAX_CHARACTERS} characters")
    if "/" in word:
        try:
            return _reverse_zones(ipaddress.ip_network(word, strict=False))
        except ValueError:
            if _LIKE_A_NETWORK.fullmatch(word):
                raise ValueError(f"{shown(word)} is not a network such as 10.0.0.0/24") from None
    return (name(word),)


def name(word: str) -> str:
    """Return a domain name in its one canonical spelling: lower case, with a trailing dot."""
    if not word:
        raise ValueError("an empty name; write . for the root")
    if bad := re.search(r"[\s{}():,]", word):
        raise ValueError(f"{shown(word)} is not a domain name: it has {shown(bad[0])} in it")
    try:
        return names.to_text(names.from_text(word).lower())
    except Malformed as error:
        raise ValueError(f"{shown(word)} is not a domain name: {error}") from None


def without_scheme_and_port(word: str) -> str:
    """Return the zone part of a zone argument: CoreDNS lets `except` and others carry scheme and port."""
    found = _SCHEME.fullmatch(word)
    zone, _ = _split_port(found[2] if found else word)
    return zone


def _split_port(word: str) -> tuple[str, int | None]:
    """Digits after the last colon are a port; an IPv6 network keeps its colons."""
    zone, colon, tail = word.rpartition(":")
    if not colon or "/" in tail:
        return word, None
    if not tail:
        raise ValueError(f"{shown(word)} has nothing behind its last colon; a port is expected there")
    return zone, read_port(tail)


def _reverse_zones(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[str, ...]:
    """At most 128 zones (a /25 or a /17), 8 for IPv6."""
    step = 8 if network.version == 4 else 4
    boundary = -(-network.prefixlen // step) * step
    digits = boundary // step
    zones = []
    for part in network.subnets(new_prefix=boundary):
        labels = part.network_address.reverse_pointer.split(".")
        zones.append(".".join(labels[network.max_prefixlen // step - digits :]) + ".")
    return tuple(zones)
