"""Which lane answers, and what is said where the compiled one is missing."""

import pytest

from resolver.accept import lanes
from resolver.accept.compiled import CompiledUdpListener
from resolver.accept.udp import UdpListener
from resolver.errors import ResolverError


def test_auto_takes_the_compiled_lane_where_it_was_built() -> None:
    assert lanes.is_built()
    assert lanes.listener_class("auto") is CompiledUdpListener
    assert lanes.listener_class("compiled") is CompiledUdpListener
    assert lanes.listener_class("python") is UdpListener


def test_without_it_auto_serves_and_compiled_says_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_COMPILED", None)
    assert lanes.listener_class("auto") is UdpListener
    with pytest.raises(ResolverError, match="install a C compiler"):
        lanes.listener_class("compiled")
