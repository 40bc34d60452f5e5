"""A process that holds the rules, for tests that kill it: prints the name of its table once it intercepts."""

import asyncio
import sys
from functools import partial

from resolver.system import commands
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions


async def main(*addresses: str) -> None:
    """Hold the rules, with another child of ours running beside the one that holds them."""
    # It has begun by the time that the name is told.
    rules = Rules(NodeOptions(addresses), on_failure=lambda failure: print(failure, flush=True))
    await rules.start()
    rules.beat(dict.fromkeys(addresses, 3.0))
    assert await rules.check()
    asyncio.get_running_loop().call_later(0.2, partial(print, rules.name, flush=True))
    await commands.run(("sleep", "60"), timeout_s=60.0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
