"""ACCEPT rules at the top of filter INPUT and OUTPUT, as node-local-dns has them, and what it left behind.

What callers may rely on:

- Rules are known by their comment. Ours has words of its own: what node-local-dns removes at its end are its rules,
  and what we remove of its are not ours.
- A run is one transaction: all missing rules come in at once, all leftovers go at once.
- `iptables` is the variant (nft or legacy) in which kubelet keeps its own chains, as Kubernetes' own images choose;
  without such chains it is the machine's default. Leftovers are looked for in both variants.
- Looking creates nothing: `iptables-legacy -t raw` would make a table where there was none; each packet would pay.
- Looking reads no nat table: with kube-proxy's rules for 5,000 Services that is half a second of CPU.

Texts are made and read by pure functions; `Accept` and `remove_leftovers` run them.
"""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.options import NodeOptions

COMMENT = "node-resolver: allow DNS traffic"
LEFTOVER = "NodeLocal DNS Cache: "
"""How the comments of node-local-dns begin: `skip conntrack` in raw, `allow DNS traffic` in filter."""

HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
"""Chains that kubelet makes in mangle, in the variant that it uses (kubernetes-sigs/iptables-wrappers)."""

VARIANTS = ("-nft", "-legacy")
LEFTOVER_TABLES = ("raw", "filter")
PROC_NET = Path("/proc/net")
"""Where the kernel names the tables that iptables-legacy has made in this network namespace."""

_TRIES = 3  # a rule that somebody else removes meanwhile fails the whole transaction
_TABLE_LINE = "*"
_NATIVE = "is incompatible, use 'nft' tool"


class Rule(NamedTuple):
    """One rule: `program` is `iptables` or `ip6tables`, `words` stand after `-I CHAIN` or `-C CHAIN`."""

    program: str
    chain: str
    words: tuple[str, ...]


def rules_of(options: NodeOptions) -> tuple[Rule, ...]:
    """Return the ACCEPT rules of our addresses; those of UDP, which is asked more, first."""
    end = ("-m", "comment", "--comment", COMMENT, "-j", "ACCEPT")
    port = str(options.dns_port)
    found = []
    for address in options.local_ips:
        program = "iptables" if ip_address(address).version == 4 else "ip6tables"
        for protocol in ("udp", "tcp"):
            start = ("-p", protocol, "-m", protocol)
            found.append(Rule(program, "INPUT", ("-d", address, *start, "--dport", port, *end)))
            found.append(Rule(program, "OUTPUT", ("-s", address, *start, "--sport", port, *end)))
    return tuple(found)


def insertion(rules: Sequence[Rule]) -> str:
    """Return what `iptables-restore --noflush` takes to insert `rules` at the top, in their order."""
    lines = (f"-I {rule.chain} 1 {' '.join(map(_quoted, rule.words))}" for rule in reversed(rules))
    return "\n".join(("*filter", *lines, "COMMIT", ""))


def line_of(rule: Rule) -> str:
    """Return how both variants print a rule of `rules_of`."""
    direction, address, *words = rule.words
    alone = f"{address}/{ip_address(address).max_prefixlen}"
    return f"-A {rule.chain} {direction} {alone} {' '.join(map(_quoted, words))}"


