"""Sockets that are bound, and errors that say what to do."""

import errno
import os
import socket

import pytest

from resolver.accept import sockets
from resolver.errors import AddressInUse, ResolverError
from tests.support.addresses import free_port, loopback


def test_both_protocols_of_one_port_and_the_buffer_that_was_granted() -> None:
    host = loopback()
    port = free_port(host)
    udp, granted_bytes = sockets.bind_udp(host, port, shared=False, receive_buffer_bytes=64 * 1024)
    tcp = sockets.bind_tcp(host, port, shared=False)
    with udp, tcp:
        assert udp.getsockname() == tcp.getsockname() == (host, port)
        assert not udp.getblocking()
        assert not tcp.getblocking()
        assert granted_bytes == 64 * 1024
        with socket.create_connection((host, port), timeout=5):
            pass


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_port_in_use_is_named_with_its_protocol(kind: str) -> None:
    host = loopback()
    held = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, held) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another resolver of the same user would
        other.bind((host, 0))
        if kind == "tcp":
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"{host}:{port} \({kind.upper()}\) is in use") as caught:
            bind(kind, host, port, shared=False)
        assert (caught.value.host, caught.value.port, caught.value.protocol) == (host, port, kind)


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_two_generations_share_a_port_where_that_is_wanted(kind: str) -> None:
    host = loopback()
    first = bind(kind, host, 0, shared=True)
    with first, bind(kind, host, first.getsockname()[1], shared=True) as second:
        assert first.getsockname() == second.getsockname()


def bind(kind: str, host: str, port: int, *, shared: bool) -> socket.socket:
    if kind == "udp":
        return sockets.bind_udp(host, port, shared=shared, receive_buffer_bytes=4096)[0]
    return sockets.bind_tcp(host, port, shared=shared)


def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    with pytest.raises(ResolverError, match=r"192\.0\.2\.77:53 \(UDP\): this machine has no such address; add it"):
        bind("udp", "192.0.2.77", 53, shared=False)


#       errno, what the message says
REFUSED = [
    pytest.param(errno.EACCES, "ports below 1024 need root or CAP_NET_BIND_SERVICE", id="privileged port"),
    pytest.param(errno.ENOBUFS, os.strerror(errno.ENOBUFS), id="anything else"),
]


@pytest.mark.parametrize(("number", "words"), REFUSED)
def test_what_the_kernel_refuses_is_one_line(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ResolverError, match=rf"127\.0\.0\.1:53 \(TCP\): .*{words}"):
        bind("tcp", "127.0.0.1", 53, shared=True)


def test_a_machine_without_ipv6_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def only_ipv4(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", only_ipv4)
    assert sockets.addresses("") == ["0.0.0.0"]
    with pytest.raises(ResolverError, match=r"cannot open a socket for \[::1\]:53"):
        bind("udp", "::1", 53, shared=False)


def test_the_empty_host_is_every_address_of_both_families() -> None:
    assert sockets.addresses("") == ["0.0.0.0", "::"]
    assert sockets.addresses("10.0.0.1") == ["10.0.0.1"]
    first = bind("udp", "0.0.0.0", 0, shared=True)
    with first, bind("udp", "::", first.getsockname()[1], shared=False) as second:
        assert second.getsockname()[0] == "::"


@pytest.mark.parametrize(
    ("host", "port", "text"), [("10.0.0.1", 53, "10.0.0.1:53"), ("::1", 53, "[::1]:53"), ("", 53, ":53")]
)
def test_text(host: str, port: int, text: str) -> None:
    assert sockets.text(host, port) == text
