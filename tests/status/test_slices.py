"""How little of a scrape is done in one turn, and that scrapes at one time are one."""

import asyncio
import math
from collections.abc import Iterator

import pytest
from prometheus_client.exposition import generate_latest

from resolver import logs
from resolver.metrics import Reading
from resolver.report.series import ListenerLabels, SeriesTable
from resolver.status import collector
from resolver.status.collector import SAMPLES_PER_SLICE
from resolver.status.exposition import FILLED_WORK, SERIES_PER_SLICE, Exposition
from tests.status.test_exposition import busy, parsed, scrape


def crowd() -> SeriesTable:
    """About as many series as a busy node has: 8 listeners, 4 zones, 19 types, 3 rcodes, 2 sizes."""
    table = SeriesTable()
    for server in range(8):
        listener = ListenerLabels(f"dns://10.0.0.{server}:53", "udp", "1")
        for zone in (".", "cluster.local.", "in-addr.arpa.", "ip6.arpa."):
            for qtype in (1, 28, 5, 48, 43, 15, 47, 50, 2, 12, 46, 6, 33, 16, 65, 64, 255, 251, 252):
                for rcode in (0, 2, 3):
                    for size in (80, 300):
                        table.count(listener, zone, "", qtype, rcode, False, "cache", 40, size, 0.0, "success")
    return table


def test_no_step_of_a_scrape_is_large() -> None:
    table = crowd()
    assert len(table.by_key) > 3400
    registry, _ = busy()
    for number_of in range(400):
        registry.upstream(f"10.1.{number_of // 256}.{number_of % 256}:53").answered(0, 0.001)
    steps = list(Exposition(registry, table).steps())
    samples = [sum(not line.startswith(b"#") for line in step.splitlines()) for step in steps]
    assert sum(samples) > 10_000
    assert max(samples) <= SAMPLES_PER_SLICE
    assert samples.count(0) == math.ceil(len(table.by_key) / SERIES_PER_SLICE)
    assert list(parsed(b"".join(steps).decode()))


def test_no_step_of_a_later_scrape_fills_in_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "REMEMBERED_MAX_BYTES", 2**30)
    registry, _ = busy()
    table = crowd()
    upstreams = [registry.upstream(f"10.1.{number // 256}.{number % 256}:53") for number in range(400)]
    exposition = Exposition(registry, table)
    for upstream in upstreams:
        upstream.answered(0, 0.001)
    before = iter(b"".join(exposition.steps()).splitlines())
    for series in table.by_key.values():
        series.uses += 1
    for upstream in upstreams:
        upstream.answered(0, 0.0001)
    changed = [sum(line != next(before) for line in step.splitlines()) for step in exposition.steps()]
    assert sum(changed) > 10_000
    assert max(changed) <= SAMPLES_PER_SLICE / FILLED_WORK


def test_an_idle_process_writes_little_and_in_few_turns() -> None:
    registry, table = busy()
    exposition = Exposition(registry, table)
    first = list(exposition.steps())
    registry.health.durations.observe(0.001)
    second = list(exposition.steps())
    assert len(first) > 5
    assert len(second) <= 4
    changed = [
        (old, new)
        for old, new in zip(b"".join(first).splitlines(), b"".join(second).splitlines(), strict=True)
        if old != new
    ]
    assert len(changed) == 7
    assert all(old.startswith(b"coredns_health_request_duration_seconds") for old, _ in changed)


def test_a_busy_process_is_written_once_and_then_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte what another would write that sees it for the first time."""
    registry, table = busy()
    exposition = Exposition(registry, table)
    list(exposition.steps())
    for series in table.by_key.values():
        series.uses += 1_234_567
        series.late(0.3)
    registry.upstream("10.0.0.2:53").answered(0, 0.004)
    registry.upstream("10.0.0.3:53").answered(0, 0.004)
    fresh = b"".join(Exposition(registry, table).steps())
    written: list[int] = []
    library = generate_latest

    def count(of: collector.Slice) -> bytes:
        text = library(of)
        written.append(sum(not line.startswith(b"#") for line in text.splitlines()))
        return text

    monkeypatch.setattr(collector, "generate_latest", count)
    assert b"".join(exposition.steps()) == fresh
    assert 0 < sum(written) < 150, "the new upstream's lines"


async def test_the_loop_has_a_turn_between_any_two_steps() -> None:
    registry, _ = busy()
    exposition = Exposition(registry, crowd())
    scraping = asyncio.ensure_future(exposition.text())
    turns = 0
    while not scraping.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= len(list(exposition.steps()))
    assert b"process_cpu" in scraping.result()


async def test_scrapes_at_one_time_are_one_scrape() -> None:
    registry, table = busy()
    asked = 0

    def source() -> Iterator[Reading]:
        nonlocal asked
        asked += 1
        yield Reading("resolver_asked", "h", "gauge", (), asked)

    registry.sources.append(source)
    exposition = Exposition(registry, table)
    first, second, leaves = (asyncio.ensure_future(exposition.text()) for _ in range(3))
    await asyncio.sleep(0)
    leaves.cancel()
    assert await first == await second
    assert asked == 1
    assert leaves.cancelled()
    await exposition.text()
    assert asked == 2


async def test_a_source_that_fails_fails_the_scrape_and_not_the_next() -> None:
    registry, table = busy()
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    def source() -> list[Reading]:
        registry.sources.remove(source)
        raise ValueError("a bug")

    registry.sources.append(source)
    exposition = Exposition(registry, table)
    with pytest.raises(ValueError, match="a bug"):
        await exposition.text()
    await asyncio.sleep(0)
    assert [context["message"] for context in told] == ["a scrape ended with ValueError"]
    assert b"coredns_build_info" in await exposition.text()


def test_lost_log_lines_are_told() -> None:
    log = logs.Log()
    log.dropped_lines = 42
    before = logs.use(log)
    try:
        assert "resolver_log_lines_dropped_total 42.0\n" in scrape(*busy())
    finally:
        logs.use(before)
