"""A scrape: names, labels, values and form; and how little of it is done in one turn."""

import asyncio
import math
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from resolver import logs, metrics
from resolver.metrics import ConnCounts, Histogram, PluginEnabled, Reading, Registry
from resolver.report.series import SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, ListenerLabels, SeriesTable
from resolver.status import families as f
from resolver.status.exposition import SERIES_PER_SLICE, Exposition
from resolver.status.fold import SeriesFold
from resolver.status.render import SAMPLES_PER_SLICE, chunks, number, regroup

UDP = ListenerLabels("dns://10.0.0.10:53", "udp", "1")
TCP = ListenerLabels("dns://10.0.0.10:53", "tcp", "2")


def busy() -> tuple[Registry, SeriesTable]:
    """A registry in which every family has something to say."""
    table = SeriesTable()
    for n in range(10):
        table.count(UDP, ".", "", 1, 0, False, "cache", 40, 80, 0.3 if n < 2 else 0.0001, "success")
    table.count(UDP, ".", "", 1, 3, False, "cache", 40, 120, 0.0001, "denial")
    table.count(UDP, ".", "", 1, 2, False, "cache", 40, 40, 0.0001, "failure")
    table.count(TCP, "cluster.local.", "", 28, 3, True, "forward", 101, 4096, 9.0)
    table.count(UDP, "dropped", "", 65280, 5, False, "", 40, 40, 0.0)
    registry = Registry()
    cache = registry.cache(UDP.server, ".")
    cache.requests, cache.misses, cache.prefetches, cache.drops, cache.served_stale = 5, 5, 3, 2, 1
    cache.entries, cache.evictions = (lambda: (70, 30)), (lambda: (7, 3))
    upstream = registry.upstream("10.0.0.2:53")
    upstream.answered(0, 0.004)
    upstream.answered(0, 0.004)
    upstream.answered(2, 1.2)
    upstream.healthcheck_failures = 4
    upstream.connections["udp"] = ConnCounts(9, 1, 2)
    upstream.timeouts, upstream.truncated = 1, 3
    registry.forward.healthcheck_broken = 6
    registry.process.config_digest = "ab12"
    registry.process.panics = 1
    registry.plugins = (PluginEnabled(UDP.server, ".", "", "cache"),)
    registry.health.durations.observe(0.001)
    registry.sources.append(
        lambda: [
            Reading("resolver_test_things", "Things.", "gauge", (("kind", 'a"\\\n'),), 1.5),
            Reading("resolver_test_things", "Things.", "gauge", (("kind", "b"),), math.inf),
        ]
    )
    return registry, table


def scrape(registry: Registry, table: SeriesTable, *, runtime_metrics: bool = True) -> str:
    exposition = Exposition(registry, table, revision="abc", runtime_metrics=runtime_metrics)
    text = "".join(exposition.steps())
    exposition.close()
    return text


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


