"""Types of the compiled `Series` and `SeriesTable` (`counters.pyx`)."""

from resolver.report.labels import ListenerLabels, SeriesKey

class Series:
    """See `plain_counters.Series`."""

    key: SeriesKey
    uses: int
    request_bytes: int
    response_bytes: int
    duration_sum_s: float
    late_counts: list[int] | None

    def __init__(self, key: SeriesKey) -> None: ...
    def late(self, duration_s: float, number: int = 1) -> None:
        """As many of `uses` took longer than the first bucket: put them into their own."""

class SeriesTable:
    """See `plain_counters.SeriesTable`."""

    by_key: dict[tuple[object, ...], Series]

    def count(
        self,
        listener: ListenerLabels,
        zone: str,
        view: str,
        qtype: int,
        rcode: int,
        do: bool,
        plugin: str,
        request_size: int,
        response_size: int,
        duration_s: float,
        kind: str = "",
    ) -> Series:
        """Count one answer and return its series, so that a rendering can count the next ones itself."""
