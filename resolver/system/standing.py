"""The standing nat table: sends questions for a link-local address to the cluster's DNS while we are not there.

It is not owned by a process and not named by one: it outlives us on purpose, and two generations share it. While we
live, our own rules come first. It is removed only when asked.
"""

from collections.abc import Sequence

from resolver.system.options import NodeOptions


class StandingNat:
    """The table. `members` are the endpoints that it sends to now, as we last wrote them."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.members: tuple[str, ...] = ()

    async def update(self, members: Sequence[str]) -> bool:
        """Write the table for `members` (`IP`, `IP:PORT`, `[IPv6]:PORT`) in one transaction; True if it changed.

        No members: the last known ones stay. Raises CommandFailed.
        """
        raise NotImplementedError

    async def check(self) -> bool:
        """Whether the table is there; writes it again when it is not. Raises CommandFailed."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Remove it, if it is there. Raises CommandFailed."""
        raise NotImplementedError
