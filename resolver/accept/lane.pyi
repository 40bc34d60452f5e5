"""Types of the compiled lane (`lane.pyx`)."""

from resolver.accept.listener import Listener
from resolver.clock import Now

RawClient = tuple[bytes, bytes, bytes]
"""Address bytes, socket address, control message that makes an answer leave from the address that was asked."""

class Lane:
    """The batch loop of one UDP socket; holds its buffers, not the socket."""

    def __init__(self, fd: int, batch: int, wildcard: bool, now: Now) -> None: ...
    def drain(self, listener: Listener) -> None:
        """Answer up to one batch of queries that came to `listener`, and count them there."""

    def send(self, response: bytes, client: RawClient) -> bool:
        """Send one datagram to the client of a miss; return whether the kernel took it."""
