"""An upstream that leads back to us: what it is asked over UDP it asks our own server."""

import asyncio
from collections.abc import Callable
from typing import Self

Address = tuple[str, int]


class Mirror(asyncio.DatagramProtocol):
    """One such upstream. `server` is asked for our address when the first question comes."""

    def __init__(self, server: Callable[[], Address]) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None
        self._back: dict[bytes, Address] = {}
        self._asking: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: Address, server: Callable[[], Address]) -> Self:
        """Listen at `address`."""
        loop = asyncio.get_running_loop()
        transport, mirror = await loop.create_datagram_endpoint(lambda: cls(server), local_addr=address)
        mirror._transport = transport
        return mirror

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._back[data[:2]] = addr
        if self._asking is not None:
            self._asking.sendto(data)
            return
        self._early.append(data)
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_asking())

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

    async def _open_asking(self) -> None:
        loop = asyncio.get_running_loop()
        self._asking, _ = await loop.create_datagram_endpoint(lambda: _Answers(self), remote_addr=self._server())
        for data in self._early:
            self._asking.sendto(data)


class _Answers(asyncio.DatagramProtocol):
    """Hands every answer back."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._mirror.answered(data)
