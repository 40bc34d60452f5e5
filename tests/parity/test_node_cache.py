"""The same Corefiles and questions that node-cache 1.26.7 was given, asked of our real process.

`expected.json` holds what node-cache answered and, in words, where we differ on purpose. Upstream is a real
unbound with the same zone, so a difference that is not written down is a regression for somebody's cluster.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.support import process, unbound, zones
from tests.support.client import Client, records

EXPECTED = json.loads(Path(__file__).with_name("expected.json").read_text())
SCENARIOS: list[dict[str, Any]] = EXPECTED["scenarios"]


def upstream_zone() -> list[str]:
    """The zone that the transcripts were recorded with, as unbound's own lines."""
    lines: list[str] = list(EXPECTED["upstream_zone"])
    lines += ['local-data: "web.shop.svc.cluster.local. 30 IN A 10.96.7.7"']
    lines += ['local-data: "7.7.96.10.in-addr.arpa. 30 IN PTR web.shop.svc.cluster.local."']
    for n in range(30):
        lines.append(f'local-data: "host{n}.example.com. 300 IN A 93.184.0.{n + 1}"')
        lines.append(f'local-data: "host{n}.example.com. 300 IN AAAA 2606:2800::{n + 1:x}"')
    lines += [f'local-data: "many.example.com. 300 IN A 198.51.100.{n}"' for n in range(1, 101)]
    lines += [f"local-data: 'big.example.com. 300 IN TXT \"{letter * 200}\"'" for letter in "abcdefghijklmnopqrst"]
    return lines


@pytest.fixture(scope="module")
def upstream() -> Iterator[unbound.Unbound]:
    with unbound.running(served={".": zones.ROOT}, local_data=upstream_zone()) as server:
        yield server


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda scenario: scenario["name"])
def scenario(request: pytest.FixtureRequest, upstream: unbound.Unbound) -> Iterator[tuple[dict[str, Any], Client]]:
    """One Corefile, served by our process."""
    chosen: dict[str, Any] = request.param
    corefile = "\n".join(chosen["corefile"]).replace("{upstream}", f"{upstream.host}:{upstream.port}")
    with process.running(corefile) as server:
        yield chosen, Client(server.host, server.port)


async def test_as_node_cache_answers(scenario: tuple[dict[str, Any], Client]) -> None:
    chosen, client = scenario
    differences: list[str] = []
    for ask in chosen["asks"]:
        answer = await put(client, ask)
        expected = ask["node_cache"] | ask.get("ours", {}) | {"exact_ttl": chosen.get("exact_ttl", False)}
        differences += [f"{ask['ask']}: {problem}" for problem in compare(answer, expected)]
    assert not differences, "\n".join(differences)


async def test_what_is_cached_is_not_authoritative(scenario: tuple[dict[str, Any], Client]) -> None:
    chosen, client = scenario
    ask = chosen["asks"][0]
    await put(client, ask)
    assert not (await put(client, ask)).flags & dns.flags.AA


async def put(client: Client, ask: dict[str, Any]) -> dns.message.Message:
    name, rdtype = ask["ask"].split()
    return await client.ask(
        name,
        rdtype,
        tcp=ask.get("tcp", False),
        edns="edns" in ask,
        size=ask.get("edns", 1232),
        do=ask.get("do", False),
        rd=ask.get("rd", True),
    )


def compare(answer: dns.message.Message, expected: dict[str, Any]) -> Iterator[str]:
    """Say everything in which `answer` is not as expected; `differences_everywhere` says what is left out."""
    rcode = dns.rcode.to_text(answer.rcode())
    if rcode != expected["rcode"]:
        yield f"rcode {rcode}, expected {expected['rcode']}"
        return
    if bool(answer.flags & dns.flags.TC) != expected["tc"]:
        yield f"TC {bool(answer.flags & dns.flags.TC)}"
    if rcode in ("NOERROR", "NXDOMAIN") and bool(answer.flags & dns.flags.RA) != expected["ra"]:
        yield f"RA {bool(answer.flags & dns.flags.RA)}"
    if (answer.edns >= 0) != expected["edns"]:
        yield f"EDNS version {answer.edns}"
    if expected["tc"]:
        return
    if "answer" not in expected and len(records(answer)) != expected["records"]:
        yield f"{len(records(answer))} records, expected {expected['records']}"
    for section in ("answer", "authority"):
        if section in expected:
            yield from compare_records(
                records(answer, section), expected[section], expected.get("exact_ttl", False)
            )


def compare_records(got: list[str], expected: list[str], exact_ttl: bool) -> Iterator[str]:
    """Records are equal but for TTLs, which may be lower than node-cache's (unless `exact_ttl`) and never 0."""
    ours = {(fields[0], *fields[3:]): int(fields[1]) for fields in map(str.split, got)}
    theirs = {(fields[0], *fields[2:]): int(fields[1]) for fields in map(str.split, expected)}
    if ours.keys() != theirs.keys():
        yield f"records {sorted(ours)}, expected {sorted(theirs)}"
        return
    for record, ttl_s in ours.items():
        if not 0 < ttl_s <= theirs[record] or (exact_ttl and ttl_s != theirs[record]):
            yield f"TTL {ttl_s} of {record}, node-cache {theirs[record]}"


#   what went wrong, as `compare` must say it
BROKEN = [
    ({"rcode": "NXDOMAIN"}, "rcode"),
    ({"tc": True}, "TC"),
    ({"ra": False}, "RA"),
    ({"edns": True}, "EDNS"),
    ({"answer": ["web.example. 30 A 192.0.2.8"]}, "records"),
    ({"answer": ["web.example. 29 A 192.0.2.7"]}, "TTL"),
    ({"answer": ["web.example. 31 A 192.0.2.7"], "exact_ttl": True}, "TTL"),
    ({"answer": []}, "records"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN)
def test_the_comparison_sees_differences(change: dict[str, Any], said: str) -> None:
    answer = dns.message.from_text("id 1\nopcode QUERY\nflags QR RD RA\n;ANSWER\nweb.example. 30 IN A 192.0.2.7\n")
    right = {"rcode": "NOERROR", "tc": False, "ra": True, "edns": False, "answer": ["web.example. 30 A 192.0.2.7"]}
    assert list(compare(answer, right)) == []
    assert any(problem.startswith(said) for problem in compare(answer, right | change))
