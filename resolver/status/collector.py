"""Families and samples as prometheus_client knows them, and its text of them in slices that a loop turn can bear.

Whoever imports this imports the library: 25 ms and 2.5 MiB (docs/decisions/0002). `status.exposition` does so in a
thread, once somebody may scrape.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple, cast

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from resolver.metrics import Histogram
from resolver.status.families import Family, Samples, Value

SAMPLES_PER_SLICE = 100
"""Lines written before the loop gets a turn: 0.8 ms of the 5 ms that a turn may take."""

REMEMBERED_MAX_BYTES = 512 * 1024
"""5,000 samples; with its parts and numbers it is three times as much memory."""

Labelled = tuple[tuple[str, ...], Value]


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
    """Text of at most `SAMPLES_PER_SLICE` samples.

    written  How many of them the library wrote for it.
    filled   How many numbers were put into text that it had written before.
    """

    text: bytes
    written: int
    filled: int


class Writer:
    """Has the library write each sample once, and afterwards puts new numbers into the text that it wrote.

    A line costs the library 8 us, and nearly all of it is names and labels, which are the same from scrape to
    scrape. A number put in costs 0.2 us, seeing that a slice has not changed 0.03 us a sample. What a number looks
    like is the library's to say, too; and a slice whose text does not come out of its template byte for byte is the
    library's to write for ever. (Minus zero is zero here, should anything ever count to it.)

    At most `REMEMBERED_MAX_BYTES` of text are remembered, and what a scrape has no use for is forgotten.
    """

    def __init__(self) -> None:
        self._before: dict[Family, list[_Template | None]] = {}
        self._now: dict[Family, list[_Template | None]] = {}
        self._spelled = _Spelled()
        self._remembered_bytes = 0

    def begin(self) -> None:
        """A scrape begins: what the last one did not write is forgotten."""
        self._before, self._now = self._now, {}
        self._spelled.clear()
        self._remembered_bytes = 0

    def pieces(self, family: Family, samples: Samples) -> Iterator[Piece]:
        """Yield the text of one family in pieces; nothing if it has no samples. They are the caller's no more.

        One histogram stays in one piece, so that it agrees with itself.
        """
        labels, values = list(samples), list(samples.values())
        step = SAMPLES_PER_SLICE
        if family.kind == "histogram" and values:
            step = max(1, step // (len(cast("Histogram", values[0]).counts) + 2))
        known = iter(self._before.get(family, ()))
        now = self._now[family] = []
        for start in range(0, len(labels), step):
            some_labels, some_values = labels[start : start + step], values[start : start + step]
            shape, numbers = _taken_apart(family, some_labels, some_values)
            template = next(known, None)
            if template is not None and template.shape == shape:
                filled = template.fill(numbers, self._spelled)
                piece = Piece(template.text, 0, filled)
            else:
                text = generate_latest(Slice(family, zip(some_labels, some_values, strict=True)))
                # HELP and TYPE may stand there only once.
                piece = Piece(text.split(b"\n", 2)[2] if start else text, len(numbers), 0)
                template = None
            self._remembered_bytes += len(piece.text)
            if self._remembered_bytes > REMEMBERED_MAX_BYTES:
                template = None
            elif template is None:
                template = _Template.of(piece.text, shape, numbers, self._spelled)
            now.append(template)
            yield piece


class _Spelled(dict[float, str]):
    """Numbers as the library spells them, each once in a scrape: most stand in two families, or in many buckets."""

    def __missing__(self, number: float) -> str:
        text: str = floatToGoString(number)  # type: ignore[no-untyped-call] # the library does not say
        self[number] = text
        return text


class _Template:
    """What the library wrote for some samples, taken apart at the numbers.

    shape  Labels, and of histograms the bounds: while they are the same, only numbers differ.
    text   The whole, with the last numbers.
    """

    __slots__ = ("_numbers", "_parts", "shape", "text")

    def __init__(self, text: bytes, parts: list[str], shape: list[Any], numbers: list[float]) -> None:
        self.text = text
        self.shape = shape
        self._parts = parts
        self._numbers = numbers

    @classmethod
    def of(cls, text: bytes, shape: list[Any], numbers: list[float], spelled: _Spelled) -> "_Template | None":
        """Return the template of `text`; None if filling it would not give `text` again."""
        parts = [""]
        for line in text.decode().removesuffix("\n").split("\n"):
            if line.startswith("#"):
                parts[-1] += f"{line}\n"
                continue
            head, _, number = line.rpartition(" ")
            parts[-1] += f"{head} "
            parts += (number, "\n")
        if len(parts) != 2 * len(numbers) + 1:
            return None
        template = cls(b"", parts, shape, [])
        template.fill(numbers, spelled)
        return template if template.text == text else None

    def fill(self, numbers: list[float], spelled: _Spelled) -> int:
        """Let `text` have these numbers; return how many were put in: none where nothing has changed."""
        if numbers == self._numbers:
            return 0
        self._numbers = numbers
        self._parts[1::2] = map(spelled.__getitem__, numbers)
        self.text = "".join(self._parts).encode()
        return len(numbers)


def _taken_apart(family: Family, labels: list[Any], values: list[Any]) -> tuple[list[Any], list[float]]:
    """Return what stays the same of these samples and their numbers, in the order of the library's lines."""
    if family.kind != "histogram":
        return labels, values
    numbers: list[float] = []
    for histogram in values:
        numbers += accumulate(histogram.counts)
        numbers += (numbers[-1], histogram.total)
    return [*labels, *(histogram.bounds for histogram in values)], numbers


_PLATFORM = generate_latest(PLATFORM_COLLECTOR)
"""Which Python this is, written once."""


def of_process(runtime_metrics: bool) -> bytes:
    """Return what the library itself knows: `process_*`, `python_info`, and the garbage collector if wanted.

    It reads files of /proc and lists open descriptors: not in the loop.
    """
    garbage = generate_latest(GC_COLLECTOR) if runtime_metrics else b""
    return b"".join((generate_latest(PROCESS_COLLECTOR), _PLATFORM, garbage))
