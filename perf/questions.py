"""What the workloads ask, and what is right as an answer.

An `Ask` is one question with what its answer must have. `pack` writes asks for our load generator, which looks
into every answer; `lines` writes them for dnsperf, which knows names and types only. Pure: equal arguments give
equal questions, so all servers are asked the same.
"""

import itertools
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

TYPES = {"A": 1, "AAAA": 28}
NOERROR, NXDOMAIN = 0, 3
ADDRESS = "192.0.2.1"  # of every name in the zones below
ADDRESS6 = "2001:db8::1"
NEEDLES = {"A": b"\x00\x04\xc0\x00\x02\x01", "AAAA": b"\x00\x10\x20\x01\x0d\xb8" + bytes(11) + b"\x01"}
EDNS = b"\x00" + struct.pack("!HHIH", 41, 4096, 0, 0)  # dnsperf's OPT: what fills the caches is asked again
SHORT_S = 30

PERF_ZONE = f"""\
$ORIGIN perf.example.
@       3600 IN SOA ns.perf.example. hostmaster.perf.example. 1 7200 1800 86400 60
@       3600 IN NS ns.perf.example.
ns      3600 IN A 192.0.2.53
*.short   {SHORT_S} IN A {ADDRESS}
*.long  3600 IN A {ADDRESS}
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question; the answer must have this rcode and, for NOERROR with data, the address."""

    name: str
    rdtype: str = "A"
    edns: bool = False
    rcode: int = NOERROR
    data: bool = True

    def wire(self) -> bytes:
        """The question as a message with ID 0 and RD set."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in self.name.rstrip(".").split("."))
        head = struct.pack("!HHHHHH", 0, 0x0100, 1, 0, 0, int(self.edns))
        return head + labels + b"\x00" + struct.pack("!HH", TYPES[self.rdtype], 1) + (EDNS if self.edns else b"")


def pack(asks: Iterable[Ask], *, judged: bool = True) -> bytes:
    """The file that native/load.c reads. Without `judged` any answer will do: the floor sends questions back."""
    parts = []
    for ask in asks:
        wire = ask.wire()
        needle = NEEDLES[ask.rdtype] if judged and ask.data and ask.rcode == NOERROR else b""
        parts.append(struct.pack("!HBB", len(wire), ask.rcode if judged else 0, len(needle)) + wire + needle)
    return b"".join(parts)


def lines(asks: Iterable[Ask]) -> Iterator[str]:
    """Lines of dnsperf's data file, without their ends."""
    return (f"{ask.name} {ask.rdtype}" for ask in asks)


def names(count: int, run: str, zone: str = "short") -> list[str]:
    """`count` names that only this run has."""
    return [f"{run}-{number}.{zone}.perf.example" for number in range(count)]


def zipf(different: int, count: int, seed: int = 1) -> list[int]:
    """`count` numbers below `different`; number n comes with weight 1/(n+1), as popularity of names does."""
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(different)))
    return random.Random(seed).choices(range(different), cum_weights=weights, k=count)


def mixed(names_: Sequence[str], picks: Iterable[int]) -> list[Ask]:
    """Questions for A of the picked names; every other one with EDNS."""
    return [Ask(names_[pick], edns=bool(place % 2)) for place, pick in enumerate(picks)]


def warming(names_: Sequence[str], *, times: int = 3) -> list[Ask]:
    """Each name with and without EDNS, `times` over: asked, asked again, and once more as known names are."""
    once = [Ask(name, edns=edns) for name in names_ for edns in (False, True)]
    return once * times
