"""Servers as processes of ours: started on one processor, asked until right, scraped, ended by their own pid.

What callers may rely on: a server that `running` hands out has answered a forwarded question correctly, and on a
node questions are brought to it by the rules that it sets, if it sets any; it and all that it started have ended
when the block is left, also after Ctrl-C; where the system has setpriv, they end even when this process is killed.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perf import cpu
from perf.contestants import ROOT, Contestant, Plan, find
from perf.places import Place
from perf.questions import NEEDLES, Ask
from tests.support.unbound import Unbound

START_S = 20.0
SET_UP_S = 20.0
LOOK_AGAIN_S = 0.1
STOP_S = 10.0
ASK_AGAIN_S = 0.002
SCRAPE_EVERY_S = 2.0
SCRAPE_FIRST_S = 1.0
UNBOUND_COUNTS = ("cachehits", "expired", "queries")
HTTP_S = 5.0


class StartError(Exception):
    """A server ended at once, answered nothing right or set no rules; the text has the end of what it printed."""


@dataclass(frozen=True)
class Server:
    """One running server and whom it asks. `start_s`: from its start to its first right answer."""

    contestant: Contestant
    plan: Plan
    upstream: Unbound
    pid: int
    start_s: float

    @property
    def name(self) -> str:
        """As in tables."""
        return self.contestant.name

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics, summed over their labels; empty for a server without."""
        return sums(self._page()) if self.contestant.scraped else {}

    def _page(self) -> str:
        address = f"http://{self.plan.host}:{self.plan.place.metrics_port}/metrics"
        with self.plan.place.inside(), urllib.request.urlopen(address, timeout=HTTP_S) as response:
            return str(response.read().decode())

    def brought(self) -> bool:
        """Whether its rules bring questions to it; True where it sets none. Raises OSError."""
        if not (self.plan.place.is_node and self.contestant.rules):
            return True
        if self.contestant.ours:
            return self.contestant.rules in self._page()
        with self.plan.place.inside():
            saved = subprocess.run(
                [find("iptables-save") or "iptables-save"],
                capture_output=True,
                text=True,
                timeout=HTTP_S,
                check=False,
            )
        return self.contestant.rules in saved.stdout

    def cache_counts(self) -> tuple[float, float, float] | None:
        """Return hits, stale answers among them, and questions so far, by the server's own counters.

        Stale are those that their TTL does not show: CoreDNS gives them TTL 0, which the load generator sees.
        """
        if self.name == "unbound":
            control = find("unbound-control")
            if control is None:
                return None
            done = subprocess.run(
                [control, "-c", str(self.plan.folder / "unbound.conf"), "stats_noreset"],
                capture_output=True,
                text=True,
                timeout=HTTP_S,
                check=False,
            )
            counts = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
            try:
                hits, expired, queries = (float(counts[f"total.num.{what}"]) for what in UNBOUND_COUNTS)
                return hits, expired, queries
            except KeyError:
                return None
        values = self.metrics()
        if not values:
            return None
        hits = values.get("coredns_cache_hits_total", 0)
        stale = values.get("coredns_cache_served_stale_total", 0) if self.contestant.ours else 0
        return hits, stale, values.get("coredns_dns_requests_total", 0)


def sums(text: str) -> dict[str, float]:
    """Sum the samples of one exposition by metric name."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.partition("{")[0].split()[0], line.rpartition(" ")[2]
            found[name] = found.get(name, 0) + float(value)
    return found


@contextlib.contextmanager
def running(
    contestant: Contestant, place: Place, *, upstream: Unbound, entries: int, on_cpu: int
) -> Iterator[Server]:
    """Run one server at this place for the length of the block. Raises StartError."""
    with tempfile.TemporaryDirectory(prefix="perf-") as name:
        folder = Path(name)
        plan = Plan(folder, place, upstream.host, upstream.port, entries)
        command = contestant.command(plan)
        end_with_us = shutil.which("setpriv")
        if end_with_us:
            command = [end_with_us, "--pdeathsig", "TERM", *command]
        log = folder / "log"
        with log.open("wb") as output, cpu.pinned(on_cpu), place.inside():
            begun_s = time.monotonic()
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            with place.inside():
                right = answers(plan, process, judged=contestant.forwards)
            server = Server(contestant, plan, upstream, process.pid, time.monotonic() - begun_s)
            if not right or not set_up(server):
                printed = log.read_text(errors="replace").strip().splitlines()[-3:]
                lacking = "sets no rules" if right else "does not answer"
                raise StartError(f"{contestant.name} {lacking}: {' / '.join(printed) or 'it printed nothing'}")
            yield server
        finally:
            stop(process)


def set_up(server: Server) -> bool:
    """Wait until the server's rules are there; False when time is over."""
    until_s = time.monotonic() + SET_UP_S
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError):  # its first answer may come before its metrics' port is open
            if server.brought():
                return True
        threading.Event().wait(LOOK_AGAIN_S)  # nobody tells when they are
    return False


def answers(plan: Plan, process: subprocess.Popen[bytes], *, judged: bool) -> bool:
    """Ask for one name after the other until an answer is right; False when the server ends or time is over."""
    until_s = time.monotonic() + START_S
    number = 0
    # Not connected: a port that is still closed is silence then, not an error at once and a busy loop.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        if not plan.place.is_node:  # a port of every address might be the one that the server is to have
            asking.bind((plan.place.source, 0))
        asking.settimeout(ASK_AGAIN_S)
        while time.monotonic() < until_s and process.poll() is None:
            number += 1
            asking.sendto(Ask(f"start{number}.long.perf.example").wire(), (plan.host, plan.port))
            with contextlib.suppress(TimeoutError):
                answer = asking.recvfrom(4096)[0]
                if answer[2] & 0x80 and (not judged or (answer[3] & 15 == 0 and NEEDLES["A"] in answer)):
                    return True
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and what it started. A second Ctrl-C does not keep us from it."""
    with uninterrupted():
        descendants = cpu.tree(process.pid)[1:] if process.poll() is None else []
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)
        for pid in descendants:  # ours by descent a moment ago; pids are not given again so soon
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore SIGINT inside the block; only the main thread is ever interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def scraped(server: Server) -> Iterator[None]:
    """Read the server's metrics every 2 s inside the block, as Prometheus would, only more often."""
    if not server.contestant.scraped:
        yield
        return
    over = threading.Event()

    def scrape() -> None:
        # Prometheus keeps its connection, and so do we: it is closed by an error, and then made anew.
        connection = http.client.HTTPConnection(server.plan.host, server.plan.place.metrics_port, timeout=HTTP_S)
        wait_s = SCRAPE_FIRST_S
        while not over.wait(wait_s):
            wait_s = SCRAPE_EVERY_S
            try:
                with server.plan.place.inside():
                    connection.request("GET", "/metrics")
                    connection.getresponse().read()
            except (OSError, http.client.HTTPException):  # a server that does not answer us loses questions too
                connection.close()
        connection.close()

    thread = threading.Thread(target=scrape, name="scraper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
