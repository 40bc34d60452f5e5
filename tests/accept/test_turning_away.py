"""The end of a socket: what has arrived is answered, what would arrive is told at once, nothing waits in vain."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from resolver.accept import sockets
from tests.support.addresses import free_port, loopback

PATIENCE_S = 0.5

HOSTS = [
    pytest.param("", id="an address"),
    pytest.param("0.0.0.0", id="the IPv4 wildcard"),
    pytest.param("::1", id="IPv6"),
    pytest.param("::", id="the IPv6 wildcard"),
]


@contextlib.contextmanager
def client(host: str, port: int) -> Iterator[socket.socket]:
    to = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(PATIENCE_S)
        made.connect((to, port))
        yield made


@pytest.mark.parametrize("host", HOSTS)
def test_what_has_arrived_is_answered_and_the_rest_is_told(host: str) -> None:
    host = host or loopback()
    port = free_port(host)
    sock, _ = sockets.bind_udp(host, port, shared=True, receive_buffer_bytes=65536)
    with sock, client(host, port) as early, client(host, port) as late:
        early.send(b"early")
        sockets.turn_away(sock)
        late.send(b"late")
        query, peer = sock.recvfrom(100)
        assert query == b"early"
        sock.sendto(b"answer", peer)
        assert early.recv(100) == b"answer"
        with pytest.raises(ConnectionRefusedError):
            late.recv(100)
        with pytest.raises(BlockingIOError):
            sock.recvfrom(100)


@pytest.mark.parametrize("host", HOSTS)
def test_another_socket_of_the_address_has_all_that_comes(host: str) -> None:
    host = host or loopback()
    port = free_port(host)
    going, _ = sockets.bind_udp(host, port, shared=True, receive_buffer_bytes=65536)
    staying, _ = sockets.bind_udp(host, port, shared=True, receive_buffer_bytes=65536)
    with going, staying:
        sockets.turn_away(going)
        for _ in range(50):
            with client(host, port) as asking:
                asking.send(b"question")
                assert staying.recv(100) == b"question"


def test_connections_that_have_begun_are_completed_and_no_more_begin() -> None:
    host = loopback()
    port = free_port(host)
    with (
        sockets.bind_tcp(host, port, shared=True) as listening,
        socket.create_connection((host, port), PATIENCE_S) as early,
    ):
        sockets.turn_away_connections(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection((host, port), PATIENCE_S)
        early.sendall(b"question")
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(PATIENCE_S)
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
        assert early.recv(100) == b"answer"


def test_what_a_socket_from_elsewhere_is() -> None:
    host = loopback()
    port = free_port(host)
    udp, _ = sockets.bind_udp(host, port, shared=True, receive_buffer_bytes=65536)
    tcp = sockets.bind_tcp(host, port, shared=True)
    not_listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    unbound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    local, other = socket.socketpair()
    with udp, tcp, not_listening, unbound, local, other:
        assert sockets.listens_at(udp) == (host, port, socket.SOCK_DGRAM)
        assert sockets.listens_at(tcp) == (host, port, socket.SOCK_STREAM)
        assert [sockets.listens_at(each) for each in (not_listening, unbound, local)] == [None] * 3
