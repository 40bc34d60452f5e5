"""Packets that nobody should send: good ones, spoilt in every way that a byte can be.

Pure and reproducible: the same `random.Random` gives the same packets.
"""

import random
import struct
from collections.abc import Sequence

import dns.edns
import dns.flags
import dns.message
import dns.opcode

INTERESTING = (0x00, 0x01, 0x0C, 0x29, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xC1, 0xFF)
"""Bytes that mean something in a message: ends of names, pointers, OPT, the largest label, counts."""


def queries() -> list[bytes]:
    """Good queries of all kinds, and some that a server refuses."""
    made = []
    for name, rdtype in (("web.example.", "A"), ("web.example.", "AAAA"), (".", "NS"), ("x." * 100, "TXT")):
        made.append(dns.message.make_query(name, rdtype))
        made.append(dns.message.make_query(name, rdtype, use_edns=0, want_dnssec=True))
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
        made.append(dns.message.make_query(name, rdtype, use_edns=0, payload=4096, options=[cookie]))
    others = ("ANY", "AXFR", "IXFR", "DS", "PTR", "HINFO", "SVCB")
    made += [dns.message.make_query("3.2.0.192.in-addr.arpa.", rdtype) for rdtype in others]
    made.append(dns.message.make_query("version.bind.", "TXT", "CH"))
    made.append(dns.message.make_query("web.example.", "A", flags=dns.flags.CD))
    for opcode in (dns.opcode.NOTIFY, dns.opcode.UPDATE, dns.opcode.STATUS):
        message = dns.message.make_query("web.example.", "SOA")
        message.set_opcode(opcode)
        made.append(message)
    answer = dns.message.make_response(made[0])
    return [message.to_wire() for message in [*made, answer]]


def mutate(source: random.Random, seeds: Sequence[bytes], keep: int = 0) -> bytes:
    """Return one of `seeds`, spoilt one to four times; its first `keep` bytes stay."""
    packet = bytearray(source.choice(seeds))
    for _ in range(source.randint(1, 4)):
        at = source.randrange(keep, max(len(packet), keep + 1))
        match source.randrange(9):
            case 0 if at < len(packet):
                packet[at] ^= 1 << source.randrange(8)
            case 1 if at < len(packet):
                packet[at] = source.choice(INTERESTING)
            case 2 if at < len(packet):
                packet[at] = source.randrange(256)
            case 3:
                del packet[at:]
            case 4:
                packet += source.randbytes(source.randint(1, 40))
            case 5:
                other = source.choice(seeds)
                packet[at:] = other[source.randrange(len(other)) :]
            case 6:
                packet[at:at] = packet[at : at + source.randint(1, 30)]
            case 7 if at + 2 <= len(packet):
                struct.pack_into(">H", packet, at, source.choice((0, 1, 2, 0x7FFF, 0xFFFF, len(packet))))
            case _:
                del packet[at : at + source.randint(1, 8)]
    return bytes(packet)
