"""Families and samples as prometheus_client knows them, and its text of them in slices that a loop turn can bear.

Whoever imports this imports the library: 25 ms and 2.5 MiB (docs/decisions/0002). `status.exposition` does so in a
thread, once somebody may scrape.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from resolver.metrics import Histogram
from resolver.status.families import Family, Samples, Value

SAMPLES_PER_SLICE = 100
"""Lines written before the loop gets a turn: 0.8 ms of the 5 ms that a turn may take."""

REMEMBERED_MAX_BYTES = 512 * 1024
"""5,000 samples; with the numbers that are compared it is three times as much memory."""

Labelled = tuple[tuple[str, ...], Value]
Numbers = Mapping[tuple[str, ...], object]


class Slice(Collector):
    """Some samples of one family: all that the library's writer gets to see at a time."""

    def __init__(self, family: Family, samples: Iterable[Labelled]) -> None:
        self._family = family
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield the one metric, without `_created`."""
        name, kind, text, labels = self._family
        if kind == "histogram":
            histograms = HistogramMetricFamily(name, text, labels=labels)
            for values, histogram in cast("Iterable[tuple[tuple[str, ...], Histogram]]", self._samples):
                histograms.add_metric(values, buckets(histogram), histogram.total)
            yield histograms
            return
        numbers = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
        for values, number in cast("Iterable[tuple[tuple[str, ...], float]]", self._samples):
            numbers.add_metric(values, number)
        yield numbers


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return cumulative counts by `le` as CoreDNS writes it: `0.00025`, `64000`, `+Inf`.

    The library's own spelling would be `64000.0`, which is another bucket to a dashboard.
    """
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


class Piece(NamedTuple):
    """Text of at most `SAMPLES_PER_SLICE` samples, and how many of them had to be written for it."""

    text: bytes
    written: int


class Writer:
    """Writes families, and remembers the last text of each: what has not changed since is not written again.

    On an idle node nearly nothing changes from scrape to scrape, and writing is most of what a scrape costs: 3 ms
    for 500 samples, 0.2 ms to see that they are the same. At most `REMEMBERED_MAX_BYTES` of text are remembered.
    """

    def __init__(self) -> None:
        self._before: dict[Family, tuple[Numbers, bytes]] = {}
        self._now: dict[Family, tuple[Numbers, bytes]] = {}
        self._remembered_bytes = 0

    def begin(self) -> None:
        """A scrape begins: what the last one did not write is forgotten."""
        self._before, self._now = self._now, {}
        self._remembered_bytes = 0

    def pieces(self, family: Family, samples: Samples) -> Iterator[Piece]:
        """Yield the text of one family in pieces; nothing if it has no samples. They are the caller's no more.

        One histogram stays in one piece, so that it agrees with itself.
        """
        if not samples:
            return
        numbers = _numbers(family, samples)
        known = self._before.get(family)
        if known is not None and known[0] == numbers:
            self._remember(family, known)
            yield Piece(known[1], 0)
            return
        texts = []
        for piece in _written(family, list(samples.items())):
            texts.append(piece.text)
            yield piece
        # Between two pieces of it a histogram may have gone on counting: then it differs the next time.
        self._remember(family, (numbers, b"".join(texts)))

    def _remember(self, family: Family, known: tuple[Numbers, bytes]) -> None:
        if self._remembered_bytes < REMEMBERED_MAX_BYTES:
            self._remembered_bytes += len(known[1])
            self._now[family] = known


def _written(family: Family, samples: Sequence[Labelled]) -> Iterator[Piece]:
    first = samples[0][1]
    lines = len(first.counts) + 2 if isinstance(first, Histogram) else 1
    step = max(1, SAMPLES_PER_SLICE // lines)
    for start in range(0, len(samples), step):
        some = samples[start : start + step]
        text = generate_latest(Slice(family, some))
        # HELP and TYPE may stand there only once.
        yield Piece(text.split(b"\n", 2)[2] if start else text, len(some) * lines)


def _numbers(family: Family, samples: Samples) -> Numbers:
    """Return what can be compared later: a histogram goes on counting."""
    if family.kind != "histogram":
        return samples
    histograms = cast("Mapping[tuple[str, ...], Histogram]", samples)
    return {labels: (*histogram.counts, histogram.total) for labels, histogram in histograms.items()}


def of_process(runtime_metrics: bool) -> bytes:
    """Return what the library itself knows: `process_*`, `python_info`, and the garbage collector if wanted.

    It reads files of /proc and lists open descriptors: not in the loop.
    """
    collectors = [PROCESS_COLLECTOR, PLATFORM_COLLECTOR, *([GC_COLLECTOR] if runtime_metrics else [])]
    return b"".join(generate_latest(collector) for collector in collectors)
