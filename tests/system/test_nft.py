"""Interception in network namespaces, with packets: who answers, what conntrack sees, and what outlives whom."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system.nft import Rules
from resolver.system.options import NodeOptions
from tests.system.network import (
    CLUSTER4,
    CLUSTER6,
    KUBE_DNS,
    LOCAL4,
    LOCAL6,
    US,
    Network,
    needs_root,
    network,
)

pytestmark = needs_root

UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
OURS = (LOCAL4, CLUSTER4, LOCAL6, CLUSTER6)
OPTIONS = NodeOptions(local_ips=OURS)
BOTH = [pytest.param(OPTIONS, id="notrack"), pytest.param(NodeOptions(OURS, interception="tracked"), id="tracked")]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    for made in network(tmp_path, monkeypatch):
        made.add_addresses(*OURS)
        made.kube_proxy()
        made.serve_us(*OURS)
        yield made


@asynccontextmanager
async def rules_of(options: NodeOptions, failures: list[CommandFailed]) -> AsyncIterator[Rules]:
    rules = Rules(options, on_failure=failures.append)
    await rules.start()
    try:
        yield rules
    finally:
        await rules.close()


async def beaten(rules: Rules) -> None:
    """Beat once, and wait until nft has done it."""
    assert rules.beat(dict.fromkeys(rules.options.local_ips, rules.options.alive_s))
    assert await rules.check()
    assert rules.armed


@pytest.mark.parametrize("options", BOTH)
async def test_questions_for_the_service_reach_us_and_go_back_to_kube_dns(
    node: Network, options: NodeOptions
) -> None:
    failures: list[CommandFailed] = []
    everyone = [
        (space, to, kind) for space in (node.pod, node.node) for to in (CLUSTER4, CLUSTER6) for kind in (UDP, TCP)
    ]

    async def heard() -> set[str]:
        return {await node.who(*one) for one in everyone}

    assert await heard() == {KUBE_DNS}
    async with rules_of(options, failures) as rules:
        assert rules.owned
        assert await heard() == {KUBE_DNS}, "nobody comes to us before the first beat"
        await beaten(rules)
        node.run("conntrack", "-F")
        assert await heard() == {US}
        assert await node.who(node.pod, LOCAL4) == await node.who(node.pod, LOCAL6) == US
        if options.interception == "notrack":
            assert node.conntrack() == ""
        await rules.disarm()
        assert not rules.armed
        assert await heard() == {KUBE_DNS}
        await beaten(rules)
        assert await heard() == {US}
    assert await heard() == {KUBE_DNS}
    assert "node_resolver" not in node.run("nft", "list", "tables")
    assert failures == []
