"""A connection to an upstream: raced on two ports, and TLS on top where it is wanted.

A SYN that is lost, or that a stale conntrack entry leads to a dead pod, costs the kernel's first retransmission,
a second. So a second attempt, from another port, starts when the first has been silent for `SECOND_S` or has
failed; whichever completes first is kept. Both together have `CONNECT_S`, the TLS handshake has `HANDSHAKE_S`.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from resolver.clock import Timers
from resolver.errors import TlsFailed, UpstreamError, UpstreamRefused, UpstreamTimeout

CONNECT_S = 0.4
SECOND_S = 0.15
HANDSHAKE_S = 1.0

_REFUSED = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EACCES}
)

P = TypeVar("P", bound=asyncio.Protocol)


class _Race:
    """Attempts to connect; `won` is the first socket that did, or what went wrong last."""

    def __init__(self, address: tuple[str, int], source_address: str, label: str) -> None:
        self._address = address
        self._source_address = source_address
        self._label = label
        self._loop = asyncio.get_running_loop()
        self._running: set[socket.socket] = set()
        self._starts_left = 2
        self.won: asyncio.Future[socket.socket] = self._loop.create_future()

    def start(self) -> None:
        """Start one more attempt, two in all."""
        if self._starts_left == 0 or self.won.done():
            return
        self._starts_left -= 1
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._failed(error)
            return
        try:
            if self._source_address:
                sock.bind((self._source_address, 0))
            sock.connect(self._address)
        except BlockingIOError:
            self._running.add(sock)
            self._loop.add_writer(sock.fileno(), self._ready, sock)
        except OSError as error:
            sock.close()
            self._failed(error)
        else:
            self.won.set_result(sock)

    def end(self, error: UpstreamError) -> None:
        """Fail, unless it is over."""
        if not self.won.done():
            self.won.set_exception(error)

    def stop(self) -> None:
        """Close every attempt that is still running."""
        for sock in self._running:
            self._loop.remove_writer(sock.fileno())
            sock.close()
        self._running.clear()

    def _ready(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        self._running.discard(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            sock.close()
            self._failed(OSError(code, os.strerror(code)))
        elif self.won.done():
            sock.close()
        else:
            self.won.set_result(sock)

    def _failed(self, error: OSError) -> None:
        if self._starts_left:
            self.start()
        elif not self._running:
            self.end(_named(error, self._label))


async def connect(address: tuple[str, int], source_address: str, label: str, timers: Timers) -> socket.socket:
    """Return a connected, non-blocking socket. Raises UpstreamError; `label` names the upstream in it."""
    race = _Race(address, source_address, label)
    race.start()
    second = timers.call_after(SECOND_S, race.start)
    late = UpstreamTimeout(f"{label}: no TCP connection within {CONNECT_S} s")
    limit = timers.call_after(CONNECT_S, lambda: race.end(late))
    try:
        return await race.won
    except asyncio.CancelledError:
        if race.won.done() and not race.won.cancelled() and race.won.exception() is None:
            race.won.result().close()
        raise
    finally:
        second.cancel()
        limit.cancel()
        race.stop()


async def start_protocol(
    sock: socket.socket,
    factory: Callable[[], P],
    context: ssl.SSLContext | None,
    server_name: str,
    label: str,
    timers: Timers,
) -> P:
    """Put a protocol, and TLS if there is a context, on a connected socket, and own the socket from here on.

    Raises TlsFailed, or UpstreamTimeout when the handshake takes longer than `HANDSHAKE_S`.
    """
    loop = asyncio.get_running_loop()
    hostname = server_name if context is not None else None
    opening = loop.create_task(loop.create_connection(factory, sock=sock, ssl=context, server_hostname=hostname))

    def end() -> None:
        opening.cancel()

    limit = timers.call_after(HANDSHAKE_S, end)
    try:
        _, protocol = await opening
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise UpstreamTimeout(f"{label}: no TLS handshake within {HANDSHAKE_S} s") from None
    except OSError as error:
        reason = (
            getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or str(error)
        )
        raise TlsFailed(f"{label}: TLS handshake failed: {reason}") from None
    finally:
        limit.cancel()
    return protocol


def _named(error: OSError, label: str) -> UpstreamError:
    text = f"{label}: {error.strerror or error}"
    if error.errno in _REFUSED:
        return UpstreamRefused(text)
    return UpstreamTimeout(text) if error.errno == errno.ETIMEDOUT else UpstreamError(text)
