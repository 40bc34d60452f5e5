"""The rules over weeks: the child that holds them is replaced before it has grown, and no packet notices.

`nft -i` keeps every line that it was ever told: 0.25 KiB for each beat, 21 MiB a day (measured with libedit, whose
settings do not change that). So after RENEW_AFTER_BEATS a new child makes a table of its own and gets the beats
from then on. The old table stays for OVERLAP_S: by then the new one knows every TCP connection on which we have
said something, and any other is idle and about to be closed by us.

`LastingRules` is used as `Rules` is; it has no renewal of its own to be asked for.
"""

import asyncio
from collections.abc import Callable, Mapping

from resolver import logs
from resolver.clock import Timers
from resolver.errors import CommandFailed
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions

RENEW_AFTER_BEATS = 20_000
"""5.6 hours; 5 MiB."""

OVERLAP_S = 15.0
"""A client's TCP connection is closed after 10 s without a question."""


class LastingRules:
    """The rules of one process, whichever child holds them now."""

    def __init__(
        self,
        options: NodeOptions,
        timers: Timers,
        *,
        on_failure: Callable[[CommandFailed], None],
        make: Callable[..., Rules] = Rules,
    ) -> None:
        """Do nothing yet. `make` is what makes the rules of one child."""
        self._options = options
        self._timers = timers
        self._on_failure = on_failure
        self._make = make
        self._now = self._new()
        self._before: Rules | None = None
        self._beats = 0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self._now.name

    @property
    def alive(self) -> bool:
        """Whether there is a child that holds the table."""
        return self._now.alive

    async def start(self) -> None:
        """Make the table. Raises CommandFailed."""
        self._beats = 0
        await self._now.start()

    def beat(self, lives: Mapping[str, float]) -> bool:
        """As `Rules.beat`."""
        self._beats += 1
        if self._beats >= RENEW_AFTER_BEATS and self._renewing is None:
            self._renewing = logs.hold(self._renew(), "the next holder of the rules")
        return self._now.beat(lives)

    async def disarm(self) -> None:
        """As `Rules.disarm`. Nothing is renewed from now on."""
        await self._renew_no_more()
        await self._now.disarm()
        if self._before is not None:
            await self._before.disarm()

    async def check(self) -> bool:
        """As `Rules.check`."""
        return await self._now.check()

    async def close(self) -> None:
        """As `Rules.close`."""
        await self._renew_no_more()
        if self._before is not None:
            await self._before.close()
        await self._now.close()

    async def _renew(self) -> None:
        self._beats = 0
        new = self._new()
        try:
            await new.start()
        except CommandFailed as error:
            logs.warning(f"rules: {error}; the old ones stay, and are renewed later", plugin="node")
            await new.close()
            self._renewing = None
            return
        except asyncio.CancelledError:
            await new.close()
            raise
        # The old elements last for 3 s, and the next beat, within one, is the new table's.
        self._before, self._now = self._now, new
        await self._timers.sleep(OVERLAP_S)
        await self._before.close()
        self._before = self._renewing = None

    async def _renew_no_more(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait({renewing})

    def _new(self) -> Rules:
        def failed(error: CommandFailed) -> None:
            if self._now is made:
                self._on_failure(error)

        made = self._make(self._options, on_failure=failed)
        return made
