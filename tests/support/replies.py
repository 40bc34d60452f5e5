"""What a scripted upstream can do with a question, and the bytes that come of it.

Pure; `scripted` has the sockets.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Proto = Literal["udp", "tcp"]
Forgery = Literal["id", "name", "type", "no question", "not a response", "garbage"]


@dataclass(frozen=True)
class Reply:
    """What to do with a question. Records are master-file lines; the question's letter case is echoed.

    release        Answer only once this is set.
    silent         Protocols over which nothing is answered at all.
    truncate       Over UDP: no records and TC.
    forgeries      Wrong answers that are sent first, each spoilt in one way; the right one follows
    right          ... unless this is False.
    copies         How many times the right answer is sent.
    close          TCP: close the connection after this answer (or instead of it, when silent over "tcp").
    edns_size      Size in our OPT record when the query has one; 0: never an OPT record.
    raw            Makes the answer's bytes from the query's; the fields for records are not looked at.
    """

    records: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    rcode: str = "NOERROR"
    aa: bool = True
    ra: bool = True
    ad: bool = False
    tc: bool = False
    release: asyncio.Event | None = None
    silent: tuple[Proto, ...] = ()
    truncate: bool = False
    forgeries: tuple[Forgery, ...] = ()
    right: bool = True
    copies: int = 1
    close: bool = False
    edns_size: int = 1232
    raw: Callable[[bytes], bytes] | None = None


SILENT = Reply(silent=("udp", "tcp"))
NXDOMAIN = Reply(rcode="NXDOMAIN", authority=(". 60 IN SOA a.root. nobody.root. 1 1800 900 604800 60",))


def reply_to(wire: bytes, reply: Reply, proto: Proto) -> list[bytes]:
    """Return the messages that `reply` says, in the order they are sent. Pure."""
    query = dns.message.from_wire(wire)
    answers = [_forge(wire, forgery) for forgery in reply.forgeries]
    if reply.right:
        right = reply.raw(wire) if reply.raw else _right(query, reply, proto).to_wire(max_size=65535)
        answers += [right] * reply.copies
    return answers


def _right(query: dns.message.Message, reply: Reply, proto: Proto) -> dns.message.Message:
    answer = dns.message.make_response(query, our_payload=reply.edns_size)
    if not reply.edns_size:
        answer.use_edns(False)
    answer.set_rcode(dns.rcode.from_text(reply.rcode))
    flags = (
        (reply.aa, dns.flags.AA),
        (reply.ra, dns.flags.RA),
        (reply.ad, dns.flags.AD),
        (reply.tc, dns.flags.TC),
    )
    for wanted, flag in flags:
        if wanted:
            answer.flags |= flag
    if reply.truncate and proto == "udp":
        answer.flags |= dns.flags.TC
        return answer
    sections = ((answer.answer, reply.records), (answer.authority, reply.authority))
    for section, lines in (*sections, (answer.additional, reply.additional)):
        section.extend(dns.rrset.from_text_list(*_fields(line)) for line in lines)
    return answer


def _fields(line: str) -> tuple[str, int, str, str, list[str]]:
    name, ttl, rdclass, rdtype, data = line.split(None, 4)
    return name, int(ttl), rdclass, rdtype, [data]


def _forge(wire: bytes, forgery: Forgery) -> bytes:
    """Return a wrong answer: one that a careless matcher would take."""
    if forgery == "garbage":
        return wire[:2] + b"\xff" * 40
    if forgery == "not a response":
        return wire
    query = dns.message.from_wire(wire)
    question = query.question[0]
    forged = "forged." if question.name == dns.name.root else f"forged.{question.name}"
    if forgery == "name":
        query.question = [dns.rrset.RRset(dns.name.from_text(forged), question.rdclass, question.rdtype)]
    elif forgery == "type":
        other = dns.rdatatype.MX if question.rdtype != dns.rdatatype.MX else dns.rdatatype.TXT
        query.question = [dns.rrset.RRset(question.name, question.rdclass, other)]
    elif forgery == "no question":
        query.question = []
    answer = dns.message.make_response(query, recursion_available=True)
    if forgery == "id":
        answer.id ^= 0x5555
    if question.rdtype == dns.rdatatype.A and forgery in ("id", "name"):
        name = str(query.question[0].name)
        answer.answer = [dns.rrset.from_text(name, 30, "IN", "A", "203.0.113.66")]
    return answer.to_wire()
