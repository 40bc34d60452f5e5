"""Statements get their meaning: server blocks of words become `Block` values that can be served.

What callers may rely on: a directive is read by its module in `directives`; words that are unknown, that come
later, or that stand twice where once is meant are errors at their line; two blocks that would both own a zone on
one address are an error (CoreDNS core/dnsserver/register.go); no `forward` asks ourselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

from resolver.forward.options import ForwardOptions, Target
from resolver.settings import targets, values, zones
from resolver.settings.arguments import Where, did_you_mean, value, wrong
from resolver.settings.corefile import ServerBlock, Statement
from resolver.settings.directives import FOREIGN, LATER, MANY, WORDS
from resolver.settings.directives import forward as forward_directive
from resolver.settings.environment.machine import Machine
from resolver.settings.model import Block, ListenAddress, ProcessOptions, Settings
from resolver.settings.tokens import Token
from resolver.settings.values import shown

KEY_FORM = "[dns://]ZONE[:PORT], a network such as 10.0.0.0/24, or . for all names"
ZONES_MAX = 10_000
"""Of one server block, networks expanded."""

_FIELDS = {"forward": "forwards"}  # all other words are fields of Block themselves
_FALLBACK_PORT = 53


class _Found(NamedTuple):
    """One server block while it is read."""

    keys: Mapping[tuple[str, int], Token]  # (zone, port) and the word that named it
    block: Block
    forwards: tuple[Statement, ...]


def build(
    server_blocks: Sequence[ServerBlock], process: ProcessOptions, machine: Machine, warnings: list[str]
) -> tuple[Block, ...]:
    """Return the blocks to serve; raises ConfigError. Lines that people should see are added to `warnings`."""
    found = [
        _read(server_block, number, process, machine, warnings) for number, server_block in enumerate(server_blocks)
    ]
    blocks = _by_port(found)
    _refuse_overlap(found)
    listen = targets.own_addresses(Settings(tuple(blocks), process), _interfaces(blocks, machine))
    cluster = cluster_dns(process, machine.environ)
    return tuple(
        replace(
            block,
            forwards=tuple(
                _check_targets(options, statement, listen, cluster, machine, warnings)
                for options, statement in zip(block.forwards, found[block.number].forwards, strict=True)
            ),
        )
        for block in blocks
    )


def service_variable(service: str) -> str:
    """Return the environment variable in which Kubernetes gives every pod a Service's ClusterIP."""
    return service.upper().replace("-", "_") + "_SERVICE_HOST"


def cluster_dns(process: ProcessOptions, environ: Mapping[str, str]) -> str:
    """Return the address of `-upstreamsvc`, "" outside a cluster or where the Service is not there."""
    try:
        return values.ip(environ.get(service_variable(process.upstream_service), ""))
    except ValueError:
        return ""


def _read(
    server_block: ServerBlock, number: int, process: ProcessOptions, machine: Machine, warnings: list[str]
) -> _Found:
    keys: dict[tuple[str, int], Token] = {}
    for word in server_block.keys:
        key = value(word, lambda text: zones.key(text, process.dns_port), KEY_FORM)
        for zone in key.zones:
            if (zone, key.port) in keys:
                raise wrong(word, f"zone {zone} on port {key.port} stands twice before one block", "each once")
            keys[zone, key.port] = word
        if len(keys) > ZONES_MAX:
            raise wrong(word, f"more than {ZONES_MAX} zones in one server block", KEY_FORM)
    first = server_block.keys[0]
    zone_names = tuple(dict.fromkeys(zone for zone, _ in keys))
    where = Where(zone_names, process, machine, warnings)
    fields: dict[str, Any] = {}
    forwards: list[Statement] = []
    for statement in server_block.statements:
        _read_statement(statement, where, fields)
        if statement.word.text == "forward":
            forwards.append(statement)
    if not server_block.statements:
        warnings.append(
            f"{first.file}:{first.line}: this server block is empty and answers everything with REFUSED"
        )
    hosts = tuple(dict.fromkeys(fields.pop("bind", ()))) or ("",)
    listen = tuple(ListenAddress(host, port) for port in dict.fromkeys(port for _, port in keys) for host in hosts)
    block = Block(zones=zone_names, listen=listen, number=number, file=first.file, line=first.line, **fields)
    return _Found(keys, block, tuple(forwards))


def _read_statement(statement: Statement, where: Where, fields: dict[str, Any]) -> None:
    """Add what one directive says to the fields of its block."""
    word = statement.word.text
    if word not in WORDS:
        raise _not_a_directive(statement.word)
    field = _FIELDS.get(word, word)
    if word not in MANY and field in fields:
        raise wrong(statement.word, f"{word} stands twice in one server block", f"{word} once")
    found = import_module(f"resolver.settings.directives.{word}").read(statement, where)
    if word == "bind":
        fields[field] = fields.get(field, ()) + found
    elif word in MANY:
        fields[field] = (*fields.get(field, ()), found)
    else:
        fields[field] = found


