"""Who holds a port: read from /proc, for the one error message that people meet most."""

import os
import re
import socket
from pathlib import Path

_SOCKET = re.compile(r"socket:\[(\d+)\]")


def holder(host: str, port: int, protocol: str, proc: Path = Path("/proc")) -> str:
    """Return `NAME (pid N)` of a process that holds `port` of `protocol` (`udp`, `tcp`) on `host`, or "".

    It can be known only for processes that we may look into: all of them for root, else our own user's.
    Never raises; takes a few milliseconds, so it is for start-up, not for the loop.
    """
    inodes: set[str] = set()
    for name in (protocol, f"{protocol}6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state = fields[1], fields[3]
            address, _, local_port = local.rpartition(":")
            if int(local_port, 16) != port or (protocol == "tcp" and state != "0A"):
                continue
            if _covers(address, host):
                inodes.add(fields[9])
    return _owner(inodes, proc) if inodes else ""


def _covers(address: str, host: str) -> bool:
    """Tell whether the kernel's hexadecimal `address` is `host` or a wildcard, or `host` is one."""
    if set(address) == {"0"} or host in {"", "0.0.0.0", "::"}:
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    words = [packed[i : i + 4][::-1] for i in range(0, len(packed), 4)]  # each word in the CPU's order
    return address == b"".join(words).hex().upper()


def _owner(inodes: set[str], proc: Path) -> str:
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                match = _SOCKET.match(os.readlink(descriptor))
                if match and match[1] in inodes:
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return ""
