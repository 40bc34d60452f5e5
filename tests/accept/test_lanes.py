"""Which lane answers, and what is said where the compiled one is missing."""

import pytest

from resolver.accept import codec, lanes
from resolver.accept.compiled import CompiledUdpListener
from resolver.accept.udp import UdpListener
from resolver.accept.visits import Visits
from resolver.errors import ResolverError


def test_auto_takes_the_compiled_lane_where_it_was_built() -> None:
    assert lanes.is_built()
    compiled = CompiledUdpListener, (codec.decode, codec.scan, codec.fit, Visits)
    assert lanes.chosen("auto") == lanes.chosen("compiled") == compiled
    assert lanes.chosen("python") == (UdpListener, lanes.IN_PYTHON)


def test_without_it_auto_serves_and_compiled_says_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_COMPILED", None)
    assert lanes.chosen("auto") == (UdpListener, lanes.IN_PYTHON)
    with pytest.raises(ResolverError, match="install a C compiler"):
        lanes.chosen("compiled")
