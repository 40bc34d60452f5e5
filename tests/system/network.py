"""A node between a pod and kube-dns, each a network namespace of its own, and sockets in them.

`Network` puts programs named `ip`, `nft`, `iptables`... first in PATH that run the real ones in the node: the code
under test starts them by name, as it does on a node. Every server answers its own name, so an answer says who gave
it. The Service address is sent to kube-dns by iptables, in the form that kube-proxy gives it.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.system.talking import Client, Servers, make_socket

CLUSTER4, CLUSTER6 = "10.96.0.10", "fd00:96::10"
LOCAL4, LOCAL6 = "169.254.20.10", "fd00:20::10"
POD4, POD6 = "10.244.0.2", "fd00:244::2"
GATEWAY4, GATEWAY6 = "10.244.0.1", "fd00:244::1"
KUBE4, KUBE6 = "10.244.1.2", "fd00:245::2"
US, KUBE_DNS = "us", "kube-dns"

PROGRAMS = (
    "ip", "nft", "conntrack", "sysctl",
    "iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
    *(f"{family}-{kind}{verb}" for family in ("iptables", "ip6tables") for kind in ("nft", "legacy")
      for verb in ("", "-save", "-restore")),
)  # fmt: skip

LONG_S = 60.0
"""`alive_s` of tests that are not about it: no element runs out while a busy machine gets to the next line."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

_PATH = f"/usr/sbin:/sbin:{os.environ['PATH']}"
_IP = shutil.which("ip", path=_PATH) or "ip"  # the real one: tests put others first in PATH
_numbers = iter(range(10_000))


