"""What a beat says of each address, and our own question, which comes to us before there was one."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolver.errors import CommandFailed
from resolver.system.nft import Rules
from resolver.system.options import SELF_QUESTION_MARK, NodeOptions
from tests.system.network import CLUSTER4, CLUSTER6, KUBE_DNS, LONG_S, US, Network, needs_root, network
from tests.system.talking import Client, make_socket

pytestmark = needs_root

OURS = (CLUSTER4, CLUSTER6)
BOTH = [
    pytest.param(NodeOptions(OURS, interception=kind, alive_s=LONG_S), id=kind) for kind in ("notrack", "tracked")
]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    for made in network(tmp_path, monkeypatch):
        made.add_addresses(*OURS)
        made.kube_proxy()
        made.serve_us(*OURS)
        yield made


async def ask_ourselves(node: Network, address: str) -> str:
    made = make_socket(node.node, address, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SELF_QUESTION_MARK)
    with Client(made, address, 53) as client:
        return await client.ask()


@pytest.mark.parametrize("options", BOTH)
async def test_our_own_question_reaches_us_before_the_first_beat(node: Network, options: NodeOptions) -> None:
    failures: list[CommandFailed] = []
    rules = Rules(options, on_failure=failures.append)
    assert [await ask_ourselves(node, address) for address in OURS] == [KUBE_DNS, KUBE_DNS]
    await rules.start()
    try:
        assert [await ask_ourselves(node, address) for address in OURS] == [US, US]
        assert [await node.who(node.node, address) for address in OURS] == [KUBE_DNS, KUBE_DNS]
    finally:
        await rules.close()
    assert failures == []


@pytest.mark.parametrize("options", BOTH)
async def test_each_address_lives_for_itself(node: Network, options: NodeOptions) -> None:
    failures: list[CommandFailed] = []
    rules = Rules(options, on_failure=failures.append)
    await rules.start()
    try:
        assert rules.beat({CLUSTER4: LONG_S, CLUSTER6: 2.0})
        assert await rules.check()
        node.run("conntrack", "-F")
        assert [await node.who(node.pod, address) for address in OURS] == [US, US]
        async with asyncio.timeout(10):
            while await node.who(node.pod, CLUSTER6) != KUBE_DNS:
                pass
        assert await node.who(node.pod, CLUSTER4) == US

        assert rules.beat({CLUSTER6: LONG_S})
        assert await rules.check()
        node.run("conntrack", "-F")
        assert [await node.who(node.pod, address) for address in OURS] == [KUBE_DNS, US]
    finally:
        await rules.close()
    assert failures == []
