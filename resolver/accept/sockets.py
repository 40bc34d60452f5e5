"""Bind the sockets that listeners take over, and say clearly why one cannot be bound."""

import ctypes
import errno
import fcntl
import socket
import struct
import termios
from contextlib import suppress

from resolver.errors import AddressInUse, ResolverError

TCP_BACKLOG = 1024
"""Connections that the kernel completes before we take them; net.core.somaxconn may lower it."""

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; needs CAP_NET_ADMIN
_SO_ATTACH_FILTER = 26

_NO_SYN = b"".join(
    struct.pack("@HBBI", *instruction)  # struct sock_filter: code, jump if true, jump if false, operand
    for instruction in (
        (0x30, 0, 0, 13),  # load the flags, byte 13 of the TCP header
        (0x54, 0, 0, 0x12),  # of them SYN and ACK
        (0x15, 0, 1, 0x02),  # only SYN?
        (0x06, 0, 0, 0),  # then drop it,
        (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
    )
)


def addresses(host: str) -> list[str]:
    """Return the addresses to bind for `host`: itself, or all of both families for the empty host."""
    if host:
        return [host]
    return ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]


def bind_udp(host: str, port: int, *, shared: bool, receive_buffer_bytes: int) -> tuple[socket.socket, int]:
    """Return a bound, non-blocking UDP socket and the receive buffer that the kernel granted, in bytes.

    shared  Other processes of ours may hold the address as well (SO_REUSEPORT): two generations on a node.
    Raises AddressInUse or ResolverError with the address and the remedy.
    """
    sock = _bind(host, port, socket.SOCK_DGRAM, shared)
    return sock, enlarge(sock, receive_buffer_bytes)


def enlarge(sock: socket.socket, receive_buffer_bytes: int) -> int:
    """Ask for this receive buffer; return what the kernel granted, in bytes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except OSError:  # without CAP_NET_ADMIN the kernel gives what net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    # The kernel doubles what was asked for, to account for its own bookkeeping (socket(7)).
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def bind_tcp(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a bound, listening, non-blocking TCP socket. Raises as `bind_udp`."""
    sock = _bind(host, port, socket.SOCK_STREAM, shared)
    sock.listen(TCP_BACKLOG)
    return sock


def listens_at(sock: socket.socket) -> tuple[str, int, int] | None:
    """Return (host, port, SOCK_DGRAM or SOCK_STREAM) of a socket that questions come to, None for any other."""
    try:
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if sock.type not in {socket.SOCK_DGRAM, socket.SOCK_STREAM} or listens != (sock.type == socket.SOCK_STREAM):
            return None
        sock.setblocking(False)
        host, port = sock.getsockname()[:2]
    except OSError:
        return None
    return (host, port, int(sock.type)) if port else None


def turn_away(sock: socket.socket) -> None:
    """Let nothing more arrive at a UDP socket that no other process has; what has arrived can be read and answered.

    A connected socket takes datagrams from its peer alone. This one's peer is an address that sends none: others
    are told that nobody is here (ICMP), or go to another socket of this address (SO_REUSEPORT).
    """
    host, port = sock.getsockname()[:2]
    peer = {"0.0.0.0": ("127.0.0.1", 1), "::": ("::1", 1)}.get(host, (host, port))
    with suppress(OSError):  # then it is as if this was not called: what comes until the end is answered, too
        sock.connect(peer)


def turn_away_connections(sock: socket.socket) -> None:
    """Let no more connections begin at a TCP socket that no other process has; those that have begun are completed.

    Closing it right away would reset whoever is connected and not accepted. A SYN that is dropped comes again after
    a second and finds the socket closed, or another one at this address.
    """
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    # struct sock_fprog: number of instructions, where they are
    filter_program = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_program)


def end_sending(fd: int) -> bool:
    """Send EOF on the connection at descriptor `fd` and keep it open; False when the client is gone."""
    sock = socket.socket(fileno=fd)
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    finally:
        sock.detach()
    return True


def has_unread(fd: int) -> bool:
    """Tell whether something has arrived at descriptor `fd` that nobody has read yet; EOF is nothing."""
    return any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))


def _bind(host: str, port: int, kind: int, shared: bool) -> socket.socket:
    if not shared and port:
        # SO_REUSEPORT would let us in beside another process of this user and split the questions with it in
        # silence; a plain bind first finds out.
        _bind_once(host, port, kind, reuse_port=False).close()
    return _bind_once(host, port, kind, reuse_port=True)


def _bind_once(host: str, port: int, kind: int, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise ResolverError(f"cannot open a socket for {text(host, port)}: {error.strerror}") from None
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _explained(error, host, port, kind) from None
    return sock


def _explained(error: OSError, host: str, port: int, kind: int) -> ResolverError:
    where = f"{text(host, port)} ({'TCP' if kind == socket.SOCK_STREAM else 'UDP'})"
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(f"{where} is in use", host, port, "tcp" if kind == socket.SOCK_STREAM else "udp")
    if error.errno == errno.EACCES:
        return ResolverError(
            f"{where}: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE, "
            "or take another port with -dns.port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ResolverError(f"{where}: this machine has no such address; add it to a device or change `bind`")
    return ResolverError(f"{where}: {error.strerror}")


def text(host: str, port: int) -> str:
    """Return the address for people and labels: `10.0.0.1:53`, `[::1]:53`, `:53`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
