"""The rules that cannot outlive us: a child `nft -i` that holds a table of ours, and what we ask of it.

What callers may rely on:

- The table is owned by the child (`flags owner`): the kernel removes it when the child ends, and the child ends
  when we do, however we end: its standard input is a pipe that nobody else holds. Nobody else can delete the table.
- The rules bring pods to us only while `beat` is called: each beat keeps our addresses for `alive_s`.
- `beat` never blocks and never raises; what goes wrong later is told to `on_failure`, once for each child.
- After a failure, `start` makes a new child with a new table; the old table is gone by then.

What the rules say is in `notrack`.
"""

from collections.abc import Callable, Sequence

from resolver.errors import CommandFailed
from resolver.system.options import NodeOptions


class Rules:
    """The table of one process. `name` is the table's; `owned` says whether the kernel removes it with us."""

    def __init__(
        self, options: NodeOptions, *, on_failure: Callable[[CommandFailed], None], program: str = "nft"
    ) -> None:
        self.options = options
        self.name = ""
        self.owned = False
        self.armed = False

    @property
    def alive(self) -> bool:
        """Whether there is a child that holds the table."""
        raise NotImplementedError

    async def start(self) -> None:
        """Make the table, without anybody coming to us yet. Raises CommandFailed; then there is no table."""
        raise NotImplementedError

    def beat(self, addresses: Sequence[str]) -> bool:
        """Keep, or begin, interception of these for `alive_s` from now; False when there is no child to tell.

        One that is not named (its own question was not answered) is left to run out: a broken IPv6 address must
        not take IPv4 with it.
        """
        raise NotImplementedError

    async def disarm(self) -> None:
        """Take our addresses out at once; the table stays, and so do connections that are ours. Never raises."""
        raise NotImplementedError

    async def check(self) -> bool:
        """Ask the child whether the table is there; False (and `on_failure`, once) when it is not."""
        raise NotImplementedError

    async def close(self) -> None:
        """Remove the table and end the child. Never raises."""
        raise NotImplementedError
