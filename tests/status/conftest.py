"""What the log would say, as a list."""

from collections.abc import Iterator

import pytest

from resolver import logs


class Lines(logs.Log):
    """Lines are kept for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def line(
        self,
        level: logs.Level,
        text: str,
        *,
        plugin: str = "",
        detail: str = "",
        channel: str = "",
        fields: logs.Fields,
    ) -> None:
        self.said.append(f"{level} {plugin} {text}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    log = Lines()
    before = logs.use(log)
    yield log.said
    logs.use(before)
