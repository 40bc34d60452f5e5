"""One question from somewhere in the lab, over UDP or TCP, and who answered it."""

import socket

import dns.exception
import dns.message
import dns.rdatatype

from tests.lab.addresses import author
from tests.lab.spaces import Space

ASK_S = 0.2


def ask(
    space: Space, host: str, name: str = "who.lab.", *, tcp: bool = False, within_s: float = ASK_S
) -> dns.message.Message:
    """Ask from `space`. Raises OSError (TimeoutError when nothing comes)."""
    wire = dns.message.make_query(name, "A").to_wire()
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with space.connect(kind, host, 53, timeout_s=within_s) as asking:
        asking.sendall(len(wire).to_bytes(2, "big") + wire if tcp else wire)
        if not tcp:
            return dns.message.from_wire(asking.recv(4096))
        with asking.makefile("rb") as reader:
            return dns.message.from_wire(reader.read(int.from_bytes(reader.read(2), "big")))


def ask_author(space: Space, host: str, *, tcp: bool = False, within_s: float = ASK_S) -> str:
    """Ask and return who answered: "us", "kube-dns-N"; "" when nobody did, or not with an address."""
    try:
        answer = ask(space, host, tcp=tcp, within_s=within_s)
    except (OSError, dns.exception.DNSException):
        return ""
    found = [rdata.address for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A for rdata in rrset]
    return author(found[0]) if found else ""
