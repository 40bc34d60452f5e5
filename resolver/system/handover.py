"""What two generations of this process say to each other, so that an update loses no question (decision 0005).

    new  GREETING  magic and version, as in every version to come
    old  GREETING
    old  NODE      boot and network namespace: sockets of another one are of no use
    new  WANT
    old  LIFELINE  both ends of a pipe that each holder of the sockets has
    old  SOCKETS   listening sockets, as many frames as it takes
    old  CACHE     a snapshot follows: here its head, then its frames to END
    new  SERVES    it answers, and pods are sent to it
    old  LIVE      at its end: are you there?
    new  LIVES
    old  CACHE     what is new since
    old  ASK       do you serve? Read from now on
    new  YES
    new  GOES      it ends itself: do not count on it
    new  LIVE      until it reads: are you there?
    old  LIVES

Only one of them reads what arrives, the old one until it asks: a new one that is killed has nothing in hand.

What callers may rely on:

- Neither side ends because of what the other does or leaves undone. A connection that closes, whenever it does,
  means that the other one is gone, or has given up what it was.
- Several may take over from one, and each listens for its own successor at a name of its own.

Here is the side that starts; who serves has `system.offer`. Which sockets and caches, deadlines for the whole, and
what follows are `resolver.succession`'s.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence

from resolver.errors import HandoverFailed
from resolver.system.channel import Channel

VERSION = 1
"""Of all that is said, the snapshot's format included. Another one: both serve side by side, without the cache."""

GREETING = struct.Struct(">8sH")
MAGIC = b"nodehand"

NODE, WANT, LIFELINE, SOCKETS, CACHE, SERVES, ASK, YES, GOES, LIVE, LIVES = range(16, 27)

ANSWER_S = 0.8
"""How long a step may take. It takes a millisecond, and a process that is throttled may stand still for some tenths
of a second. After one that is frozen there is time for another one within `succession.HOLD_UP_S`."""

_NODE = struct.Struct(">16sQQ")
COUNT = struct.Struct(">B")


class OtherVersion(HandoverFailed):
    """The other process speaks another version; both bind the same places, side by side."""


def node_identity(boot_id: bytes) -> bytes:
    """Return what says that two processes can share sockets: boot and network namespace. Reads /proc."""
    namespace = os.stat("/proc/self/ns/net")
    return _NODE.pack(boot_id, namespace.st_dev, namespace.st_ino)


async def greet(channel: Channel) -> None:
    """Say who we are."""
    await channel.send_raw(GREETING.pack(MAGIC, VERSION))


async def greeted(channel: Channel) -> None:
    """Wait for the other one's greeting. Raises HandoverFailed, OtherVersion."""
    magic, version = GREETING.unpack(await channel.raw(GREETING.size))
    if magic != MAGIC:
        raise HandoverFailed("it is not our protocol")
    if version != VERSION:
        raise OtherVersion(f"it speaks version {version}, we speak {VERSION}")


async def expect(channel: Channel, wanted: int) -> bytes:
    """Return the payload of the next frame, which must be of kind `wanted`. Raises HandoverFailed."""
    kind, payload = await channel.receive()
    if kind != wanted:
        raise HandoverFailed(f"frame {kind} came where {wanted} was due")
    return payload


class Predecessor:
    """The process that served before us, once it has given its sockets. Made by `meet`.

    sockets   As they came, unchecked; the caller's now.
    lifeline  Reading and writing end of the pipe; the caller's now.
    head      Of the snapshot that follows.
    """

    def __init__(
        self, channel: Channel, lifeline: tuple[int, int], sockets: list[socket.socket], head: bytes
    ) -> None:
        self.channel = channel
        self.lifeline = lifeline
        self.sockets = sockets
        self.head = head


async def meet(address: str, node: bytes) -> Predecessor:
    """Take the sockets of the process that listens at `address`.

    Raises ConnectionRefusedError when nobody does any more, else HandoverFailed, and then nothing is kept.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        sock.close()
        raise ConnectionRefusedError from None
    except OSError as error:
        sock.close()
        raise HandoverFailed(f"it cannot be reached: {error.strerror}") from None
    channel = Channel(sock)
    taken: list[int] = []
    try:
        async with asyncio.timeout(ANSWER_S):
            await greet(channel)
            await greeted(channel)
            if await expect(channel, NODE) != node:
                raise HandoverFailed("it runs in another network namespace")
            await channel.send(WANT)
            await expect(channel, LIFELINE)
            taken += channel.take_fds(2)
        while True:
            async with asyncio.timeout(ANSWER_S):
                kind, payload = await channel.receive()
            if kind == CACHE:
                break
            if kind != SOCKETS or len(payload) != COUNT.size:
                raise HandoverFailed(f"frame {kind} came where {SOCKETS} was due")
            taken += channel.take_fds(payload[0])
        reading, writing, *fds = taken
        taken.clear()
        return Predecessor(channel, (reading, writing), _as_sockets(fds), payload)
    except BaseException as error:
        channel.close()
        for fd in taken:
            os.close(fd)
        if isinstance(error, TimeoutError):
            raise HandoverFailed("it does not answer") from None
        raise


def _as_sockets(fds: Sequence[int]) -> list[socket.socket]:
    """Return those that are sockets; what is not is closed."""
    found = []
    for fd in fds:
        try:
            found.append(socket.socket(fileno=fd))
        except OSError:
            os.close(fd)
    return found
