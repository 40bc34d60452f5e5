"""A fresh node: kube-dns behind a Service, pods, a kubelet with our real process, and a record of what happened.

    def test_something(lab):
        pod = lab.pod()
        lab.deploy()                        # our process, by the kubelet, until it is Ready and pods are sent to us
        load = lab.load(pod, CLUSTER_4, rate=1000, seconds=3)
        lab.say("SIGKILL")
        ...

`deploy` need not be called: without it, this is a node without a node-local cache. Everything is found by this
run's own names and removed by `close`; what a killed run leaves behind is removed when the next lab is made.

Longer than 300 lines because it is the one place that knows all parts of the lab.
"""

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab import cgroup, network, service
from tests.lab.addresses import CLUSTER_4, LOCAL_4, LOCAL_IPS, OUTSIDE_4, UPSTREAM_4
from tests.lab.asking import ask_author
from tests.lab.clients import Load, Lookups, Pace, Pod, Programs
from tests.lab.container import Container, Spec
from tests.lab.kubedns import NameServer
from tests.lab.kubelet import Kubelet
from tests.lab.kubelet import Pod as OurPod
from tests.lab.spaces import Space, remove_stale, wait_for
from tests.support.scrape import Scrape

COREFILE = """\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    cache 30
    loop
    bind {bind}
    forward . {upstream} {{
        prefer_udp
    }}
    prometheus :9253
    health {local}:8080 {{
        lameduck 1s
    }}
}}
.:53 {{
    errors
    cache 30
    loop
    bind {bind}
    forward . {outside} {{
        prefer_udp
    }}
    prometheus :9253
}}
"""
KNOWN = [f"known{number}.lab" for number in range(200)]
HTTP_S = 2.0
PROBE_S = 1.0
METRICS_PORT = 9253
SYNC = "1s"