def removal(saved: str, comment: str, addresses: Sequence[str] = ()) -> tuple[str, int]:
    """Return what `iptables-restore --noflush` takes to remove rules, and how many these are.

    saved      Lines of `iptables-save`: those of rules, and those that name their table.
    comment    How the comment of a rule begins that is to go.
    addresses  Only rules that name one of these; empty: all of them.
    """
    tables: dict[str, list[str]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith(_TABLE_LINE):
            table = line[1:].strip()
        elif (
            line.startswith("-A ")
            and f'--comment "{comment}' in line
            and (not addresses or any(f" {address}/" in line for address in addresses))
        ):
            tables.setdefault(table, []).append(f"-D{line[2:]}")
    text = "".join("\n".join((f"*{name}", *lines, "COMMIT", "")) for name, lines in tables.items())
    return text, sum(map(len, tables.values()))


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


class Accept:
    """The ACCEPT rules of our addresses."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self._variant: str | None = None

    async def ensure(self) -> tuple[Rule, ...]:
        """Insert the rules that are missing and return them. Raises CommandFailed (`lock`: try again later)."""
        inserted: list[Rule] = []
        for program in ("iptables", "ip6tables"):
            rules = [rule for rule in rules_of(self.options) if rule.program == program]
            # One look for all of them; an iptables that prints them otherwise is asked for each.
            there = await self._printed(program) if rules else []
            unseen = [rule for rule in rules if line_of(rule) not in there]
            missing = [rule for rule in unseen if not await self._is_there(rule)]
            if missing:
                await self._restore(program, insertion(missing))
            inserted += missing
        return tuple(inserted)

    async def remove(self) -> None:
        """Remove all of them, however often they are there. Raises CommandFailed."""
        variant = await self._choose()
        for program in dict.fromkeys(rule.program for rule in rules_of(self.options)):
            await _remove(self.options, f"{program}{variant}", ("filter",), COMMENT, self.options.local_ips)

    async def _printed(self, program: str) -> list[str]:
        variant = await self._choose()
        return (await _look(self.options, f"{program}{variant}", ("filter",), (COMMENT,))).splitlines()

    async def _is_there(self, rule: Rule) -> bool:
        variant = await self._choose()
        try:
            await _run(
                self.options, (f"{rule.program}{variant}", *_wait(self.options), "-C", rule.chain, *rule.words)
            )
        except CommandFailed as failure:
            if "does a matching rule exist" in failure.problem:
                return False
            raise
        return True

    async def _restore(self, program: str, text: str) -> None:
        variant = await self._choose()
        await _run(self.options, (f"{program}{variant}-restore", *_wait(self.options), "--noflush"), text=text)

    async def _choose(self) -> str:
        """Return the variant to use: the end of the programs' names."""
        if self._variant is None:
            self._variant = ""
            for variant in VARIANTS:
                if await self._has_hints(variant):
                    self._variant = variant
                    break
        return self._variant

    async def _has_hints(self, variant: str) -> bool:
        for family in ("iptables", "ip6tables"):
            try:
                if await _look(self.options, f"{family}{variant}", ("mangle",), HINTS):
                    return True
            except CommandFailed:
                continue  # the variant that cannot be asked is not the one that works
        return False


async def remove_leftovers(options: NodeOptions) -> int:
    """Remove the rules that node-local-dns left behind, found by its comment, in both variants of iptables and both
    families; return how many there were. Called before the first interception. Raises CommandFailed."""
    removed = 0
    missing: CommandFailed | None = None
    looked = False
    for program in (f"{family}{variant}" for family in ("iptables", "ip6tables") for variant in VARIANTS):
        if not await _tables_of(program, LEFTOVER_TABLES):
            continue
        try:
            removed += await _remove(options, program, LEFTOVER_TABLES, LEFTOVER)
            looked = True
        except CommandFailed as failure:
            if failure.kind == "missing":
                missing = missing or failure
            elif failure.kind != "unsupported":  # a variant that the kernel does not have keeps no rules
                raise
    if missing is not None and not looked:
        raise missing
    return removed


async def _remove(
    options: NodeOptions, program: str, tables: Sequence[str], comment: str, addresses: Sequence[str] = ()
) -> int:
    """Remove rules of one program by their comment; return how many there were."""
    for tries_left in reversed(range(_TRIES)):
        text, count = removal(await _look(options, program, tables, (comment,)), comment, addresses)
        if not count:
            return 0
        try:
            await _run(options, (f"{program}-restore", *_wait(options), "--noflush"), text=text)
        except CommandFailed as failure:
            if failure.kind != "failed" or not tries_left:
                raise
        else:
            return count
    raise AssertionError("the last try returns or raises")


async def _look(options: NodeOptions, program: str, tables: Sequence[str], containing: tuple[str, ...]) -> str:
    """Return what these tables have with one of these words in it, in the form of `iptables-save`.

    A table in which somebody keeps rules that only `nft` can print has nothing that could be returned.
    """
    found = []
    for table in await _tables_of(program, tables):
        # iptables-nft-save would read all tables for one of them.
        if program.endswith("-legacy"):
            command: tuple[str, ...] = (f"{program}-save", "-t", table)
        else:
            command = (program, *_wait(options), "-t", table, "-S")
        try:
            said = await commands.run(command, timeout_s=options.command_s, containing=containing)
        except CommandFailed as failure:
            if _NATIVE not in failure.problem:
                raise
        else:
            if said.stdout:
                found.append(f"{_TABLE_LINE}{table}\n{said.stdout}")
    return "".join(found)


async def _tables_of(program: str, tables: Sequence[str]) -> Sequence[str]:
    """Return those of `tables` that may be there: the legacy variant would make them by looking."""
    if not program.endswith("-legacy"):
        return tables
    names = PROC_NET / ("ip6_tables_names" if program.startswith("ip6") else "ip_tables_names")
    try:
        made = await asyncio.get_running_loop().run_in_executor(None, names.read_text)
    except FileNotFoundError:
        return ()  # this kernel has no such variant, or nobody has used it
    except (OSError, RuntimeError) as error:  # not ours to read; no thread to be had
        kind = "permission" if isinstance(error, PermissionError) else "failed"
        raise CommandFailed(program, kind, f"which tables there are cannot be read: {error}; run as root") from None
    return [table for table in tables if table in made.split()]


def _wait(options: NodeOptions) -> tuple[str, str]:
    """How long a program waits for the xtables lock: in whole seconds, less than we wait for the program."""
    return "-w", str(max(1, int(options.command_s) - 1))


async def _run(options: NodeOptions, command: Sequence[str], *, text: str = "") -> None:
    await commands.run(command, text=text, timeout_s=options.command_s)
