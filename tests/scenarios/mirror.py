"""An upstream that leads back to us: what it is asked over UDP it asks our own server."""

import asyncio
from typing import Self

Address = tuple[str, int]


class Mirror(asyncio.DatagramProtocol):
    """One such upstream. What comes before `begin`, when our server has no address yet, is sent back then."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._back: dict[bytes, Address] = {}
        self._asking: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Listen at `address`."""
        loop = asyncio.get_running_loop()
        transport, mirror = await loop.create_datagram_endpoint(cls, local_addr=address)
        mirror._transport = transport
        return mirror

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._back[data[:2]] = addr
        if self._asking is not None:
            self._asking.sendto(data)
        else:
            self._early.append(data)

    async def begin(self, server: Address) -> None:
        """Our server is there, at this address."""
        loop = asyncio.get_running_loop()
        self._asking, _ = await loop.create_datagram_endpoint(lambda: _Answers(self), remote_addr=server)
        for data in self._early:
            self._asking.sendto(data)

    def answered(self, answer: bytes) -> None:
        """Our server has answered."""
        back = self._back.pop(answer[:2], None)
        if back is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, back)

    def close(self) -> None:
        """Close both sockets."""
        for transport in (self._transport, self._asking):
            if transport is not None:
                transport.close()


class _Answers(asyncio.DatagramProtocol):
    """Hands every answer back."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._mirror.answered(data)
