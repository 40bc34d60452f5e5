"""Who holds a port, as the kernel shows it."""

import os
import socket
from pathlib import Path

import pytest

from resolver.system.holder import holder
from tests.support.addresses import free_port, loopback


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["own", "::1", "0.0.0.0"])
def test_a_port_of_this_process(protocol: str, host: str) -> None:
    bound = loopback() if host == "own" else host
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as held:
        held.bind((bound, 0))
        if protocol == "tcp":
            held.listen()
        port = held.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()
        assert holder(bound, port, protocol) == f"{name} (pid {os.getpid()})"
        # Whoever wants all addresses, or one that a wildcard covers, is in its way as well.
        assert holder("", port, protocol).endswith(f"(pid {os.getpid()})")
        if host == "0.0.0.0":
            assert holder(loopback(), port, protocol).endswith(f"(pid {os.getpid()})")


def test_a_port_that_nobody_holds() -> None:
    host = loopback()
    assert holder(host, free_port(host), "udp") == ""


def test_a_connection_is_no_holder() -> None:
    """Only a listening socket is in the way of another one."""
    with socket.create_server((loopback(), 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, timeout=5) as client:
            host, port = client.getsockname()
            assert holder(host, port, "tcp") == ""


def test_the_neighbour_on_the_same_port_is_not_meant() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((loopback(), 0))
        assert holder(loopback(), held.getsockname()[1], "udp") == ""


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def test_without_a_look_into_other_processes_nothing_is_said(tmp_path: Path) -> None:
    """As for a user who is not root: the port is there, its process's files are not to be seen."""
    net = tmp_path / "net"
    net.mkdir()
    line = "  1: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n"
    (net / "udp").write_text(HEADER + line)
    (tmp_path / "17" / "fd").mkdir(parents=True)
    assert holder("127.0.0.1", 53, "udp", tmp_path) == ""
    (tmp_path / "17" / "fd" / "3").symlink_to("socket:[4711]")
    (tmp_path / "17" / "comm").write_text("dnsmasq\n")
    assert holder("127.0.0.1", 53, "udp", tmp_path) == "dnsmasq (pid 17)"
    assert holder("127.0.0.1", 54, "udp", tmp_path) == ""


def test_a_system_without_proc(tmp_path: Path) -> None:
    assert holder("127.0.0.1", 53, "udp", tmp_path / "proc") == ""
