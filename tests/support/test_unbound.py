"""The real upstream answers what `zones` promises; other tests rely on it."""

from collections.abc import Iterator

import dns.flags
import dns.rcode
import pytest

from tests.support import unbound
from tests.support.client import Client, records
from tests.support.process import answers


@pytest.fixture(scope="module")
def upstream() -> Iterator[unbound.Unbound]:
    with unbound.running() as server:
        yield server


#    name, type, DO, rcode, number of records in the answer section
FACTS = [
    ("host999.example.com.", "A", False, "NOERROR", 1),
    ("chain.example.com.", "A", False, "NOERROR", 5),
    ("txtonly.example.com.", "A", False, "NOERROR", 0),
    ("nope.example.com.", "A", False, "NXDOMAIN", 0),
    ("headless.shop.svc.cluster.local.", "A", False, "NOERROR", 3),
    ("_http._tcp.web.shop.svc.cluster.local.", "SRV", False, "NOERROR", 1),
    ("7.7.96.10.in-addr.arpa.", "PTR", False, "NOERROR", 1),
    ("www.signed.example.", "A", False, "NOERROR", 1),
    ("www.signed.example.", "A", True, "NOERROR", 2),
    ("elsewhere.test.", "A", False, "NXDOMAIN", 0),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact[0]} {fact[1]}")
async def test_zones(upstream: unbound.Unbound, fact: tuple[str, str, bool, str, int]) -> None:
    name, rdtype, do, rcode, number = fact
    answer = await Client(upstream.host, upstream.port).ask(name, rdtype, do=do)
    assert (dns.rcode.to_text(answer.rcode()), len(records(answer))) == (rcode, number)


async def test_large_sets_are_truncated_over_udp_and_whole_over_tcp(upstream: unbound.Unbound) -> None:
    client = Client(upstream.host, upstream.port)
    assert (await client.ask("big.example.com.", "TXT", edns=True)).flags & dns.flags.TC
    assert len((await client.ask("big.example.com.", "TXT", tcp=True)).to_wire()) > 4000


async def test_it_counts_its_questions(upstream: unbound.Unbound) -> None:
    client = Client(upstream.host, upstream.port)
    before = await upstream.queries()
    await client.ask("host1.example.com.")
    await client.ask("host1.example.com.", tcp=True)
    assert await upstream.queries() == before + 2


def test_after_stop_nobody_answers() -> None:
    with unbound.running() as server:
        server.stop()
        assert not answers(server.host, server.port, lambda: False, within_s=0.2)