LINES = [
    'coredns_build_info{version="0.1.0",revision="abc",goversion="python',
    'coredns_dns_requests_total{server="dns://10.0.0.10:53",zone=".",view="",proto="udp",family="1",type="A"} 12',
    'coredns_dns_requests_total{server="dns://10.0.0.10:53",zone="cluster.local.",view="",proto="tcp",'
    'family="2",type="AAAA"} 1',
    'coredns_dns_requests_total{server="dns://10.0.0.10:53",zone="dropped",view="",proto="udp",family="1",'
    'type="other"} 1',
    # Ten answers of one series, two of which were late: the first bucket is what is left.
    'coredns_dns_request_duration_seconds_bucket{server="dns://10.0.0.10:53",zone=".",view="",le="0.00025"} 10',
    'coredns_dns_request_duration_seconds_bucket{server="dns://10.0.0.10:53",zone=".",view="",le="0.256"} 10',
    'coredns_dns_request_duration_seconds_bucket{server="dns://10.0.0.10:53",zone=".",view="",le="0.512"} 12',
    'coredns_dns_request_duration_seconds_bucket{server="dns://10.0.0.10:53",zone=".",view="",le="+Inf"} 12',
    'coredns_dns_request_duration_seconds_sum{server="dns://10.0.0.10:53",zone=".",view=""} 0.6',
    'coredns_dns_request_duration_seconds_count{server="dns://10.0.0.10:53",zone=".",view=""} 12',
    'coredns_dns_request_duration_seconds_bucket{server="dns://10.0.0.10:53",zone="cluster.local.",view="",'
    'le="8.192"} 0',
    'coredns_dns_request_size_bytes_bucket{server="dns://10.0.0.10:53",zone=".",view="",proto="udp",le="0"} 0',
    'coredns_dns_request_size_bytes_bucket{server="dns://10.0.0.10:53",zone=".",view="",proto="udp",le="100"} 12',
    'coredns_dns_request_size_bytes_sum{server="dns://10.0.0.10:53",zone=".",view="",proto="udp"} 480',
    'coredns_dns_response_size_bytes_bucket{server="dns://10.0.0.10:53",zone="cluster.local.",view="",'
    'proto="tcp",le="4095"} 0',
    'coredns_dns_response_size_bytes_bucket{server="dns://10.0.0.10:53",zone="cluster.local.",view="",'
    'proto="tcp",le="8291"} 1',
    'coredns_dns_do_requests_total{server="dns://10.0.0.10:53",zone="cluster.local.",view=""} 1',
    'coredns_dns_responses_total{server="dns://10.0.0.10:53",zone=".",view="",rcode="NOERROR",plugin="cache"} 10',
    'coredns_dns_responses_total{server="dns://10.0.0.10:53",zone="dropped",view="",rcode="REFUSED",plugin=""} 1',
    'coredns_cache_entries{server="dns://10.0.0.10:53",type="success",zones=".",view=""} 70',
    'coredns_cache_entries{server="dns://10.0.0.10:53",type="denial",zones=".",view=""} 30',
    'coredns_cache_requests_total{server="dns://10.0.0.10:53",zones=".",view=""} 17',
    'coredns_cache_hits_total{server="dns://10.0.0.10:53",type="success",zones=".",view=""} 10',
    'coredns_cache_hits_total{server="dns://10.0.0.10:53",type="denial",zones=".",view=""} 2',
    'coredns_cache_misses_total{server="dns://10.0.0.10:53",zones=".",view=""} 5',
    'coredns_cache_prefetch_total{server="dns://10.0.0.10:53",zones=".",view=""} 3',
    'coredns_cache_drops_total{server="dns://10.0.0.10:53",zones=".",view=""} 2',
    'coredns_cache_served_stale_total{server="dns://10.0.0.10:53",zones=".",view=""} 1',
    'coredns_cache_evictions_total{server="dns://10.0.0.10:53",type="denial",zones=".",view=""} 3',
    'coredns_proxy_request_duration_seconds_bucket{proxy_name="forward",to="10.0.0.2:53",rcode="NOERROR",'
    'le="0.004"} 2',
    'coredns_proxy_request_duration_seconds_count{proxy_name="forward",to="10.0.0.2:53",rcode="SERVFAIL"} 1',
    'coredns_proxy_healthcheck_failures_total{proxy_name="forward",to="10.0.0.2:53"} 4',
    'coredns_proxy_conn_cache_hits_total{proxy_name="forward",to="10.0.0.2:53",proto="udp"} 9',
    'coredns_proxy_conn_cache_misses_total{proxy_name="forward",to="10.0.0.2:53",proto="udp"} 1',
    "coredns_forward_healthcheck_broken_total 6",
    "coredns_forward_max_concurrent_rejects_total 0",
    'coredns_forward_requests_total{to="10.0.0.2:53"} 3',
    'coredns_forward_responses_total{to="10.0.0.2:53",rcode="NOERROR"} 2',
    'coredns_forward_request_duration_seconds_count{to="10.0.0.2:53",rcode="NOERROR"} 2',
    'coredns_forward_healthcheck_failures_total{to="10.0.0.2:53",rcode=""} 4',
    'coredns_health_request_duration_seconds_bucket{le="0.0025"} 1',
    'coredns_health_request_duration_seconds_bucket{le="2.5"} 1',
    "coredns_health_request_failures_total 0",
    "coredns_reload_failed_total 0",
    'coredns_reload_version_info{hash="sha512",value="ab12"} 1',
    "coredns_panics_total 1",
    'coredns_plugin_enabled{server="dns://10.0.0.10:53",zone=".",view="",name="cache"} 1',
    'coredns_nodecache_setup_errors_total{errortype="iptables"} 0',
    'coredns_dns_request_count_total{server="dns://10.0.0.10:53",zone=".",proto="udp",family="1"} 12',
    'coredns_dns_request_type_count_total{server="dns://10.0.0.10:53",zone=".",type="A"} 12',
    'coredns_dns_request_do_count_total{server="dns://10.0.0.10:53",zone="cluster.local."} 1',
    'coredns_dns_response_rcode_count_total{server="dns://10.0.0.10:53",zone=".",rcode="NXDOMAIN"} 1',
    'coredns_cache_size{server="dns://10.0.0.10:53",type="success"} 70',
    'coredns_forward_response_rcode_count_total{to="10.0.0.2:53",rcode="SERVFAIL"} 1',
    'resolver_upstream_timeouts_total{to="10.0.0.2:53"} 1',
    'resolver_upstream_wrong_answers_total{to="10.0.0.2:53"} 2',
    'resolver_log_lines_suppressed_total{channel="query"} 0',
    'resolver_test_things{kind="a\\"\\\\\\n"} 1.5',
    'resolver_test_things{kind="b"} +Inf',
]


@pytest.fixture(scope="module")
def text() -> str:
    return scrape(*busy())


