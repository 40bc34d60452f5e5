"""Types of the compiled lane (`lane.pyx`)."""

from resolver.accept.listener import Listener
from resolver.accept.packets import Rendering

RawClient = tuple[bytes, bytes, bytes]
"""Address bytes, socket address, control message that makes an answer leave from the address that was asked."""

class Lane:
    """The batch loop of one UDP socket; holds its buffers, not the socket."""

    def __init__(self, fd: int, batch: int, wildcard: bool) -> None: ...
    def drain(self, listener: Listener, table: dict[bytes, Rendering], now_s: float) -> tuple[int, int]:
        """Answer up to one batch; return how many queries were read and how many answers were lost."""

    def settle(self, duration_s: float) -> None:
        """Put the hits of the last batch into their true duration bucket if it was a slow one."""

    def send(self, response: bytes, client: RawClient) -> bool:
        """Send one datagram to the client of a miss; return whether the kernel took it."""
