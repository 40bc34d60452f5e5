"""Fixtures of the tests of upstreams."""

import pytest

from resolver.forward import learned


@pytest.fixture
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "CONNECTIONS_MAX", 1)
