"""What the process asks of Python and of the system before it serves."""

import asyncio
import resource
from collections.abc import Callable

FILES_WANTED = 65_536


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop's, or asyncio's own where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:  # plain asyncio works too
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def raise_file_limit() -> None:
    """Ask for as many files as the system lets us have: each source port is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
