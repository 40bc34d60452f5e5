"""Upstreams as words: `ip[:port]`, `tls://ip[%name][:port]`, a resolv.conf, a host name; and our own addresses.

The classes of words and their order are CoreDNS's (plugin/pkg/parse/host.go, plugin/forward/resolve.go): address,
file, host name. Stricter: four numbers with dots that are no address are an error, not a host name.

`own_addresses` and `refuse_own` are what keeps us from asking ourselves: with interception on, the kube-dns
ClusterIP is *us*. They hold at load and at every later swap of a resolv.conf or of a host name's addresses.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

from resolver.forward.options import Target
from resolver.forward.resolvconf import parse_resolv_conf
from resolver.settings import values, zones
from resolver.settings.environment.machine import Machine, why
from resolver.settings.model import ListenAddress, Settings
from resolver.settings.values import shown

FORM = "IP[:PORT], tls://IP[%NAME][:PORT], a resolv.conf or a host name"
NAMESERVERS_MAX = 15
"""Of one list of nameservers; glibc itself stops at 3."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})


def target(word: str, machine: Machine) -> Target:
    """Return one TO word of `forward`; raises ValueError that says what would be accepted."""
    scheme, rest = "dns", word
    if found := _SCHEME.fullmatch(word):
        scheme, rest = found[1].lower(), found[2]
    if scheme == "https":
        raise ValueError(f"{shown(word)}: DNS over HTTPS to upstreams comes with a later release")
    if scheme not in {"dns", "tls"}:
        raise ValueError(f"{shown(word)}: upstreams cannot be asked over {scheme}")
    if not rest:
        raise ValueError(f"{shown(word)} is no upstream")
    tls = scheme == "tls"
    rest, server_name = _split_server_name(rest) if tls else (rest, "")
    host, port = _split_port(rest, 853 if tls else 53)
    try:
        return Target("address", values.ip(host), port, tls, server_name, word)
    except ValueError:
        pass
    if not found and ("/" in word or machine.is_file(word)):
        if not machine.is_file(word):
            raise ValueError(f"there is no file {shown(word)}")
        return Target("file", word, text=word)
    if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", host) or not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{shown(word)} is no upstream: neither an address nor a file nor a host name")
    return Target("name", zones.name(host), port, tls, server_name, word)


def address(word: str) -> Target:
    """Return `ip` or `ip:port` as a target; raises ValueError for anything else."""
    host, port = _split_port(word, 53)
    return Target("address", values.ip(host), port, text=word)


def nameservers(content: bytes) -> tuple[Target, ...]:
    """Return the `nameserver` lines of a resolv.conf as `forward/discover.py` will read them again and again."""
    found = parse_resolv_conf(content.decode("utf-8", "replace"))
    return tuple(Target("address", values.ip(word), 53, text=word) for word in found[:NAMESERVERS_MAX])


def read_nameservers(path: str, machine: Machine) -> tuple[Target, ...]:
    """Return the nameservers of a file; raises ValueError that says why it cannot be read."""
    try:
        return nameservers(machine.read(path))
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read: {why(error)}") from None


def own_addresses(
    settings: Settings, interfaces: Mapping[str, tuple[str, ...]] | None = None
) -> frozenset[ListenAddress]:
    """Return every address and port at which a question would come back to us.

    interfaces  The addresses of this machine's interfaces, needed where a block listens on all addresses;
                None: only what the Corefile names.

    The addresses of `-localip` are ours on their DNS port even before the node's rules bring their packets here.
    """
    listen = {address for block in settings.blocks for address in block.listen}
    listen |= {ListenAddress(host, settings.process.dns_port) for host in settings.process.local_ips}
    machine_addresses = [host for hosts in (interfaces or {}).values() for host in hosts]
    for wildcard in [address for address in listen if address.host in _WILDCARDS]:
        listen |= {ListenAddress(host, wildcard.port) for host in machine_addresses}
    return frozenset(listen)


def refuse_own(
    targets: Iterable[Target], listen: Collection[ListenAddress]
) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Return `targets` in two: those that may be asked, and those that are ourselves.

    Only targets of kind `address` can be ourselves: files and names are asked again when they are resolved.
    """
    kept: list[Target] = []
    refused: list[Target] = []
    for each in targets:
        (refused if _is_own(each, listen) else kept).append(each)
    return tuple(kept), tuple(refused)


def _is_own(each: Target, listen: Collection[ListenAddress]) -> bool:
    """A wildcard listener has every loopback address, and an upstream 0.0.0.0 is this machine's loopback."""
    if each.kind != "address":
        return False
    if (each.host, each.port) in listen:
        return True
    here = ipaddress.ip_address(each.host)
    if here.is_unspecified:
        return any(port == each.port and _is_local(host) for host, port in listen)
    return here.is_loopback and any(port == each.port and host in _WILDCARDS for host, port in listen)


def _is_local(host: str) -> bool:
    return host in _WILDCARDS or ipaddress.ip_address(host).is_loopback


def _split_server_name(rest: str) -> tuple[str, str]:
    """`9.9.9.9%dns.quad9.net:10853` is `9.9.9.9:10853` and `dns.quad9.net`."""
    host, percent, tail = rest.rpartition("%")
    if not percent:
        return rest, ""
    name, colon, port = tail.partition(":")
    name = name.removesuffix("]")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(f"{shown(name)} is not a TLS server name")
    if host.startswith("["):
        host += "]"
    return host + colon + port, name


def _split_port(rest: str, default: int) -> tuple[str, int]:
    """`[v6]:port`, `v4:port`, `name:port`; an address with several bare colons has no port."""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError(f"{shown(rest)} is not an address, write [IPv6]:PORT")
        return host, values.port(tail[1:]) if tail else default
    if rest.count(":") == 1 and "/" not in rest:
        host, _, tail = rest.partition(":")
        return host, values.port(tail)
    return rest, default
