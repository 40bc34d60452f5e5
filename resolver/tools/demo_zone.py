"""What `resolver demo` answers: a small cluster as kube-dns shows it, and a zone of awkward sizes. Pure.

`DemoZone.answer` is a whole authoritative server without sockets: bytes in, bytes out. Callers may rely on:

- Never an exception, whatever the bytes: what is no query is dropped (None) or gets FORMERR.
- Names inside the zones get NOERROR, NODATA or NXDOMAIN with the zone's SOA; all others REFUSED.
- A UDP answer is never larger than the client allows (512 bytes without EDNS, at most `UDP_MAX_BYTES`):
  one that would be is sent without records and with TC.

This is a stand-in for trying things out and for tests, not a name server for anybody's zone.
"""

from collections.abc import Iterator

from dnslib import AAAA, CLASS, EDNS0, PTR, QTYPE, RCODE, RR, A, DNSHeader, DNSRecord

from resolver.errors import Malformed
from resolver.wire import message

Name = tuple[bytes, ...]

UDP_MAX_BYTES = 1232  # RFC 9715 section 3
UDP_PLAIN_BYTES = 512  # RFC 1035 section 4.2.1
TCP_MAX_BYTES = 65535
CHAIN_MAX = 8  # CNAME steps followed; the longest chain here has 4

CLUSTER = """\
$ORIGIN cluster.local.
@                             5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@                             5 IN NS ns.dns.cluster.local.
ns.dns                        5 IN A 10.96.0.10
kubernetes.default.svc        5 IN A 10.96.0.1
kube-dns.kube-system.svc      5 IN A 10.96.0.10
web.shop.svc                 30 IN A 10.96.7.7
web.shop.svc                 30 IN AAAA fd00:10:96::7
_http._tcp.web.shop.svc      30 IN SRV 0 50 80 web.shop.svc.cluster.local.
db.shop.svc                  30 IN A 10.244.1.5
db.shop.svc                  30 IN A 10.244.2.6
db.shop.svc                  30 IN A 10.244.3.7
db-0.db.shop.svc             30 IN A 10.244.1.5
db-1.db.shop.svc             30 IN A 10.244.2.6
db-2.db.shop.svc             30 IN A 10.244.3.7
_pg._tcp.db.shop.svc         30 IN SRV 0 33 5432 db-0.db.shop.svc.cluster.local.
_pg._tcp.db.shop.svc         30 IN SRV 0 33 5432 db-1.db.shop.svc.cluster.local.
_pg._tcp.db.shop.svc         30 IN SRV 0 33 5432 db-2.db.shop.svc.cluster.local.
payments.shop.svc            30 IN CNAME api.demo.example.
10-244-1-5.shop.pod          30 IN A 10.244.1.5
10-244-2-6.shop.pod          30 IN A 10.244.2.6
"""

EXAMPLE = """\
$ORIGIN demo.example.
@           3600 IN SOA ns.demo.example. hostmaster.demo.example. 1 7200 1800 86400 60
@           3600 IN NS ns.demo.example.
ns          3600 IN A 192.0.2.53
www          300 IN A 192.0.2.80
www          300 IN AAAA 2001:db8::80
api          300 IN A 192.0.2.81
alias        300 IN CNAME www.demo.example.
chain        300 IN CNAME chain2.demo.example.
chain2       200 IN CNAME chain3.demo.example.
chain3       100 IN CNAME chain4.demo.example.
chain4        50 IN CNAME www.demo.example.
quick          1 IN A 192.0.2.1
slow        3600 IN A 192.0.2.2
txt          300 IN TXT "a demo of node-resolver"
"""

REVERSE = """\
$ORIGIN {zone}
@             30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@             30 IN NS ns.dns.cluster.local.
"""

MANY = 100
BIG_STRINGS = 20
BIG_STRING_BYTES = 200  # 20 x 200 bytes of text are 4,000, and 4.3 KB on the wire


def zone_texts() -> dict[str, str]:
    """Return the zones as master files, by name; the large sets and the reverse zones are computed."""
    big = (f'big 300 IN TXT "{chr(ord("a") + n) * BIG_STRING_BYTES}"\n' for n in range(BIG_STRINGS))
    many = (f"many 300 IN A 198.51.100.{n}\n" for n in range(1, MANY + 1))
    return {
        "cluster.local.": CLUSTER,
        "demo.example.": EXAMPLE + "".join(big) + "".join(many),
        "10.in-addr.arpa.": REVERSE.format(zone="10.in-addr.arpa."),
        "d.f.ip6.arpa.": REVERSE.format(zone="d.f.ip6.arpa."),
    }


