"""A scrape: names, labels, values and form."""

import asyncio
import json
import math
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from resolver import VERSION
from resolver.metrics import ConnCounts, PluginEnabled, Reading, Registry
from resolver.report.series import ListenerLabels, SeriesTable
from resolver.status import families as f
from resolver.status.exposition import Exposition
from tests.support import node
from tests.support.addresses import free_port, loopback

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
    exposition = Exposition(registry, table)
    exposition.runtime_metrics = runtime_metrics
    return asyncio.run(exposition.text()).decode()


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


LINES = [
    f'coredns_build_info{{version="{VERSION}",revision="",goversion="python{platform.python_version()}"}} 1',
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


@pytest.fixture(scope="module")
def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return values_of(text)


def values_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels; `le` is a label like another, so its spelling counts."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


@pytest.mark.parametrize("line", LINES)
def test_samples(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], line: str) -> None:
    ((labelled, value),) = values_of(line + "\n").items()
    assert samples[labelled] == value


def test_help_and_type_stand_once_in_front_of_each_family(text: str) -> None:
    heads = [line.split(" ", 3)[1:3] for line in text.splitlines() if line.startswith("# ")]
    names = [name for kind, name in heads if kind == "TYPE"]
    assert heads == [[kind, name] for name in names for kind in ("HELP", "TYPE")]
    assert len(set(names)) == len(names)


def test_every_family_is_exported_with_its_own_type_and_labels(text: str) -> None:
    found = parsed(text)
    for family in f.ALL:
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        assert found[name].type == family.kind, family.name
        assert found[name].documentation
        for sample in found[name].samples:
            assert sample.labels.keys() - {"le"} == set(family.labels)
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


DAEMON = """
import asyncio, json, sys, threading
from resolver.daemon import Daemon
from resolver.settings.loading import load
from resolver.settings.model import ProcessOptions

threads = []

def hear(event, arguments):
    if event == "import" and arguments[0] == "prometheus_client":
        threads.append(threading.current_thread() is threading.main_thread())

sys.addaudithook(hear)

async def main():
    daemon = Daemon(load(ProcessOptions(conf=sys.argv[1])))
    await daemon.start()
    serving = list(threads)
    await daemon.prepare()
    prepared = list(threads)
    await daemon._pages.metrics()
    await daemon.stop(lame_duck=False)
    json.dump([serving, prepared, threads], sys.stderr)

asyncio.run(main())
"""


@pytest.mark.parametrize("scraped", [True, False], ids=["scraped", "never scraped"])
def test_the_library_is_imported_after_serving_has_begun_and_outside_the_loop(
    tmp_path: Path, scraped: bool
) -> None:
    """docs/decisions/0002. Who is not scraped does without it, until a scrape comes after all."""
    host = loopback()
    page = f"prometheus {host}:0" if scraped else ""
    corefile = tmp_path / "Corefile"
    corefile.write_text(f".:{free_port(host)} {{\n bind {host}\n forward . 127.0.0.1\n {page}\n}}\n")
    run = subprocess.run(
        [sys.executable, "-c", DAEMON, corefile], capture_output=True, text=True, timeout=60, check=False
    )
    serving, prepared, at_last = json.loads(run.stderr)
    assert serving == []
    assert prepared == ([False] if scraped else [])
    assert at_last == [False], "once, and not in the main thread"


PLAIN = ".:PORT {\n bind HOST\n prometheus HOST:0\n}\n"
RUNTIME = "{} {{\n bind HOST\n prometheus HOST:0 {{\n runtime_metrics\n }}\n}}\n"


@pytest.mark.parametrize("also", ["", "a" + PLAIN], ids=["its block", "one of two blocks"])
async def test_runtime_metrics_of_any_block_count_and_a_reload_changes_them(also: str) -> None:
    async with node.serving(PLAIN) as server:
        assert b"python_gc_" not in (await server.daemon._pages.metrics()).body
        assert await server.reload(also + RUNTIME.format(".:PORT"))
        assert b"python_gc_" in (await server.daemon._pages.metrics()).body
        assert await server.reload(PLAIN)
        assert b"python_gc_" not in (await server.daemon._pages.metrics()).body
