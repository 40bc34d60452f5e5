"""A scrape: everything that is counted, as Prometheus's text format 0.0.4, written by prometheus_client.

What callers may rely on:

- No step of a scrape folds more than `SERIES_PER_SLICE` series or writes more than `collector.SAMPLES_PER_SLICE`
  samples; between two steps the loop has a turn. 3,400 samples in one go would hold it for 26 ms.
- The library writes each sample once; later scrapes put numbers into that text (`collector.Writer`). A busy process
  pays a seventh of what writing everything anew costs.
- The library is imported in a thread, by `prepare` or else by the first scrape: neither the way to the first answer
  nor a turn of the loop pays for it, and who is never scraped never imports it.
- Whoever asks while a scrape is under way gets that one: many scrapers cost as much as one.
- All numbers of one series are read at one moment, so a histogram always agrees with itself.
"""

import asyncio
import platform
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from resolver import VERSION, logs
from resolver.metrics import Reading, Registry, Source
from resolver.report.series import SeriesTable
from resolver.status import families as f
from resolver.status.fold import (
    FamilyOf,
    SeriesFold,
    cache_families,
    process_families,
    reading_families,
    upstream_families,
)

if TYPE_CHECKING:  # the library, which is imported in a thread
    from resolver.status import collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SEEN_WORK = 1.0
FILLED_WORK = 0.04
"""Samples whose writing takes as long as to look at a piece that was written before, and to put a number in."""

SERIES_PER_SLICE = 300
"""Series folded before the loop gets a turn: about 1 ms."""


class Exposition:
    """The one scrape of this process.

    runtime_metrics  Python's garbage collector as well; a reload may change it.
    """

    def __init__(self, registry: Registry, series: SeriesTable) -> None:
        self.runtime_metrics = False
        self._registry = registry
        self._series = series
        self._fold = SeriesFold()
        self._writer: collector.Writer | None = None
        self._running: asyncio.Task[bytes] | None = None

    async def prepare(self) -> None:
        """Import the library, so that the first scrape need not."""
        await self._from_files()

    def steps(self, of_files: Iterable[Reading] = ()) -> Iterator[bytes]:
        """Yield the text of a scrape piece by piece, each one turn's worth of work; some pieces are empty.

        of_files  What was read from files already: a step reads none.
        `process_*` and `python_*` are not in it.
        """
        from resolver.status import collector  # the library: see above

        if self._writer is None:
            self._writer = collector.Writer()
        self._writer.begin()
        fold = self._fold
        fold.begin()
        every = list(self._series.by_key.values())
        for start in range(0, len(every), SERIES_PER_SLICE):
            fold.add(every[start : start + SERIES_PER_SLICE])
            yield b""
        together: list[bytes] = []
        work = 0.0
        for family, samples in self._families(of_files):
            for text, written, filled in self._writer.pieces(family, samples):
                more = SEEN_WORK + written + filled * FILLED_WORK
                if together and work + more > collector.SAMPLES_PER_SLICE:
                    yield b"".join(together)
                    together, work = [], 0.0
                together.append(text)
                work += more
        yield b"".join(together)

    async def text(self) -> bytes:
        """Return a whole scrape; one that is under way is shared."""
        if self._running is None:
            task = asyncio.get_running_loop().create_task(self._run())
            self._running = logs.held(task, "a scrape")
        # Shielded: a scraper that hangs up must not end the scrape of another.
        return await asyncio.shield(self._running)

    async def _run(self) -> bytes:
        try:
            text, readings = await self._from_files()
            pieces = [text]
            for piece in self.steps(readings):
                pieces.append(piece)
                await asyncio.sleep(0)
            return b"".join(pieces)
        finally:
            self._running = None

    async def _from_files(self) -> tuple[bytes, list[Reading]]:
        """Return the text of `process_*` and what `file_sources` read: files are for a thread."""
        sources = list(self._registry.file_sources)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _from_files, self.runtime_metrics, sources)

    def _families(self, of_files: Iterable[Reading]) -> Iterator[FamilyOf]:
        registry = self._registry
        # `revision` is there because CoreDNS has it; to Prometheus an empty label is no label.
        yield f.BUILD_INFO, {(VERSION, "", f"python{platform.python_version()}"): 1}
        yield from self._fold.families()
        yield from cache_families(registry.caches.values(), self._fold.cache_hits.by_labels())
        yield from upstream_families(registry.upstreams.values())
        yield from process_families(registry)
        log = logs.current()
        yield f.LOG_DROPPED, {(): log.dropped_lines}
        yield f.LOG_SUPPRESSED, {(channel,): count for channel, count in log.suppressed_lines().items()}
        yield f.LONGEST_TURN, {(): round(registry.process.loop_longest_turn_s, 6)}
        yield f.LOOP_STALLS, {(): registry.process.loop_stalls}
        readings = list(of_files)
        for source in registry.sources:
            readings.extend(source())
        yield from reading_families(readings)


def _from_files(runtime_metrics: bool, sources: list[Source]) -> tuple[bytes, list[Reading]]:
    from resolver.status import collector  # the library: see above

    return collector.of_process(runtime_metrics), [reading for source in sources for reading in source()]