class Lab:
    """One node and all around it; made and removed by the fixture."""

    def __init__(self, folder: Path, programs: Programs, *, replicas: int = 2, ttl_s: int = 300) -> None:
        """Build it. Raises LabError; `close` is to be called all the same."""
        self.begun_s = time.monotonic()
        self.folder = folder
        self.programs = programs
        self.ttl_s = ttl_s
        self.stories: list[tuple[float, str]] = []
        self.watched: list[Lookups | Load] = []
        self._spaces: list[Space] = []
        self._number = 1
        self._servers: list[NameServer] = []
        self._kubelet: Kubelet | None = None
        for name in remove_stale(*filter(None, [cgroup.parent()])):
            self.say(f"removed {name} of a run that is gone")
        try:
            self._build(replicas)
        except BaseException:
            self.close()
            raise

    def _build(self, replicas: int) -> None:
        self.node = self.space("node")
        network.set_up_node(self.node)
        service.strict_filter(self.node)
        outside = self.space("outside")
        network.attach_outside(self.node, outside)
        self.outside = NameServer(outside, 0, self.folder, ttl_s=self.ttl_s)
        self._servers.append(self.outside)
        self.replicas: dict[int, NameServer] = {}
        for number in range(1, replicas + 1):
            space = self.space(f"kube-dns-{number}")
            network.attach_replica(self.node, space, number)
            self.replicas[number] = NameServer(space, number, self.folder, ttl_s=self.ttl_s)
            self._servers.append(self.replicas[number])
        service.proxy(self.node, sorted(self.replicas))
        for server in self._servers:
            server.wait()
        self.shared = self.folder / "handover"
        self.shared.mkdir(mode=0o700)
        (self.folder / "xtables.lock").touch()
        self.host = Pod(self.node, self.folder, CLUSTER_4)
        self.say(f"the node stands after {time.monotonic() - self.begun_s:.2f} s")

    def space(self, what: str) -> Space:
        """Make a namespace that goes with the lab."""
        made = Space(what)
        self._spaces.append(made)
        return made

    def say(self, text: str) -> float:
        """Add to the story; return the time, on the clock of all that is recorded."""
        now_s = time.monotonic()
        self.stories.append((now_s - self.begun_s, text))
        return now_s

    # --- clients

    def pod(self, nameserver: str = CLUSTER_4) -> Pod:
        """Make a pod whose resolv.conf points at the Service, or at the address given."""
        self._number += 1
        space = self.space(f"pod-{self._number}")
        network.attach_pod(self.node, space, self._number)
        return Pod(space, self.folder, nameserver)

    def lookups(
        self,
        pod: Pod,
        *,
        libc: str = "glibc",
        names: Sequence[str] = KNOWN[:20],
        every_ms: float = 20,
        times: int = 0,
    ) -> Lookups:
        """Begin getaddrinfo in a pod, one after another until `end`, or `times` in all."""
        program = getattr(self.programs, libc)
        begun = Lookups(pod, program, names, every_ms=every_ms, times=times, folder=self.folder)
        self.watched.append(begun)
        return begun

    def load(
        self,
        pod: Pod,
        host: str = CLUSTER_4,
        protocol: str = "udp",
        *,
        names: Sequence[str] = KNOWN,
        **pace: Any,
    ) -> Load:
        """Begin a load from a pod; it ends by itself or by `end(early=True)`. `pace`: fields of Pace."""
        begun = Load(
            *(pod, self.programs.steady, protocol, host), pace=Pace(**pace), names=names, folder=self.folder
        )
        self.watched.append(begun)
        return begun

    # --- our process

    @property
    def kubelet(self) -> Kubelet:
        """The node's kubelet."""
        if self._kubelet is None:
            self._kubelet = Kubelet(self.node, self.folder / "pods", self.is_ready, self.say)
        return self._kubelet

    def spec(self, *more_flags: str, corefile: str = COREFILE) -> Spec:
        """The manifest: node-local-dns's flags and Corefile, plus `more_flags`."""
        path = self.folder / f"Corefile-{time.monotonic_ns()}"
        bind, local = " ".join(LOCAL_IPS), LOCAL_4
        path.write_text(corefile.format(bind=bind, local=local, upstream=UPSTREAM_4, outside=OUTSIDE_4))
        flags = ("-localip", ",".join(LOCAL_IPS), "-syncinterval", SYNC, "-probe-socket", "/run/pod/probe")
        return Spec(path, (*flags, *more_flags), self.shared, self.folder / "xtables.lock")

    def deploy(self, *more_flags: str, intercepting: bool = True, **manifest: Any) -> OurPod:
        """Start our process and wait until it is Ready and, if it is to be, pods are answered by it.

        manifest  Other fields of its Spec.
        """
        spec = replace(self.spec(*more_flags), **manifest)
        pod = self.kubelet.start(spec)
        self.kubelet.until_ready(pod)
        if intercepting:
            self.until_intercepting()
        return pod

    def until_intercepting(self, within_s: float = 10.0) -> float:
        """Wait until what is sent to the Service is answered by us; return how long that took."""
        what = "questions to the Service are answered by us"
        took_s = wait_for(what, lambda: self.author() == "us", within_s=within_s)
        self.say("what is sent to the Service is answered by us")
        return took_s

    def author(self, host: str = CLUSTER_4) -> str:
        """Ask the Service from the node itself; return who answered, "" for nobody within 0.2 s."""
        return ask_author(self.node, host)

    def is_ready(self, container: Container) -> bool:
        """The readiness probe, as the manifest has it: `probe ready` on the pod's own socket."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PROBE_S)
            try:
                asking.connect(str(container.folder / "probe"))
                asking.sendall(b"ready\n")
                return asking.recv(64) == b"OK\n"
            except OSError:
                return False

    def get(self, host: str, port: int, path: str) -> tuple[int, str]:
        """Fetch a page as somebody on the node would; status 0 when nobody listens."""
        browser = http.client.HTTPConnection(host, port, timeout=HTTP_S)
        try:
            browser.sock = self.node.connect(socket.SOCK_STREAM, host, port, timeout_s=HTTP_S)
            browser.request("GET", path)
            answer = browser.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            browser.close()

    def scrape(self) -> Scrape:
        """Our metrics."""
        status, text = self.get("127.0.0.1", METRICS_PORT, "/metrics")
        assert status == 200, "the metrics page does not answer"
        return Scrape(text)

    # --- what the node's kernel knows

    def tracked(self, address: str) -> list[str]:
        """The entries of the connection table that a client made by asking this address."""
        family = "ipv6" if ":" in address else "ipv4"
        text = self.node.run("conntrack", "-L", "-f", family, "-d", address, check=False)
        return [line for line in text.splitlines() if "src=" in line]

    def forget_connections(self) -> None:
        """Empty the connection table."""
        self.node.run("conntrack", "-F", check=False)

    def tables(self) -> list[str]:
        """The nftables tables that are not iptables' own, like `ip node-resolver-7`."""
        ours = []
        for line in self.node.run("nft", "list", "tables").splitlines():
            words = line.split()
            if words[2] not in {"nat", "filter", "raw", "mangle", "security"}:
                ours.append(" ".join(words[1:]))
        return ours

    def until_beat(self) -> None:
        """Return just after a beat: our rules are in for as long as they ever are."""
        left_ms = self._left_ms()

        def rises() -> bool:
            nonlocal left_ms
            before_ms, left_ms = left_ms, self._left_ms()
            return left_ms > before_ms

        wait_for("a beat", rises)

    def _left_ms(self) -> int:
        """How long our first address is still in, when nothing is said to the kernel any more."""
        (table,) = self.tables()
        found = re.search(
            r"expires (?:(\d+)s)?(?:(\d+)ms)?", self.node.run("nft", "list", "set", *table.split(), "alive4")
        )
        return int(found[1] or 0) * 1000 + int(found[2] or 0) if found else 0

    def until_no_table(self, within_s: float) -> float:
        """Wait until no table but iptables' own is there; return how long that took."""
        return wait_for("our table is gone", lambda: not self.tables(), within_s=within_s)

    # --- the end

    def report(self) -> str:
        """What every client saw, what happened, and the state of the node, for whoever reads why a test failed."""
        lines = list(self.stories)
        for client in self.watched:
            with contextlib.suppress(Exception):
                if isinstance(client, Load):
                    client.end(early=True)
            lines += client.describe(self.begun_s)
        text = ["", "what happened, in seconds:"]
        text += [f"{at_s:8.3f}  {line}" for at_s, line in sorted(lines)]
        commands: list[tuple[str, ...]] = [
            ("nft", "list", "ruleset"), ("conntrack", "-L"), ("conntrack", "-L", "-f", "ipv6"), ("ip", "addr"),
            ("iptables", "-S"), ("ss", "-lntup"),
        ]  # fmt: skip
        for command in commands:
            with contextlib.suppress(Exception):
                text += ["", f"# {' '.join(command)}", self.node.run(*command, check=False)[-6000:]]
        for container in self._kubelet.everything if self._kubelet else ():
            with contextlib.suppress(OSError):
                text += [
                    "",
                    f"# log of {container.folder.name}, ended: {container.ended}",
                    container.output()[-4000:],
                ]
        return "\n".join(text)

    def close(self) -> None:
        """Remove everything, whatever fails on the way."""
        with contextlib.ExitStack() as stack:
            for space in self._spaces:
                stack.callback(space.remove)
            for server in self._servers:
                stack.callback(server.stop)
            for client in self.watched:
                stack.callback(client.kill)
            if self._kubelet is not None:
                stack.callback(self._kubelet.close)
