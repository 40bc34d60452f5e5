"""What waits at one of our sockets, and what the kernel has dropped there because nobody took it in time.

Both are system calls of about 1 us that never wait: they may be made in the loop. The counts are the socket's own,
from its beginning: whoever inherits a socket goes on counting. A kernel that does not know an answer (before 4.12)
is an OSError, and so is a closed socket.
"""

import socket
import struct
from typing import NamedTuple

_SO_MEMINFO = 55  # asm-generic/socket.h; the numbers' order is linux/sock_diag.h SK_MEMINFO_*
_MEMINFO = struct.Struct("=9I")
_TCP_INFO = struct.Struct("=24x2I")  # linux/tcp.h: tcpi_unacked and tcpi_sacked


class ReceiveQueue(NamedTuple):
    """A UDP socket. A datagram takes more of the buffer than its own bytes: 768 and more for a small one."""

    waiting_bytes: int
    buffer_bytes: int
    drops: int


class AcceptQueue(NamedTuple):
    """A listening TCP socket: connections that are complete and that nobody has accepted yet."""

    waiting: int
    backlog: int
    drops: int


def receive_queue(sock: socket.socket) -> ReceiveQueue:
    """Return what waits to be read from a UDP socket. Raises OSError."""
    waiting, buffer, *_, drops = _meminfo(sock)
    return ReceiveQueue(waiting, buffer, drops)


def accept_queue(sock: socket.socket) -> AcceptQueue:
    """Return what waits to be accepted from a listening socket. Raises OSError."""
    # Of a listening socket, TCP_INFO has the accept queue in two fields that mean something else otherwise.
    waiting, backlog = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    return AcceptQueue(waiting, backlog, _meminfo(sock)[-1])


def _meminfo(sock: socket.socket) -> tuple[int, ...]:
    data = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    if len(data) < _MEMINFO.size:
        raise OSError("this kernel does not count what a socket drops")
    return _MEMINFO.unpack(data)
