"""Asks a wildcard listener at each address of a host that has several; run by `test_udp` in a network namespace.

Prints every address whose answers, hit and late one alike, came from that very address.
"""

import subprocess

from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from tests.accept.lane import Bench, answer_to, query

ADDRESSES = ("10.77.0.1", "10.77.0.2", "10.78.0.1", "fd77::1", "fd77::2", "fd78::1")


def main() -> None:
    """Give the addresses to the loopback device and ask at each."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        length = "128" if ":" in address else "32"
        subprocess.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", "nodad"], check=True)
    for address in ADDRESSES:
        with Bench((UdpListener, PacketCache), host="::" if ":" in address else "0.0.0.0", ask_at=address) as bench:
            # From another address than the one that is asked: the kernel's own choice would be that one.
            client = "fd77::2" if ":" in address else "10.77.0.2"
            port = bench.sock.getsockname()[1]
            bench.client.close()
            bench.client = bench.client.__class__(bench.sock.family, bench.client.type)
            bench.client.bind((client, 0))
            bench.client.connect((address, port))
            bench.client.setblocking(False)
            wire, late = query(), query("late.example.")
            bench.keep(wire)
            hit = bench.ask(wire)
            bench.ask(late)
            bench.listener.send(answer_to(late), bench.clients[-1])
            if hit == answer_to(wire) and bench.received() == answer_to(late):
                print(address)


if __name__ == "__main__":
    main()
