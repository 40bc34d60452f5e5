"""Where a server runs: on a node of its own, a network namespace, or where none can be made on plain loopback.

On a node a server listens where node-local-dns does and is asked from addresses as of pods. All nodes are alike: a
Service as kube-proxy has it is why connections are tracked there, and a server's packets are not tracked, by rules
that it sets itself or, for those that set none, by `UNTRACKED`. Rules and devices are one server's own, gone
with the last process in there. The machine's network is never touched.

What callers may rely on: `inside` moves the calling thread only, and what it starts; sockets that were opened
inside work from anywhere; a namespace that nobody is in ends with this process, however that ends.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.addresses import free_port, loopback

NODE_HOST, NODE_PORT, NODE_METRICS_PORT = "169.254.20.10", 53, 9253
PODS, FIRST_POD = "10.244.0.0/24", "10.244.0.1"
FIRST_CLIENT = "127.77.0.1"  # where there are no pods
COMMAND_S = 10.0

# A Service as kube-proxy has them. It is why connections are tracked on every node; nobody asks it here.
SERVICE = """\
table ip kube-proxy {
    chain prerouting {
        type nat hook prerouting priority -100
        ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.2
    }
    chain output {
        type nat hook output priority -100
        ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.2
    }
}
"""

# What who runs a resolver on such a node would set up by hand for it: its packets alone are not tracked.
UNTRACKED = f"""\
table inet perf {{
    chain prerouting {{
        type filter hook prerouting priority raw
        udp dport {NODE_PORT} ip daddr {NODE_HOST} notrack accept
        tcp dport {NODE_PORT} ip daddr {NODE_HOST} notrack accept
    }}
    chain output {{
        type filter hook output priority raw
        udp sport {NODE_PORT} ip saddr {NODE_HOST} notrack accept
        udp dport {NODE_PORT} ip daddr {NODE_HOST} notrack accept
        tcp sport {NODE_PORT} ip saddr {NODE_HOST} notrack accept
        tcp dport {NODE_PORT} ip daddr {NODE_HOST} notrack accept
    }}
}}
"""

_OWN = Path("/proc/thread-self/ns/net")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Addresses and ports for one server, and the first address of its clients."""

    host: str
    port: int
    metrics_port: int
    source: str
    namespace: int | None = None  # an open file of it

    @property
    def is_node(self) -> bool:
        """Whether a server may set up rules and devices here."""
        return self.namespace is not None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in there for the length of the block; the same thread must leave it."""
        if self.namespace is None:
            yield
            return
        with _returning():
            _call("setns", self.namespace, _CLONE_NEWNET)
            yield


@contextlib.contextmanager
def node(*, address: bool, rules: bool) -> Iterator[Place]:
    """Make a node. Raises OSError where that is not possible.

    address  Put its address on a device: for servers that do not do so themselves.
    rules    Keep packets from and to that address untracked: for servers that do not do so themselves.
    """
    with _returning():
        _call("unshare", _CLONE_NEWNET)
        namespace = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = ["link set lo up", f"route add local {PODS} dev lo"]
            # As on any machine there is a way to everywhere: who asks before the address is there hears nothing.
            lines.append("route add default dev lo")
            if address:
                lines.append(f"addr add {NODE_HOST}/32 dev lo")
            _run("ip", "-batch", "-", given="".join(f"{line}\n" for line in lines))
            _run("nft", "-f", "-", given=SERVICE + (UNTRACKED if rules else ""))
        except BaseException:
            os.close(namespace)
            raise
    try:
        yield Place(NODE_HOST, NODE_PORT, NODE_METRICS_PORT, FIRST_POD, namespace)
    finally:
        os.close(namespace)


def plain() -> Place:
    """Return an address of its own on the machine's loopback."""
    host = loopback()
    return Place(host, free_port(host), free_port(host), FIRST_CLIENT)


def why_no_nodes() -> str:
    """Why no node can be made here; empty when it can."""
    try:
        with node(address=True, rules=True):
            return ""
    except OSError as problem:
        return str(problem)


@contextlib.contextmanager
def _returning() -> Iterator[None]:
    """Be back in this thread's namespace afterwards."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _call("setns", home, _CLONE_NEWNET)
        os.close(home)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _run(*command: str, given: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # system programs are not in everybody's
    try:
        done = subprocess.run(
            command,
            input=given,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired as problem:
        raise OSError(f"{command[0]}: no end after {COMMAND_S:.0f} s") from problem
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip().partition(chr(10))[0]}")
