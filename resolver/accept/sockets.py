"""Bind the sockets that listeners take over, and say clearly why one cannot be bound."""

import errno
import socket

from resolver.errors import AddressInUse, ResolverError

TCP_BACKLOG = 1024
"""Connections that the kernel completes before we take them; net.core.somaxconn may lower it."""

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; needs CAP_NET_ADMIN


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
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except OSError:  # without CAP_NET_ADMIN the kernel gives what net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    # The kernel doubles what was asked for, to account for its own bookkeeping (socket(7)).
    return sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def bind_tcp(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a bound, listening, non-blocking TCP socket. Raises as `bind_udp`."""
    sock = _bind(host, port, socket.SOCK_STREAM, shared)
    sock.listen(TCP_BACKLOG)
    return sock


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