class Network:
    """The three namespaces; a context manager that leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        prefix = f"nr-{os.getpid()}-{next(_numbers)}"
        self.node, self.pod, self.kube = (f"{prefix}-{name}" for name in ("node", "pod", "kube"))
        self.programs = directory / "programs"
        self._servers: Servers | None = None
        self._resident: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Network":
        try:
            self._build()
            self.wrap_all()
            self._resident = self._move_in()
            self._servers = Servers()
            self.serve(KUBE_DNS, self.kube, KUBE4, KUBE6)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._servers is not None:
            self._servers.close()
        if self._resident is not None:
            self._resident.kill()
            self._resident.communicate()
        for name in (self.node, self.pod, self.kube):
            subprocess.run([_IP, "netns", "del", name], check=False, capture_output=True)

    def _build(self) -> None:
        for name in (self.node, self.pod, self.kube):
            subprocess.run([_IP, "netns", "add", name], check=True)
            # A link-local address that is still being tried asks for no neighbour: first packets would be lost.
            self._sysctl(name, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        self._sysctl(self.node, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self._sysctl(self.node, "net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0")  # each error is sent
        self.configure(self.node, ["link set lo up"])
        self._join("to-pod", self.pod, (GATEWAY4, GATEWAY6), (POD4, POD6))
        self._join("to-kube", self.kube, ("10.244.1.1", "fd00:245::1"), (KUBE4, KUBE6))

    def _join(self, device: str, space: str, node: tuple[str, str], peer: tuple[str, str]) -> None:
        self.configure(self.node, [
            f"link add {device} type veth peer name eth0 netns {space}",
            f"addr add {node[0]}/24 dev {device}", f"addr add {node[1]}/64 dev {device} nodad",
            f"link set {device} up",
        ])  # fmt: skip
        self.configure(space, [
            f"addr add {peer[0]}/24 dev eth0", f"addr add {peer[1]}/64 dev eth0 nodad",
            "link set eth0 up", "link set lo up",
            f"route add default via {node[0]}", f"route add default via {node[1]}",
        ])  # fmt: skip

    @property
    def proc_net(self) -> Path:
        """What /proc/net is in the node: each process sees its own there, and ours is not in it."""
        assert self._resident is not None
        return Path(f"/proc/{self._resident.pid}/net")

    def _move_in(self) -> "subprocess.Popen[str]":
        """Start a process that only lives in the node."""
        words = [_IP, "netns", "exec", self.node, "sh", "-c", "echo here; exec sleep infinity"]
        resident = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert resident.stdout is not None
        resident.stdout.readline()
        return resident

    @staticmethod
    def _sysctl(name: str, *words: str) -> None:
        subprocess.run([_IP, "netns", "exec", name, "sysctl", "-q", "-w", *words], check=True)

    @staticmethod
    def configure(name: str, lines: list[str]) -> None:
        """Run lines of `ip` in one of the namespaces."""
        subprocess.run([_IP, "-n", name, "-batch", "-"], input="\n".join(lines), text=True, check=True)

    def clean(self) -> None:
        """Undo what a test did but for addresses, devices and servers."""
        self.run("nft", "flush", "ruleset")
        self.run("conntrack", "-F")
        self.wrap_all()

    def wrap_all(self) -> None:
        """Have the real programs found again."""
        self.programs.mkdir(exist_ok=True)
        for program in PROGRAMS:
            path = shutil.which(program, path=_PATH)
            assert path, f"{program} is not installed"
            self.wrap(program, f'exec nsenter --net=/run/netns/{self.node} {path} "$@"')

    def wrap(self, program: str, script: str) -> None:
        """Put `script` in the place of `program`."""
        target = self.programs / program
        target.write_text(f"#!/bin/sh\n{script}\n")
        target.chmod(0o755)

    def run(self, *command: str, text: str = "") -> str:
        """Run `command` in the node, from outside of the code under test."""
        ran = self._run(command, text)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        return ran.stdout

    def fails(self, *command: str) -> bool:
        """Tell whether `command` is refused in the node."""
        return self._run(command, "").returncode != 0

    def _run(self, command: tuple[str, ...], text: str) -> "subprocess.CompletedProcess[str]":
        inside = [_IP, "netns", "exec", self.node, *command]
        return subprocess.run(
            inside, input=text, text=True, capture_output=True, check=False, env={**os.environ, "PATH": _PATH}
        )

    def kube_proxy(self, *, v4: str = CLUSTER4, v6: str = CLUSTER6, program: str = "tables") -> None:
        """Send the Service addresses to kube-dns, as kube-proxy does with iptables."""
        for family, address, target in (("ip", v4, KUBE4), ("ip6", v6, f"[{KUBE6}]")):
            if not address:
                continue
            rules = "".join(
                f"-A KUBE-SERVICES -d {address} -p {protocol} --dport 53 -j DNAT --to-destination {target}:53\n"
                for protocol in ("udp", "tcp")
            )
            self.run(
                f"{family}{program}-restore", "--noflush",
                text=f"*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n"
                f"-A POSTROUTING -s {address} -j MASQUERADE\n{rules}COMMIT\n",
            )  # fmt: skip

    def add_addresses(self, *addresses: str) -> None:
        """Put our addresses on the node, without the code that is there for it."""
        for address in addresses:
            self.run("ip", "addr", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))

    def serve(self, name: str, namespace: str, *addresses: str, port: int = 53) -> None:
        """Answer `name` on these addresses over UDP and TCP."""
        assert self._servers is not None
        for address in addresses:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                server = make_socket(namespace, address, kind)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    server.listen()
                self._servers.add(server, name.encode())

    def serve_us(self, *addresses: str) -> None:
        self.serve(US, self.node, *addresses)

    async def late_answer(self, asked: Awaitable[None]) -> Callable[[], int]:
        """Return once we have the question that is asked; what is returned answers it."""
        assert self._servers is not None
        self._servers.slow = US.encode()
        await asked
        server, client = await asyncio.to_thread(self._servers.waiting.get)
        self._servers.slow = b""
        return partial(server.sendto, US.encode(), client)

    def client(self, namespace: str, address: str, kind: int = socket.SOCK_DGRAM, port: int = 53) -> "Client":
        return Client(make_socket(namespace, address, kind), address, port)

    async def who(self, namespace: str, address: str, kind: int = socket.SOCK_DGRAM, port: int = 53) -> str:
        """Ask from a new socket who is there; "" is nobody within half a second."""
        with self.client(namespace, address, kind, port) as client:
            return await client.ask()

    def conntrack(self) -> str:
        """What is tracked on the node, IPv4 and IPv6, to or from port 53."""
        both = [self.run("conntrack", "-L", "-f", family) for family in ("ipv4", "ipv6")]
        return "\n".join(line for text in both for line in text.splitlines() if "dport=53 " in line)


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = 10.0) -> None:
    """Wait until `condition` holds: the kernel tells nobody when an element runs out or a process has ended."""
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 see above
            await asyncio.sleep(0.01)


def first_in_path(made: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code under test find the programs of this network."""
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    monkeypatch.setattr("resolver.system.iptables.PROC_NET", made.proc_net)


def network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The body of a fixture: a network for one test."""
    with Network(directory) as made:
        first_in_path(made, monkeypatch)
        yield made