@pytest.mark.parametrize("line", LINES)
def test_samples(text: str, line: str) -> None:
    assert any(found == line or (line.endswith("python") and found.startswith(line)) for found in text.splitlines())


def test_every_family_is_exported_with_its_own_type_and_labels(text: str) -> None:
    found = parsed(text)
    for family in f.ALL:
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        assert found[name].type == family.kind, family.name
        assert found[name].documentation
        for sample in found[name].samples:
            assert tuple(label for label in sample.labels if label != "le") == family.labels
    assert len({family.name for family in f.ALL}) == len(f.ALL)


def test_histograms_agree_with_themselves(text: str) -> None:
    for family in parsed(text).values():
        if family.type != "histogram":
            continue
        counts: dict[tuple[str, ...], list[float]] = {}
        for sample in family.samples:
            labels = tuple(value for label, value in sample.labels.items() if label != "le")
            if sample.name.endswith("_bucket"):
                counts.setdefault(labels, []).append(sample.value)
            elif sample.name.endswith("_count"):
                assert sample.value == counts[labels][-1]
        for cumulative in counts.values():
            assert cumulative == sorted(cumulative)


def test_no_created_series(text: str) -> None:
    assert "_created" not in text


def test_the_garbage_collector_only_when_asked() -> None:
    assert "python_gc_" not in scrape(*busy(), runtime_metrics=False)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is in Debian's package prometheus")
def test_promtool_accepts_it(text: str) -> None:
    ours = "".join(line + "\n" for line in text.splitlines() if "resolver_test_things" not in line)
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=ours, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


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
    exposition = Exposition(registry, table)
    steps = list(exposition.steps())
    exposition.close()
    samples = [sum(not line.startswith("#") for line in step.splitlines()) for step in steps]
    assert sum(samples) > 10_000
    assert max(samples) <= SAMPLES_PER_SLICE
    assert samples.count(0) == math.ceil(len(table.by_key) / SERIES_PER_SLICE)
    assert list(parsed("".join(steps)))


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
    exposition.close()


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
    exposition.close()


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
    exposition.close()


def test_lost_log_lines_are_told() -> None:
    log = logs.Log()
    log.dropped_lines = 42
    before = logs.use(log)
    try:
        assert "resolver_log_lines_dropped_total 42\n" in scrape(*busy())
    finally:
        logs.use(before)


def test_late_counts_never_make_the_first_bucket_negative() -> None:
    table = SeriesTable()
    series = table.count(UDP, ".", "", 1, 0, False, "forward", 40, 80, 1.0)
    series.late(2.0)  # counted before its use is
    fold = SeriesFold()
    fold.add(series)
    assert fold.durations[UDP.server, ".", ""].counts[0] == 0


def test_the_two_tables_of_buckets_are_one() -> None:
    assert metrics.TIME_BUCKETS_S == TIME_BUCKETS_S
    assert [number(bound) for bound in SIZE_BUCKETS_BYTES[-2:]] == ["48000", "64000"]
    assert [number(bound) for bound in metrics.SLIM_BUCKETS_S] == ["0.00025", "0.0025", "0.025", "0.25", "2.5"]


@given(st.dictionaries(st.text(max_size=20), st.integers(0, 2**70), max_size=8))
def test_any_label_value_comes_back(samples: dict[str, int]) -> None:
    family = f.Family("resolver_any", "gauge", "Any.", ("label",))
    text = "".join(chunks(family, {(label,): value for label, value in samples.items()}))
    # The parser splits lines as str does; Prometheus does at new lines only.
    text = "".join(line + "\n" for line in text.split("\n") if len(line.splitlines()) == 1)
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            assert samples[sample.labels["label"]] == pytest.approx(sample.value)


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_histogram_counts_what_it_observes(values: list[float]) -> None:
    histogram = Histogram(metrics.TIME_BUCKETS_S)
    for value in values:
        histogram.observe(value)
    family = f.Family("resolver_any", "histogram", "Any.")
    (metric,) = text_string_to_metric_families("".join(chunks(family, {(): histogram})))
    for sample in metric.samples:
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            assert sample.value == sum(value <= bound for value in values)


def test_regroup_sums_what_it_drops() -> None:
    of = f.Family("a", "counter", "", ("x", "y"))
    to = f.Family("b", "counter", "", ("y",))
    assert regroup({("1", "p"): 2, ("2", "p"): 3, ("1", "q"): 4}, of, to) == {("p",): 5, ("q",): 4}


def test_upstreams_are_bounded_and_the_unused_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "UPSTREAMS_MAX", 2)
    registry = Registry()
    first, second = registry.upstream("a"), registry.upstream("b")
    assert registry.upstream("a") is first
    assert registry.upstream("c").to == "other"
    second.in_use = False
    del registry.upstreams["other"]
    assert registry.upstream("d").to == "d"
    assert set(registry.upstreams) == {"a", "d"}
