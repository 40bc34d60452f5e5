"""Loopback addresses and ports that nobody else uses.

Every server that a test starts gets an IPv4 loopback address of its own (all of 127.0.0.0/8 is local on
Linux), so that a port which a test has closed is not taken by its neighbour meanwhile.
"""

import itertools
import os
import random
import socket

_numbers = itertools.count(1)
# Two test runs at the same time on one machine: the process decides the second and third byte.
_BLOCK = random.Random(os.getpid()).randrange(1 << 15)
_PORT_TRIES = 50


def loopback() -> str:
    """Return an address of 127.128.0.0/9 that this process has not given out before."""
    number = next(_numbers)
    block = (_BLOCK + number // 250) % (1 << 15)
    return f"127.{128 | block >> 8}.{block & 255}.{1 + number % 250}"


def free_port(host: str) -> int:
    """Return a port that is free on `host` for UDP and TCP alike at this moment.

    For servers that cannot be given port 0. Raises OSError when none is found.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_PORT_TRIES):
        with socket.socket(family, socket.SOCK_STREAM) as stream:
            stream.bind((host, 0))
            port: int = stream.getsockname()[1]
            with socket.socket(family, socket.SOCK_DGRAM) as datagram:
                try:
                    datagram.bind((host, port))
                except OSError:
                    continue
                return port
    raise OSError(f"no port of {host} is free for UDP and TCP")
