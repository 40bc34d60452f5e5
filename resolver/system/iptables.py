"""ACCEPT rules at the top of filter INPUT and OUTPUT, as node-local-dns has them, and its leftovers."""

from typing import NamedTuple

from resolver.system.options import NodeOptions


class Rule(NamedTuple):
    """One rule: `program` is `iptables` or `ip6tables`, `words` stand after `-I CHAIN` or `-C CHAIN`."""

    program: str
    chain: str
    words: tuple[str, ...]


class Accept:
    """The ACCEPT rules of our addresses."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options

    async def ensure(self) -> tuple[Rule, ...]:
        """Insert the rules that are missing and return them. Raises CommandFailed (`lock`: try again later)."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Remove all of them, however often they are there. Raises CommandFailed."""
        raise NotImplementedError


async def remove_leftovers(options: NodeOptions) -> int:
    """Remove the rules that node-local-dns left behind, found by its comment, in both variants of iptables and both
    families; return how many there were. Called before the first interception. Raises CommandFailed."""
    raise NotImplementedError
