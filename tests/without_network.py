"""Starts our process where there is no network but the loopback device; run by `test_process` in a namespace.

Prints what a client gets over UDP and TCP (rcode and extended error), and the exit status.
"""

import subprocess

import dns.edns
import dns.rcode

from tests.support import process
from tests.support.surroundings import ask


def main() -> None:
    """Ask while no upstream can be reached."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with process.running(".:{port} {\n bind {host}\n errors\n forward . 192.0.2.1 2001:db8::1\n}\n") as server:
        for tcp in (False, True):
            answer = ask(server, "web.example.", tcp=tcp)
            reasons = [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)]
            print("tcp" if tcp else "udp", dns.rcode.to_text(answer.rcode()), *map(int, reasons))
        print("exit", server.stop())


if __name__ == "__main__":
    main()
