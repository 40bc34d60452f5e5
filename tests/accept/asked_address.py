"""Asks a wildcard listener at each address of a host that has several; run by `test_udp` in a network namespace.

Prints every address whose answers, hit and late one alike and in either lane, came from that very address.
"""

import socket
import subprocess

from tests.accept.lane import LANES, Bench, Lane, answer_to, query

ADDRESSES = ("10.77.0.1", "10.77.0.2", "10.78.0.1", "fd77::1", "fd77::2", "fd78::1")


def main() -> None:
    """Give the addresses to the loopback device and ask at each."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        length = "128" if ":" in address else "32"
        subprocess.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", "nodad"], check=True)
    for address in ADDRESSES:
        if all(answers_come_from(address, lane.values[0]) for lane in LANES):
            print(address)


def answers_come_from(address: str, lane: Lane) -> bool:
    """Ask at `address`, from another one: without the asked one, the kernel would choose that."""
    with Bench(lane, host="::" if ":" in address else "0.0.0.0", ask_at=address) as bench:
        bench.client.close()
        bench.client = socket.socket(bench.sock.family, socket.SOCK_DGRAM)
        bench.client.bind(("fd77::2" if ":" in address else "10.77.0.2", 0))
        bench.client.connect((address, bench.sock.getsockname()[1]))
        bench.client.setblocking(False)
        wire, late = query(), query("late.example.")
        bench.keep(wire)
        hit = bench.ask(wire)
        bench.ask(late)
        bench.listener.send(answer_to(late), bench.clients[-1])
        return hit == answer_to(wire) and bench.received() == answer_to(late)


if __name__ == "__main__":
    main()
