"""Our real server, as a user starts it: `python -m resolver -conf FILE`, in a process of its own.

    with process.running(corefile) as server:      # `{port}` and `{host}` in the text are filled in
        await Client(server.host, server.port).ask("host1.example.com.")

What callers may rely on: it answers when the block is entered (found by asking, not by waiting); it is
stopped by SIGTERM to its own pid and has ended when the block is left; `output()` is what it printed.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dns.message

from tests.support.addresses import free_port, loopback

ROOT = Path(__file__).resolve().parents[2]
START_S = 20.0
STOP_S = 15.0
ASK_AGAIN_S = 0.1


class ServerError(Exception):
    """A server ended, or answers nothing; the text has what it printed."""


class Server:
    """One running server; made by `running()`."""

    def __init__(self, host: str, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.port = port
        self.pid = process.pid
        self._log = log
        self._process = process

    def output(self) -> str:
        """What it has printed so far, both streams."""
        return self._log.read_text(errors="replace")

    def send(self, a_signal: signal.Signals) -> None:
        """Send the signal and wait for nothing."""
        self._process.send_signal(a_signal)

    def ended(self, within_s: float = STOP_S) -> int:
        """Return the exit status once it has ended by itself; raises subprocess.TimeoutExpired."""
        return self._process.wait(within_s)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, wait for the end, return the exit status. Doing so twice is fine."""
        if self._process.poll() is None:
            self._process.send_signal(with_signal)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)
        return self._process.returncode


@contextlib.contextmanager
def running(
    corefile: str,
    *,
    flags: Sequence[str] = (),
    host: str | None = None,
    port: int | None = None,
    pin_to_cpu: int | None = None,
    output: int | None = None,
) -> Iterator[Server]:
    """Run `resolver -conf FILE` with this Corefile, in which `{host}` and `{port}` are filled in.

    output  Where it writes to, a file descriptor, if not to the file that `Server.output` reads.

    Raises ServerError with its output when it does not answer within `START_S`.
    """
    address = host or loopback()
    listen_port = port or free_port(address)
    with tempfile.TemporaryDirectory(prefix="resolver-") as name:
        folder = Path(name)
        text = corefile.replace("{host}", address).replace("{port}", str(listen_port))
        (folder / "Corefile").write_text(text)
        log = folder / "log"
        pin = [] if pin_to_cpu is None else ["taskset", "-c", str(pin_to_cpu)]
        with log.open("wb") as log_file:
            process = subprocess.Popen(
                [*pin, sys.executable, "-m", "resolver", "-conf", str(folder / "Corefile"), *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log_file if output is None else output,
                stderr=subprocess.STDOUT,
            )
        server = Server(address, listen_port, log, process)
        try:
            if not answers(address, listen_port, lambda: process.poll() is not None):
                raise ServerError(f"no answer from {address}:{listen_port}:\n{server.output()[-4000:]}")
            yield server
        finally:
            server.stop()


def answers(host: str, port: int, has_ended: Callable[[], bool], *, within_s: float = START_S) -> bool:
    """Ask until anything comes back; False when the server has ended or `within_s` is over."""
    wire = dns.message.make_query(".", "NS").to_wire()
    until_s = time.monotonic() + within_s
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not connected: a port that is still closed is silence then, not an error at once and a busy loop.
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(ASK_AGAIN_S)
        while time.monotonic() < until_s and not has_ended():
            asking.sendto(wire, (host, port))
            with contextlib.suppress(TimeoutError):
                if asking.recvfrom(4096)[0][:2] == wire[:2]:
                    return True
    return False
