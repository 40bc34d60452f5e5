"""Whether another generation of this process is on the node: who goes must not take away what the other one uses.

Each process that sets up the node holds an abstract Unix socket, which belongs to the network namespace, as device
and rules do, and which the kernel removes with the process. Their names tell who is there; nobody connects to them.
"""

import os
import socket
from pathlib import Path

_PREFIX = "node-resolver/"


class Presence:
    """This process's socket, from the moment that it may use what is on the node."""

    def __init__(self, interface_name: str) -> None:
        """Be there. Raises OSError."""
        self._prefix = f"{_PREFIX}{interface_name}/"
        self._name = f"{self._prefix}{os.urandom(8).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(f"\0{self._name}")

    def others(self, listing: Path = Path("/proc/net/unix")) -> int:
        """Return how many other generations are there. Reads a file: for a thread. Raises OSError."""
        names = {line.rpartition(" ")[2] for line in listing.read_text(errors="replace").splitlines()}
        return sum(name.startswith(f"@{self._prefix}") and name != f"@{self._name}" for name in names)

    def close(self) -> None:
        """Be gone."""
        self._socket.close()