def _not_a_directive(word: Token) -> Exception:
    accepted = ", ".join((*WORDS, "import"))
    if word.text in LATER:
        return wrong(word, f"{word.text} comes with a later release", accepted)
    if word.text in FOREIGN:
        return wrong(word, f"{word.text} is a plugin of CoreDNS that this resolver does not offer", accepted)
    close = did_you_mean(word, (*WORDS, "import", *LATER))
    return wrong(word, f"unknown directive {shown(word.text)}{close}", accepted)


def _by_port(found: Iterable[_Found]) -> list[Block]:
    """A block whose keys name several ports becomes one value per port, with the zones of that port."""
    blocks: list[Block] = []
    for keys, block, _ in found:
        blocks += [
            replace(
                block,
                zones=tuple(zone for zone, of_port in keys if of_port == port),
                listen=tuple(address for address in block.listen if address.port == port),
            )
            for port in dict.fromkeys(port for _, port in keys)
        ]
    return blocks


def _refuse_overlap(found: Iterable[_Found]) -> None:
    """A zone is served once on an address; all addresses overlap each single one."""
    taken: dict[tuple[str, int], dict[str, Token]] = {}
    for keys, block, _ in found:
        hosts = dict.fromkeys(address.host for address in block.listen)
        for (zone, port), word in keys.items():
            owners = taken.setdefault((zone, port), {})
            for host in hosts:
                where = f"dns://{zone}:{port}" + (f" on {host}" if host else "")
                if host in owners:
                    raise wrong(
                        word, f"cannot serve {where}, it is already defined at {_place(owners[host])}", "each once"
                    )
                if owners and (host == "" or "" in owners):
                    other = next(iter(owners.values()))
                    raise wrong(
                        word,
                        f"cannot serve {where}, the zone overlaps the block at {_place(other)}",
                        "bind in all server blocks of a zone and port, or in none",
                    )
            owners.update(dict.fromkeys(hosts, word))


def _place(word: Token) -> str:
    return f"{word.file}:{word.line}"


def _interfaces(blocks: Iterable[Block], machine: Machine) -> Mapping[str, tuple[str, ...]]:
    """The machine's addresses are only asked for when a block listens on all of them."""
    if all(address.host for block in blocks for address in block.listen):
        return {}
    try:
        return machine.interface_addresses()
    except OSError:
        return {}  # then only the loopback addresses are known to be ours


def _check_targets(
    options: ForwardOptions,
    statement: Statement,
    listen: frozenset[ListenAddress],
    cluster: str,
    machine: Machine,
    warnings: list[str],
) -> ForwardOptions:
    """Refuse ourselves as an upstream, look into resolv.confs, and add the cluster's fallback."""
    for target in options.targets:
        _refuse_ourselves((target,), statement, statement.args, listen)
        if target.kind == "file":
            _check_file(target, statement, listen, machine, warnings)
    for line in statement.body or ():
        if line.word.text == "fallback":
            _refuse_ourselves(options.fallback, statement, line.args, listen)
        if line.word.text == "resolver":
            _refuse_ourselves(options.resolver_targets, statement, line.args, listen)
    if cluster and not forward_directive.has_fallback(statement):
        default = Target("address", cluster, _FALLBACK_PORT, text=cluster)
        kept, _ = targets.refuse_own([default], listen)
        known = {(target.host, target.port) for target in options.targets if not target.tls}
        options = replace(options, fallback=tuple(each for each in kept if (each.host, each.port) not in known))
    return options


def _refuse_ourselves(
    found: Iterable[Target], statement: Statement, words: Sequence[Token], listen: frozenset[ListenAddress]
) -> None:
    for target in targets.refuse_own(found, listen)[1]:
        place = next((word for word in words if word.text == target.text), statement.word)
        raise wrong(
            place,
            f"{shown(target.text)} is this resolver itself, its questions would come back for ever",
            "an upstream that none of the server blocks listens on",
        )


def _check_file(
    target: Target,
    statement: Statement,
    listen: frozenset[ListenAddress],
    machine: Machine,
    warnings: list[str],
) -> None:
    """A file without nameservers may get some later, it is watched; one with only ourselves is a mistake."""
    place = next((word for word in statement.args if word.text == target.text), statement.word)
    found = value(place, lambda _: targets.read_nameservers(target.host, machine), targets.FORM)
    kept, refused = targets.refuse_own(found, listen)
    if refused and not kept:
        raise wrong(
            place,
            f"every nameserver in {target.host} is this resolver itself ({refused[0].host})",
            "a file that names other servers",
        )
    notes = [f"nameserver {each.host} is this resolver itself and is left out" for each in refused]
    notes += [] if found else ["has no nameserver yet; it is watched"]
    warnings += [f"{place.file}:{place.line}: forward: {target.host}: {note}" for note in notes]