class DemoZone:
    """All the demo's zones, loaded."""

    def __init__(self) -> None:
        self._zones: dict[Name, RR] = {}  # zone name to its SOA
        self._records: dict[Name, dict[int, list[RR]]] = {}
        for text in zone_texts().values():
            for record in RR.fromZone(text):
                self._add(record)
        for record in list(self._pointers()):
            self._add(record)

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the response to `wire`, or None when it deserves none (RFC 1035 section 4.1.1: no query)."""
        if len(wire) < 12 or wire[2] & 0x80:
            return None
        try:
            query = message.parse(wire)
        except Malformed:
            return wire[:2] + bytes((0x80 | wire[2] & 0x79, RCODE.FORMERR)) + bytes(8)
        limit = TCP_MAX_BYTES if tcp else UDP_PLAIN_BYTES
        opts = [record for record in query.ar if record.rtype == QTYPE.OPT]
        if opts and not tcp:
            limit = min(max(opts[0].rclass, UDP_PLAIN_BYTES), UDP_MAX_BYTES)
        reply = self._reply(query, opts)
        packed = bytes(reply.pack())
        if len(packed) > limit:
            reply.rr, reply.auth = [], []
            reply.header.tc = 1
            packed = bytes(reply.pack())
        return packed

    def _reply(self, query: DNSRecord, opts: list[RR]) -> DNSRecord:
        header = DNSHeader(id=query.header.id, qr=1, opcode=query.header.opcode, rd=query.header.rd, bitmap=None)
        reply = DNSRecord(header, questions=query.questions[:1])
        if query.header.opcode != 0:
            header.rcode = RCODE.NOTIMP
        elif len(query.questions) != 1 or len(opts) > 1:
            header.rcode = RCODE.FORMERR  # RFC 9619; RFC 6891 section 6.1.1
        elif opts and opts[0].edns_ver:
            reply.add_ar(EDNS0(udp_len=UDP_MAX_BYTES, ext_rcode=1))  # BADVERS is 16: the upper bits are here
            return reply
        else:
            self._look_up(reply)
        if opts:
            reply.add_ar(EDNS0(udp_len=UDP_MAX_BYTES, flags="do" if opts[0].ttl & 0x8000 else ""))
        return reply

    def _look_up(self, reply: DNSRecord) -> None:
        """Fill in what the zones hold for the question of `reply`, following CNAMEs among them."""
        question = reply.questions[0]
        name, header = _key(question.qname.label), reply.header
        if question.qclass != CLASS.IN or self._soa(name) is None or question.qtype in (QTYPE.AXFR, QTYPE.IXFR):
            header.rcode = RCODE.REFUSED
            return
        header.aa = 1
        for step in range(CHAIN_MAX):
            found = self._records.get(name)
            soa = self._soa(name)
            if soa is None:
                return  # a CNAME out of our zones: the asker goes on from there
            if found is None:
                header.rcode = RCODE.NXDOMAIN
            wanted = self._wanted(found or {}, question.qtype)
            records = wanted or (found or {}).get(QTYPE.CNAME, [])
            for record in records:
                owner = question.qname if step == 0 else record.rname
                reply.add_answer(RR(owner, record.rtype, record.rclass, record.ttl, record.rdata))
            if not records:
                reply.add_auth(soa)
            if wanted or not records:
                return
            name = _key(records[0].rdata.label.label)

    @staticmethod
    def _wanted(found: dict[int, list[RR]], qtype: int) -> list[RR]:
        if qtype == QTYPE.ANY:
            return [record for records in found.values() for record in records]
        return found.get(qtype, [])

    def _soa(self, name: Name) -> RR | None:
        """The SOA of the zone that holds `name`, or None."""
        for start in range(len(name) + 1):
            if name[start:] in self._zones:
                return self._zones[name[start:]]
        return None

    def _add(self, record: RR) -> None:
        name = _key(record.rname.label)
        self._records.setdefault(name, {}).setdefault(record.rtype, []).append(record)
        if record.rtype == QTYPE.SOA:
            self._zones[name] = record
        # Names between a record and its zone exist as well: NODATA, not NXDOMAIN (RFC 8020 section 2).
        for start in range(1, len(name)):
            self._records.setdefault(name[start:], {})

    def _pointers(self) -> Iterator[RR]:
        """A PTR for every address of the cluster zone, as kube-dns gives one for Services and their pods."""
        for name, types in self._records.items():
            if b"svc" not in name:
                continue
            for record in (*types.get(QTYPE.A, ()), *types.get(QTYPE.AAAA, ())):
                yield RR(_reverse(record.rdata), QTYPE.PTR, CLASS.IN, 30, PTR(record.rname))


def _reverse(address: A | AAAA) -> str:
    """Return the name under in-addr.arpa or ip6.arpa (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    if isinstance(address, AAAA):
        return ".".join(reversed(bytes(address.data).hex())) + ".ip6.arpa."
    return ".".join(str(octet) for octet in reversed(address.data)) + ".in-addr.arpa."


def _key(labels: tuple[bytes, ...]) -> Name:
    return tuple(label.lower() for label in labels)
