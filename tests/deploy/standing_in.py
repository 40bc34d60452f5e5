"""A process where a manifest would put it, on a machine of its own; run by tests in `unshare --net --mount`.

    python -m tests.deploy.standing_in FOLDER ARGUMENT...

Starts `resolver ARGUMENT...` where there is no network but the loopback device, the root is read-only, /run and
/var/lib/node-resolver are empty, ports from 53 up are free for everybody and no capability is left.
/etc/resolv.conf names 127.0.0.1 and 127.0.0.2; at 127.0.0.2 the demo answers, and /run/systemd/resolve/resolv.conf
names it alone. FOLDER is mounted at /mnt, where the arguments find its files. The addresses of a node (`NODE`) are
on the loopback device, and the Service variables of a DaemonSet are set. RESOLVER and PROBE name built programs to
start instead of this tree's, INIT is what a shell does first. CAPABILITIES, like `net_admin,net_bind_service`, are
what is left of root's: then neither the addresses nor the ports are prepared, and the process does that itself.

Prints what a client is told: an rcode each over UDP and TCP, the address that the machine's own resolver library
finds for a short name; what the probe socket says to `health` and `ready`, if there is one; with CAPABILITIES,
whether pods are brought to us; the exit status; whether a snapshot of the cache was left, if there is a hand-over
directory; with CAPABILITIES, whether our device was left.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.support import process

ROOT = Path(__file__).resolve().parents[2]
US, DEMO = "127.0.0.1", "127.0.0.2"
NODE = ("169.254.20.10", "10.96.0.10")
SERVICES = {"KUBE_DNS_SERVICE_HOST": NODE[1], "KUBE_DNS_UPSTREAM_SERVICE_HOST": DEMO}
NAME = "web.shop.svc.cluster.local."
RIGHTS = [right for right in os.environ.get("CAPABILITIES", "").split(",") if right]
CONFINED = [
    "setpriv",
    f"--bounding-set={','.join(['-all', *(f'+{right}' for right in RIGHTS)])}",
    "--inh-caps=-all",
    "--no-new-privs",
]
METRICS = "http://127.0.0.1:9253/metrics"
BROUGHT = 'resolver_interception{family="1"} 1.0'
BROUGHT_S = READY_S = 10.0
THIS_TREE = (sys.executable, "-m", "resolver")
SOCKET = Path("/run/resolver/probe")
SNAPSHOT = Path("/var/lib/node-resolver/handover/cache.snapshot")
ANSWERED = ["udp", "NOERROR", "tcp", "NOERROR", "library", "10.96.7.7"]
"""What is printed first when all is well; then the probes, and `exit 0`."""

LIBRARY = "import socket; print(socket.getaddrinfo('web.shop', 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])"


def stand_in(folder: Path, arguments: list[str], **programs: str) -> list[str]:
    """Start `resolver` with these arguments on a machine of its own; return the words that clients were told.

    Skips the test where no namespaces can be made. `programs` are the variables above.
    """
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-mn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces can be made here: needs root")
    command = [unshare, "--net", "--mount", sys.executable, "-m", __name__, str(folder), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **programs}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def furnish(folder: str, asked: str) -> None:
    """Make the machine: network, mounts, resolv.conf."""

    def run(*command: str) -> None:
        subprocess.run(command, check=True)

    run("ip", "link", "set", "lo", "up")
    if RIGHTS:
        run("ip", "route", "add", "default", "dev", "lo")  # who asks before the address is there hears nothing
    else:
        for address in NODE:
            run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("53")
    for path in ("/run", "/var/lib"):
        run("mount", "-t", "tmpfs", "tmpfs", path)
    run("mount", "--bind", folder, "/mnt")
    for made in (SOCKET.parent, Path("/run/systemd/resolve"), Path("/var/lib/node-resolver")):
        made.mkdir(parents=True)
    Path("/run/systemd/resolve/resolv.conf").write_text(f"nameserver {DEMO}\n")
    Path("/run/xtables.lock").touch()
    pods = Path("/run/pod.conf")
    pods.write_text(
        f"nameserver {asked}\nnameserver {DEMO}\nsearch svc.cluster.local cluster.local\noptions ndots:5\n"
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


def tell(asked: str, us: subprocess.Popen[bytes]) -> None:
    """Print what clients are told by the server at this address."""
    question = dns.message.make_query(NAME, "A")
    for name, ask in (("udp", dns.query.udp), ("tcp", dns.query.tcp)):
        print(name, dns.rcode.to_text(ask(question, asked, timeout=5).rcode()))
    print("library", subprocess.check_output([sys.executable, "-c", LIBRARY], text=True).strip())
    if SOCKET.exists():
        probe = os.environ["PROBE"].split() if "PROBE" in os.environ else [*THIS_TREE, "probe"]
        for word in ("health", "ready"):
            print(word, soon_ok([*probe, word, str(SOCKET)], us))


def soon_ok(probe: list[str], us: subprocess.Popen[bytes]) -> str:
    """Ask as a kubelet does, again until it is OK or has had its time; return what was said last.

    Ready comes after the first answer: a pod that is brought here must already be answered.
    """
    until_s = time.monotonic() + READY_S
    while True:
        said = subprocess.run(probe, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
        if said == "OK" or time.monotonic() > until_s:
            return said
        with suppress(subprocess.TimeoutExpired):
            us.wait(0.1)
            return "ended"


def are_brought(us: subprocess.Popen[bytes]) -> bool:
    """Whether our metrics say, soon, that pods' questions are brought to us."""
    until_s = time.monotonic() + BROUGHT_S
    while time.monotonic() < until_s:
        with urllib.request.urlopen(METRICS, timeout=BROUGHT_S) as page:
            if BROUGHT in page.read().decode():
                return True
        with suppress(subprocess.TimeoutExpired):
            us.wait(0.1)
            return False
    return False


def main(folder: str, *arguments: str) -> None:
    """Start all of it and ask what a client asks."""
    os.environ.update(SERVICES)
    words = [re.sub(r"\$\((\w+)\)", lambda found: os.environ[found[1]], word) for word in arguments]
    asked = NODE[0] if any(NODE[0] in word for word in words) else US
    furnish(folder, asked)
    subprocess.run(["sh", "-ec", os.environ.get("INIT", "")], check=True)
    resolver = os.environ.get("RESOLVER", " ".join(THIS_TREE)).split()
    with (
        started(*THIS_TREE, "demo", "-bind", DEMO, "-port", "53"),
        started(*CONFINED, *resolver, *words) as us,
    ):
        for host in (DEMO, asked):
            assert process.answers(host, 53, lambda: us.poll() is not None), "no answer"
        tell(asked, us)
        if RIGHTS:
            print("interception", "on" if are_brought(us) else "off")
        os.kill(us.pid, signal.SIGTERM)
        print("exit", us.wait(15))
    if any("handover-dir" in word for word in words):
        print("snapshot", "kept" if SNAPSHOT.exists() else "missing")
    if RIGHTS:
        link = subprocess.run(["ip", "link", "show", "nodelocaldns"], capture_output=True, check=False)
        print("device", "gone" if link.returncode else "left")


if __name__ == "__main__":
    main(*sys.argv[1:])
