"""Sockets in other network namespaces: clients that say who answered them, servers that answer who they are."""

import asyncio
import ctypes
import os
import queue
import selectors
import socket
import threading
from contextlib import suppress
from typing import Any

_CLONE_NEWNET = 0x40000000


def make_socket(namespace: str, address: str, kind: int) -> socket.socket:
    """Return a socket in `namespace`: a thread of its own enters it, and ends."""
    made: list[socket.socket] = []

    def enter() -> None:
        descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) == 0:
                made.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind))
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert made, f"cannot enter {namespace}"
    made[0].setblocking(False)
    return made[0]


class Client:
    """One socket that asks, again and again from the same port."""

    def __init__(self, made: socket.socket, address: str, port: int) -> None:
        self.socket = made
        self._peer = (address, port)
        self._connected = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def tell(self) -> None:
        """Ask, and do not wait for the answer."""
        loop = asyncio.get_running_loop()
        if not self._connected:
            await loop.sock_connect(self.socket, self._peer)
            self._connected = True
        await loop.sock_sendall(self.socket, b"who")

    async def hear(self, timeout_s: float = 0.5) -> str:
        """Return who answered; "" when nobody did in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return (await asyncio.get_running_loop().sock_recv(self.socket, 100)).decode()
        return ""

    async def ask(self, timeout_s: float = 0.5) -> str:
        """Return who answered; "" when nobody did in time, or the error's name."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.tell()
            return await self.hear(timeout_s)
        except TimeoutError:
            return ""
        except OSError as error:
            return type(error).__name__


class Servers:
    """One thread that answers for all servers of a network."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = socket.socketpair()
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._names: dict[socket.socket, bytes] = {}
        self.slow = b""  # who of them takes a question and does not answer yet
        self.waiting: queue.Queue[tuple[socket.socket, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def add(self, server: socket.socket, name: bytes) -> None:
        self._names[server] = name
        self._selector.register(server, selectors.EVENT_READ)

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        for server in (*self._names, self._stopped):
            server.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopped:
                    return
                with suppress(OSError):
                    self._answer(key.fileobj)  # type: ignore[arg-type]  # only sockets are registered

    def _answer(self, server: socket.socket) -> None:
        name = self._names[server]
        if server.type == socket.SOCK_DGRAM:
            _, client = server.recvfrom(100)
            if name == self.slow:
                self.waiting.put((server, client))
            else:
                server.sendto(name, client)
        elif server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            connection, _ = server.accept()
            connection.setblocking(False)
            self.add(connection, name)
        elif server.recv(100):
            server.sendall(name)
        else:
            self._selector.unregister(server)
            server.close()
