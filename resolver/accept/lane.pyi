"""Types of the compiled lane (`lane.pyx`)."""

from collections.abc import Iterator
from typing import Any

from resolver.accept.listener import Listener
from resolver.accept.packets import PacketCache
from resolver.cache.life import Life
from resolver.clock import Now
from resolver.report.series import Series

RawClient = tuple[bytes, bytes, bytes]
"""Address bytes, socket address, control message that makes an answer leave from the address that was asked."""

class Rendering:
    """`packets.Rendering` in one piece of memory; made by `Table.render` only. Nothing but `follow` can be set."""

    @property
    def key(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def ttl_offsets(self) -> tuple[int, ...]: ...
    @property
    def stored_s(self) -> float: ...
    @property
    def aged_s(self) -> int: ...
    @property
    def next_s(self) -> float: ...
    @property
    def floor_s(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def life(self) -> Life: ...
    @property
    def series(self) -> Series: ...
    follow: Rendering | None

class Table:
    """Renderings by query bytes: as much of a `packets.DictTable` as a packet cache uses."""

    overhead_bytes: int

    def render(
        self,
        key: bytes,
        answer: bytes,
        ttl_offsets: tuple[int, ...],
        aged_s: int,
        floor_s: int,
        life: Life,
        series: Series,
        size_bytes: int,
    ) -> Rendering:
        """Return a rendering for this table, not yet in it; see `packets.DictTable.render`.

        Raises ValueError for what no packet cache keeps: an answer above 64 KiB, a TTL outside of it. TypeError if
        `life` or `series` is not what a hit counts in.
        """

    def dead(self, now_s: float, number: int) -> list[bytes]:
        """Return keys of the dead among the next `number` renderings; each call goes on where the last ended."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, key: bytes) -> bool: ...
    def __getitem__(self, key: bytes) -> Rendering: ...
    def __setitem__(self, key: bytes, value: Rendering) -> None: ...
    def __delitem__(self, key: bytes) -> None: ...
    def get(self, key: bytes, default: object = None) -> Any:
        """Return the value of `key`, or `default`."""

    def keys(self) -> list[bytes]:
        """Return a list of all keys."""

    def values(self) -> list[Rendering]:
        """Return a list of all values."""

    def popitem(self) -> tuple[bytes, Rendering]:
        """Remove some key; return it with its value. Raises KeyError if there is none."""

def one_heap() -> None:
    """Have threads that start from now on allocate from the one heap of the process (glibc; elsewhere nothing)."""

class Lane:
    """The batch loop of one UDP socket; holds its buffers, not the socket."""

    received: int
    """Datagrams read."""

    def __init__(self, fd: int, batch: int, wildcard: bool, now: Now, packets: PacketCache) -> None: ...
    def drain(self, listener: Listener) -> None:
        """Answer up to a few batches of queries; what `packets` has no rendering for, `listener` answers."""

    def send(self, response: bytes, client: RawClient) -> bool:
        """Send one datagram to the client of a miss; return whether the kernel took it."""
