"""The standing nat table follows the upstreams where it is told to; nothing else of `upkeep` is decided here."""

from typing import Any, cast

import pytest

from resolver.metrics import Registry
from resolver.system.options import UPSTREAMS, NodeOptions
from resolver.system.troubles import Troubles
from resolver.system.upkeep import Tools, Upkeep
from tests.support.fake_node import Fakes, FakeTool


class Standing:
    """In the place of the table: what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    async def update(self, members: Any) -> bool:
        self.told.append(tuple(members))
        return True

    async def check(self) -> bool:
        return True


#        -standing-nat, what it is told at first, and once the upstreams have moved
MEMBERS = [
    pytest.param((UPSTREAMS,), [("10.244.0.2:53",)], [("10.244.0.2:53",), ("10.244.7.7:53",)], id="upstreams"),
    pytest.param(("10.244.9.9",), [("10.244.9.9",)], [("10.244.9.9",)], id="addresses"),
]


@pytest.mark.parametrize(("given", "first", "then"), MEMBERS)
async def test_members_are_those_of_the_moment_or_those_that_were_given(
    given: tuple[str, ...], first: list[tuple[str, ...]], then: list[tuple[str, ...]]
) -> None:
    async def no_leftovers(options: NodeOptions) -> int:
        return 0

    options = NodeOptions(("169.254.20.10",), setup_interface=False, standing_nat=given)
    fakes, registry, standing = Fakes(), Registry(), Standing()
    fake = cast("Any", FakeTool(fakes, "accept"))
    tools = Tools(fake, fake, cast("Any", standing), no_leftovers)
    upstreams = ["10.244.0.2:53"]
    troubles = Troubles(registry.node, registry.process.setup_errors)
    upkeep = Upkeep(options, tools, registry.node, troubles, lambda: upstreams)
    await upkeep.intercept()
    assert standing.told == first
    upstreams[:] = ["10.244.7.7:53"]
    await upkeep.check()
    assert standing.told == then
