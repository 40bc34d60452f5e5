"""The kube-dns ConfigMap, mounted as a directory: stub domains and upstream nameservers.

Three keys, each a file (pkg/dns/config of kubernetes/dns): `stubDomains`, a JSON map of domain to nameservers;
`upstreamNameservers`, a JSON list of at most three; `federations`, which is read for its mistakes and then means
nothing. Files that are hidden are not looked at: a mounted ConfigMap has some.

As in node-cache, each stub domain becomes a server block behind the Corefile: errors, cache 30, bind to
`-localip`, forward. Here their order is that of the names, and a nameserver may be asked over `tls://`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resolver.errors import ConfigError
from resolver.settings import targets, values
from resolver.settings.environment.machine import Machine, why
from resolver.settings.values import shown

DEFAULT_DIRECTORY = "/etc/kube-dns"
UPSTREAMS_MAX = 3
STUB_DOMAINS_MAX = 1000
STUB_CACHE_S = 30

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class KubeDns(NamedTuple):
    """What the ConfigMap says; domains in order of their names."""

    stub_domains: tuple[tuple[str, tuple[str, ...]], ...] = ()
    upstream_nameservers: tuple[str, ...] = ()


def read(directory: str, machine: Machine) -> KubeDns:
    """Return what the directory says; raises ConfigError. Keys that are not there are empty."""
    if not machine.is_directory(directory):
        raise ConfigError(directory, 0, "no such directory; -kubednscm is the mounted kube-dns ConfigMap")
    content: dict[str, bytes] = {}
    for key in ("stubDomains", "upstreamNameservers", "federations"):
        path = f"{directory.rstrip('/')}/{key}"
        if machine.is_file(path):
            try:
                content[key] = machine.read(path)
            except OSError as error:
                raise ConfigError(path, 0, f"cannot be read: {why(error)}") from None
    return parse(content, directory.rstrip("/"), machine)


def parse(content: Mapping[str, bytes], directory: str, machine: Machine) -> KubeDns:
    """Return the keys as values; raises ConfigError that names the key's file."""
    _check_federations(content.get("federations", b""), f"{directory}/federations")
    return KubeDns(
        _stub_domains(content.get("stubDomains", b""), f"{directory}/stubDomains", machine),
        _upstreams(content.get("upstreamNameservers", b""), f"{directory}/upstreamNameservers"),
    )


def stub_blocks(kube_dns: KubeDns, local_ips: Sequence[str], dns_port: int) -> bytes:
    """Return the server blocks of the stub domains, to be parsed behind the Corefile."""
    bind = f"    bind {' '.join(local_ips)}\n" if local_ips else ""
    blocks = (
        f"{domain}:{dns_port} {{\n    errors\n    cache {STUB_CACHE_S}\n{bind}"
        f"    forward . {' '.join(servers)}\n}}\n"
        for domain, servers in kube_dns.stub_domains
    )
    return "".join(blocks).encode()


def _json(content: bytes, file: str) -> object:
    """Return the decoded JSON, None where there is only white space."""
    import json  # most nodes have no stub domains and should not pay for it at start

    if not content.strip():
        return None
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ConfigError(file, error.lineno, f"not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(file, 0, f"not JSON: {type(error).__name__}") from None


def _stub_domains(content: bytes, file: str, machine: Machine) -> tuple[tuple[str, tuple[str, ...]], ...]:
    accepted = 'accepted: {"acme.local": ["1.2.3.4", "1.2.3.5:5353"]}'
    decoded = _json(content, file)
    if decoded is None:
        return ()
    if not isinstance(decoded, dict):
        raise ConfigError(file, 0, f"not a map of domains; {accepted}")
    if len(decoded) > STUB_DOMAINS_MAX:
        raise ConfigError(file, 0, f"{len(decoded)} stub domains, at most {STUB_DOMAINS_MAX} are accepted")
    found: dict[str, tuple[str, ...]] = {}
    for domain, servers in decoded.items():
        if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
            raise ConfigError(file, 0, f"invalid domain name {shown(domain)}; {accepted}")
        if not isinstance(servers, list) or not all(isinstance(server, str) for server in servers):
            raise ConfigError(file, 0, f"{shown(domain)} has no list of nameservers; {accepted}")
        if not 0 < len(servers) <= targets.NAMESERVERS_MAX:
            problem = f"{shown(domain)} has {len(servers)} nameservers, 1 to {targets.NAMESERVERS_MAX}"
            raise ConfigError(file, 0, f"{problem}; {accepted}")
        for server in servers:
            _check_nameserver(server, domain, file, machine)
        found[domain] = tuple(servers)
    return tuple(sorted(found.items()))


def _check_nameserver(server: str, domain: str, file: str, machine: Machine) -> None:
    """It goes into a Corefile as one word, so it must be one, and `forward` must take it."""
    problem = f"invalid nameserver {shown(server)} of {shown(domain)}"
    if re.search(r'[\s{}#"]|\x00', server):
        raise ConfigError(file, 0, f"{problem}; accepted: {targets.FORM}")
    try:
        targets.target(server, machine)
    except ValueError as error:
        raise ConfigError(file, 0, f"{problem}: {error}; accepted: {targets.FORM}") from None


def _upstreams(content: bytes, file: str) -> tuple[str, ...]:
    accepted = 'accepted: ["8.8.8.8", "8.8.4.4:53"]'
    decoded = _json(content, file)
    if decoded is None:
        return ()
    if not isinstance(decoded, list) or not all(isinstance(server, str) for server in decoded):
        raise ConfigError(file, 0, f"not a list of nameservers; {accepted}")
    if len(decoded) > UPSTREAMS_MAX:
        raise ConfigError(file, 0, f"{len(decoded)} nameservers, at most {UPSTREAMS_MAX}; {accepted}")
    for server in decoded:
        try:
            found = targets.address(server)
        except ValueError as error:
            raise ConfigError(file, 0, f"invalid nameserver {shown(server)}: {error}; {accepted}") from None
        if found.port == 0 or "%" in found.host:
            raise ConfigError(file, 0, f"invalid nameserver {shown(server)}; {accepted}")
    return tuple(values.joined(each.host, each.port) for each in map(targets.address, decoded))


def _check_federations(content: bytes, file: str) -> None:
    """`name=domain,name=domain`: gone from Kubernetes since 1.18, still in old ConfigMaps."""
    text = content.decode("utf-8", "replace").strip()
    for pair in text.split(",") if text else ():
        name, equals, domain = pair.strip().partition("=")
        if not (equals and re.fullmatch(_LABEL, name.strip()) and _DOMAIN.fullmatch(domain.strip())):
            raise ConfigError(file, 0, f"{shown(pair.strip())} is no federation; accepted: name=domain,name=domain")
