"""kube-dns: unbound in a namespace of its own, with the cluster's zone and names that say who answered.

It starts in some 50 ms and is found ready by asking. `asked()` reads its own counter; `stop` is a pod that is gone.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import dns.message

from tests.lab.addresses import said_by
from tests.lab.spaces import LabError, Space, pause
from tests.support import zones

START_S = 10.0
ASK_S = 0.1

_CONFIG = """\
server:
    interface: 0.0.0.0@53
    interface: ::0@53
    interface-automatic: yes
    access-control: 0.0.0.0/0 allow_snoop
    access-control: ::0/0 allow_snoop
    do-daemonize: no
    use-syslog: no
    verbosity: 1
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    module-config: "iterator"
    num-threads: 1
    so-reuseport: no
    incoming-num-tcp: 200
    tcp-idle-timeout: 60000
    rrset-roundrobin: no
    statistics-cumulative: yes
    local-zone: "lab." redirect
    local-data: "lab. {ttl_s} IN A {said_4}"
    local-data: "lab. {ttl_s} IN AAAA {said_6}"
    local-data: "lab. {ttl_s} IN TXT {what}"
remote-control:
    control-enable: yes
    control-interface: "{folder}/control"
    control-use-cert: no
"""
_ZONE = """\
auth-zone:
    name: "{name}"
    zonefile: "{path}"
    for-downstream: yes
    for-upstream: no
    fallback-enabled: no
"""


class NameServer:
    """One unbound in `space`; number 0 is the world outside, others are replicas of kube-dns."""

    def __init__(self, space: Space, number: int, folder: Path, *, ttl_s: int) -> None:
        """Start it; it answers after `wait`."""
        executable = shutil.which("unbound", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if executable is None:
            raise LabError("unbound is not installed; `make test` as root installs it")
        self.space = space
        self.number = number
        self._folder = folder / space.what
        self._folder.mkdir()
        said_4, said_6 = said_by(number)
        text = _CONFIG.format(folder=self._folder, ttl_s=ttl_s, said_4=said_4, said_6=said_6, what=space.what)
        for count, (name, zone) in enumerate(zones.ALL.items()):
            path = self._folder / f"{count}.zone"
            path.write_text(zone)
            text += _ZONE.format(name=name, path=path)
        config = self._folder / "unbound.conf"
        config.write_text(text)
        self.log = self._folder / "log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                space.command("setpriv", "--pdeathsig", "KILL", executable, "-d", "-c", str(config)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Return once it answers. Raises LabError with its log."""
        wire = dns.message.make_query("lab.", "A").to_wire()
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s and self._process.poll() is None:
            try:
                with self.space.connect(socket.SOCK_DGRAM, "127.0.0.1", 53, timeout_s=ASK_S) as asking:
                    asking.send(wire)
                    asking.recv(512)
                    return
            except OSError:
                pause(0.01)
        raise LabError(f"{self.space.what} does not answer:\n{self.log.read_text()[-2000:]}")

    def asked(self) -> int:
        """Return how many questions it has had."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(START_S)
            control.connect(str(self._folder / "control"))
            control.sendall(b"UBCT1 stats_noreset\n")
            with control.makefile("r") as reader:
                pairs = dict(line.strip().split("=", 1) for line in reader if "=" in line)
        return int(pairs["total.num.queries"])

    def stop(self) -> None:
        """Kill it. Doing so twice is fine."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(START_S)
