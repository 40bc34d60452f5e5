"""Types of the compiled lane (`lane.pyx`)."""

from collections.abc import Iterator
from typing import Any

from resolver.accept.listener import Listener
from resolver.clock import Now

RawClient = tuple[bytes, bytes, bytes]
"""Address bytes, socket address, control message that makes an answer leave from the address that was asked."""

class Table:
    """From query bytes to renderings: as much of a dict as a packet cache uses. Values are any objects but None."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, key: bytes) -> bool: ...
    def __getitem__(self, key: bytes) -> Any: ...
    def __setitem__(self, key: bytes, value: object) -> None: ...
    def __delitem__(self, key: bytes) -> None: ...
    def get(self, key: bytes, default: object = None) -> Any:
        """Return the value of `key`, or `default`."""

    def keys(self) -> list[bytes]:
        """Return a list of all keys."""

    def values(self) -> list[Any]:
        """Return a list of all values."""

    def popitem(self) -> tuple[bytes, Any]:
        """Remove some key; return it with its value. Raises KeyError if there is none."""

class Lane:
    """The batch loop of one UDP socket; holds its buffers, not the socket."""

    def __init__(self, fd: int, batch: int, wildcard: bool, now: Now) -> None: ...
    def drain(self, listener: Listener) -> None:
        """Answer up to one batch of queries that came to `listener`, and count them there."""

    def send(self, response: bytes, client: RawClient) -> bool:
        """Send one datagram to the client of a miss; return whether the kernel took it."""
