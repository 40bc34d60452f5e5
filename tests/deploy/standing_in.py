"""A process where a manifest would put it, on a machine of its own; run by tests in `unshare --net --mount`.

    python -m tests.deploy.standing_in FOLDER ARGUMENT...

Starts `resolver ARGUMENT...` where there is no network but the loopback device, the root is read-only, /run is
empty, ports from 53 up are free for everybody and no capability is left. /etc/resolv.conf names 127.0.0.1 and
127.0.0.2; at 127.0.0.2 the demo answers, and /run/systemd/resolve/resolv.conf names it alone. FOLDER is mounted at
/mnt, where the arguments find its files.

Prints what a client is told: an rcode each over UDP and TCP, the address that the machine's own resolver library
finds for a short name, what the probe socket says to `health` and `ready` if there is one, the exit status.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rcode

from tests.support import process

ROOT = Path(__file__).resolve().parents[2]
US, DEMO = "127.0.0.1", "127.0.0.2"
NAME = "web.shop.svc.cluster.local."
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
SOCKET = Path("/run/resolver/probe")
LIBRARY = "import socket; print(socket.getaddrinfo('web.shop', 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])"


def furnish(folder: str) -> None:
    """Make the machine: network, mounts, resolv.conf."""

    def run(*command: str) -> None:
        subprocess.run(command, check=True)

    run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("53")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mount", "--bind", folder, "/mnt")
    for path in (SOCKET.parent, Path("/run/systemd/resolve")):
        path.mkdir(parents=True)
    Path("/run/systemd/resolve/resolv.conf").write_text(f"nameserver {DEMO}\n")
    pods = Path("/run/pod.conf")
    pods.write_text(
        f"nameserver {US}\nnameserver {DEMO}\nsearch svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    run("mount", "--bind", str(pods), "/etc/resolv.conf")
    run("mount", "-o", "remount,bind,ro", "/")


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block is left."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def main(folder: str, *arguments: str) -> None:
    """Ask what a client asks."""
    furnish(folder)
    resolver = (sys.executable, "-m", "resolver")
    with (
        started(*resolver, "demo", "-bind", DEMO, "-port", "53"),
        started(*WITHOUT_CAPABILITIES, *resolver, *arguments) as us,
    ):
        for host in (DEMO, US):
            assert process.answers(host, 53, lambda: us.poll() is not None), "no answer"
        question = dns.message.make_query(NAME, "A")
        for name, ask in (("udp", dns.query.udp), ("tcp", dns.query.tcp)):
            print(name, dns.rcode.to_text(ask(question, US, timeout=5).rcode()))
        print("library", subprocess.check_output([sys.executable, "-c", LIBRARY], text=True).strip())
        if SOCKET.exists():
            for word in ("health", "ready"):
                asked = [*resolver, "probe", word, str(SOCKET)]
                print(
                    word,
                    subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip(),
                )
        os.kill(us.pid, signal.SIGTERM)
        print("exit", us.wait(15))


if __name__ == "__main__":
    main(*sys.argv[1:])
