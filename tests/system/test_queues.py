"""What waits at a socket and what was lost there: counted against what a test has sent."""

import os
import socket

import pytest

from resolver.accept.tcp_listener import TcpListener
from resolver.system import queues
from tests.support import node
from tests.support.addresses import loopback
from tests.support.scrape import Scrape

SENT = 500


def test_each_datagram_is_read_or_counted_as_lost() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind((loopback(), 0))
        assert queues.receive_queue(listener).drops == 0
        for _ in range(SENT):
            client.sendto(b"x" * 40, listener.getsockname())
        full = queues.receive_queue(listener)
        read = 0
        while True:
            try:
                listener.recv(100)
            except BlockingIOError:
                break
            read += 1
        empty = queues.receive_queue(listener)
    assert 0 < read < SENT
    assert full.drops == empty.drops == SENT - read
    assert full.waiting_bytes > read * 40
    assert empty.waiting_bytes == 0
    assert full.buffer_bytes == empty.buffer_bytes > 0


def test_connections_that_nobody_accepts() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((loopback(), 0))
        listener.listen(4)
        assert queues.accept_queue(listener) == (0, 4, 0)
        clients = []
        for _ in range(8):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            client.connect_ex(listener.getsockname())
            clients.append(client)
        found = queues.accept_queue(listener)
        for client in clients:
            client.close()
    assert found == (5, 4, 3)  # the kernel takes one more than it was asked for


def test_what_is_no_socket_is_an_error_and_nothing_else() -> None:
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.close()
    with pytest.raises(OSError, match=os.strerror(9)):
        queues.receive_queue(closed)
    with pytest.raises(OSError, match=os.strerror(9)):
        queues.accept_queue(closed)


async def scrape(server: node.Node) -> Scrape:
    return Scrape((await server.daemon._pages.metrics()).body.decode())


async def test_a_listener_that_cannot_keep_up_says_so() -> None:
    async with node.serving("prometheus 127.0.0.1:0") as server:
        (udp,) = server.daemon.listeners.udp.values()
        (tcp,) = server.daemon.listeners.tcp.values()
        assert isinstance(tcp, TcpListener)
        label = udp.labels.server
        server.daemon._prober.close()
        await udp.finish()  # whatever has arrived; no question of our own disturbs the count
        udp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(SENT):
                client.sendto(b"\0" * 40, (server.host, server.port))
        page = await scrape(server)
        lost = page.value("resolver_udp_receive_drops_total", server=label)
        assert 0 < lost < SENT
        assert page.value("resolver_udp_receive_queue_bytes", server=label) > 0
        before = udp.received
        await udp.finish()
        assert lost == SENT - (udp.received - before)
        page = await scrape(server)
        assert page.value("resolver_udp_receive_queue_bytes", server=label) == 0
        assert page.value("resolver_udp_receive_buffer_bytes", server=label) == udp.sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF
        )
        assert page.value("resolver_tcp_accept_drops_total", server=label) == 0
        assert page.value("resolver_tcp_accept_queue", server=label) == 0


async def test_both_sockets_of_a_wildcard_are_one_address() -> None:
    async with node.serving(".:PORT {\n}") as server:
        page = await scrape(server)
        found = page.by("resolver_udp_receive_buffer_bytes", "server")
        sizes = [
            udp.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for udp in server.daemon.listeners.udp.values()
        ]
        assert found == {(f"dns://:{server.port}",): sum(sizes)}
