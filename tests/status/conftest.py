"""What the log would say, as a list."""

from collections.abc import Iterator

import pytest

from tests.support.lines import heard


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with heard() as said:
        yield said
