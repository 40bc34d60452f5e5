"""What the log would say, as a list of `LEVEL PLUGIN TEXT`."""

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def heard() -> Iterator[list[str]]:
    """Keep what is said meanwhile."""
    log = Lines()
    before = logs.use(log)
    try:
        yield log.said
    finally:
        logs.use(before)
