"""`Series` and `SeriesTable` in Python, for an installation without a C compiler; `counters.pyx` is their twin."""

from bisect import bisect_left

from resolver.report.labels import SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, TYPE_NAMES, ListenerLabels, SeriesKey


class Series:
    """Counters of one label set. `late_counts[i]` counts answers of TIME_BUCKETS_S[i]; the last is +Inf."""

    __slots__ = ("duration_sum_s", "key", "late_counts", "request_bytes", "response_bytes", "uses")

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.uses = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration_sum_s = 0.0
        self.late_counts: list[int] | None = None

    def late(self, duration_s: float, number: int = 1) -> None:
        """As many of `uses` took longer than the first bucket: put them into their own."""
        counts = self.late_counts
        if counts is None:
            counts = self.late_counts = [0] * (len(TIME_BUCKETS_S) + 1)
        counts[bisect_left(TIME_BUCKETS_S, duration_s)] += number
        self.duration_sum_s += duration_s * number


class SeriesTable:
    """All series of the process; they outlive reloads, as counters must."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[object, ...], Series] = {}

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
        key = (
            listener, zone, view, qtype if qtype in TYPE_NAMES else 0, rcode, do, plugin,
            bisect_left(SIZE_BUCKETS_BYTES, request_size), bisect_left(SIZE_BUCKETS_BYTES, response_size),
            kind,
        )  # fmt: skip
        series = self.by_key.get(key)
        if series is None:
            series = self.by_key[key] = Series(SeriesKey(*key))
        series.uses += 1
        series.request_bytes += request_size
        series.response_bytes += response_size
        if duration_s > TIME_BUCKETS_S[0]:  # `late` written out: nearly every miss comes here
            counts = series.late_counts
            if counts is None:
                counts = series.late_counts = [0] * (len(TIME_BUCKETS_S) + 1)
            counts[bisect_left(TIME_BUCKETS_S, duration_s)] += 1
            series.duration_sum_s += duration_s
        return series
