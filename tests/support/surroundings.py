"""What tests of our real process need beside it: a Corefile, a question, its status pages, its words."""

import select
import socket
import time
import urllib.error
import urllib.request

import dns.message

from tests.support import mirror, process
from tests.support.addresses import free_port, loopback
from tests.support.client import parse, query

PATIENCE_S = 10.0
LOOK_AGAIN_S = 0.02


class Pages:
    """An address for the status pages, and what they say."""

    def __init__(self) -> None:
        self.host = loopback()
        self.port = free_port(self.host)
        self.address = f"{self.host}:{self.port}"

    def status(self, page: str, timeout_s: float = PATIENCE_S) -> int:
        """Return the HTTP status of /page, 0 when nobody listens. Raises TimeoutError."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/{page}", timeout=timeout_s) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError from None
            return 0

    def until(self, page: str, status: int) -> None:
        """Look until /page says `status`; it is asked over a socket, and nothing tells us of a change."""
        end_s = time.monotonic() + PATIENCE_S
        while self.status(page) != status:
            assert time.monotonic() < end_s, f"/{page} is not {status}"
            select.select([], [], [], LOOK_AGAIN_S)


def ask(server: process.Server, name: str, *, tcp: bool = False, host: str | None = None) -> dns.message.Message:
    """Ask for an A record; raises OSError or TimeoutError without an answer."""
    wire = query(name, "A", edns=True).to_wire()
    address = (host or server.host, server.port)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE_S)
        asking.connect(address)
        asking.sendall(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        if tcp:
            asking.settimeout(PATIENCE_S)
            reader = asking.makefile("rb")
            with reader:
                length = int.from_bytes(reader.read(2), "big")
                return parse(reader.read(length), to=wire)
        return parse(asking.recv(4096), to=wire)


def block(upstream: mirror.Mirror, *lines: str, listen: str = "bind {host}") -> str:
    """Return a Corefile of one block with these directives."""
    inside = "\n".join(f"    {line}" for line in (listen, *lines))
    return f".:{{port}} {{\n{inside}\n    forward . {upstream.host}:{upstream.port} {{\n prefer_udp\n }}\n}}\n"


def said(server: process.Server, text: str) -> None:
    """Wait until the process has printed `text`; a file tells nobody that it has grown."""
    end_s = time.monotonic() + PATIENCE_S
    while text not in server.output():
        assert time.monotonic() < end_s, server.output()
        select.select([], [], [], LOOK_AGAIN_S)
