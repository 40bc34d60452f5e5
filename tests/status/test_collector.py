"""Laws of folding and writing: no count is lost, every label comes back, a slice is as the whole."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from resolver import metrics
from resolver.metrics import Histogram, Registry
from resolver.report.series import SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, SeriesTable
from resolver.status import collector
from resolver.status import families as f
from resolver.status.collector import SAMPLES_PER_SLICE, Writer, buckets
from resolver.status.fold import SeriesFold, regroup
from tests.status.test_exposition import UDP


def chunks(family: f.Family, samples: f.Samples) -> list[bytes]:
    """Return the family's text as a writer writes it that has seen nothing yet."""
    return [piece.text for piece in Writer().pieces(family, samples)]


def test_late_counts_never_make_the_first_bucket_negative() -> None:
    table = SeriesTable()
    series = table.count(UDP, ".", "", 1, 0, False, "forward", 40, 80, 1.0)
    series.late(2.0)  # counted before its use is
    fold = SeriesFold()
    fold.add([series])
    assert fold.durations[UDP.server, ".", ""].counts[0] == 0


def test_what_was_late_and_fast_is_counted_once() -> None:
    table = SeriesTable()
    series = table.count(UDP, ".", "", 1, 0, False, "forward", 40, 80, 0.0001)
    series.late(0.0001)
    fold = SeriesFold()
    fold.add([series])
    assert sum(fold.durations[UDP.server, ".", ""].counts) == 1


def test_the_two_tables_of_buckets_are_one() -> None:
    assert metrics.TIME_BUCKETS_S == TIME_BUCKETS_S


@pytest.mark.parametrize(
    ("bounds", "spelled"),
    [
        (metrics.SLIM_BUCKETS_S, "0.00025 0.0025 0.025 0.25 2.5 +Inf"),
        (SIZE_BUCKETS_BYTES, "0 100 200 300 400 511 1023 2047 4095 8291 16000 32000 48000 64000 +Inf"),
        (
            TIME_BUCKETS_S,
            "0.00025 0.0005 0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 "
            "1.024 2.048 4.096 8.192 +Inf",
        ),
    ],
)
def test_buckets_are_spelled_as_coredns_spells_them(bounds: tuple[float, ...], spelled: str) -> None:
    assert [bound for bound, _ in buckets(Histogram(bounds))] == spelled.split()


@given(st.dictionaries(st.text(max_size=20), st.integers(0, 2**70), max_size=8))
def test_any_label_value_comes_back(samples: dict[str, int]) -> None:
    family = f.Family("resolver_any", "gauge", "Any.", ("label",))
    text = b"".join(chunks(family, {(label,): value for label, value in samples.items()})).decode()
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
    (metric,) = text_string_to_metric_families(b"".join(chunks(family, {(): histogram})).decode())
    for sample in metric.samples:
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            assert sample.value == sum(value <= bound for value in values)


@pytest.mark.parametrize("count", [0, 1, SAMPLES_PER_SLICE, SAMPLES_PER_SLICE + 1, 5 * SAMPLES_PER_SLICE])
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_slices_are_one_family(kind: f.Kind, count: int) -> None:
    family = f.Family("resolver_any_total" if kind == "counter" else "resolver_any", kind, "Any\n\\.", ("label",))
    pieces = list(
        chunks(family, {(str(n),): Histogram((0, 1)) if kind == "histogram" else n for n in range(count)})
    )
    text = b"".join(pieces).decode()
    assert [line for line in text.splitlines() if line.startswith("#")] == (
        [f"# HELP {family.name} Any\\n\\\\.", f"# TYPE {family.name} {kind}"] if count else []
    )
    lines = [sum(not line.startswith(b"#") for line in piece.splitlines()) for piece in pieces]
    assert sum(lines) == count * (5 if kind == "histogram" else 1)
    assert max(lines, default=0) <= SAMPLES_PER_SLICE
    assert len([metric.name for metric in text_string_to_metric_families(text)]) == bool(count)


NUMBERS = (st.integers(-3, 2**70) | st.floats()).filter(lambda number: number or str(number) != "-0.0")
SAMPLES = st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2 * SAMPLES_PER_SLICE)


@given(st.lists(SAMPLES, max_size=4), st.sampled_from(["counter", "gauge"]))
def test_what_is_filled_in_is_what_the_library_would_write(
    scrapes: list[dict[str, float]], kind: Literal["counter", "gauge"]
) -> None:
    family = f.Family("resolver_any_total", kind, "Any # 1.0\n.", ("label",))
    writer = Writer()
    for values in [*scrapes, {}, *scrapes]:
        samples: f.Samples = {(label,): value for label, value in values.items()}
        writer.begin()
        assert [piece.text for piece in writer.pieces(family, samples)] == chunks(family, samples)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3), st.booleans()), max_size=12),
    st.sampled_from([(0, 1), (0, 2), (0.25,)]),
)
def test_histograms_are_filled_in_as_the_library_would_write_them(
    observed: list[tuple[str, float, bool]], bounds: tuple[float, ...]
) -> None:
    family = f.Family("resolver_any", "histogram", "Any.", ("label",))
    writer = Writer()
    histograms: dict[tuple[str, ...], Histogram] = {("a",): Histogram((0, 1))}
    for label, value, scraped in observed:
        histograms.setdefault((label,), Histogram(bounds)).observe(value)
        if scraped:
            writer.begin()
            assert [piece.text for piece in writer.pieces(family, histograms)] == chunks(family, histograms)


def work(writer: Writer, family: f.Family, samples: f.Samples) -> list[tuple[int, int]]:
    """Scrape once; return how many samples were written and how many numbers filled in for each piece."""
    writer.begin()
    return [(written, filled) for _, written, filled in writer.pieces(family, samples)]


def test_the_library_writes_once_and_only_slices_that_changed_are_filled_in() -> None:
    family = f.Family("resolver_any", "gauge", "Any.", ("label",))
    samples: f.Samples = {(str(n),): n for n in range(2 * SAMPLES_PER_SLICE)}
    writer = Writer()
    assert work(writer, family, samples) == [(SAMPLES_PER_SLICE, 0)] * 2
    assert work(writer, family, dict(samples)) == [(0, 0)] * 2
    assert work(writer, family, {**samples, ("150",): 151}) == [(0, 0), (0, SAMPLES_PER_SLICE)]
    assert work(writer, family, {**samples, ("new",): 1}) == [(0, 0), (0, SAMPLES_PER_SLICE), (1, 0)]
    assert work(writer, family._replace(help="Other."), samples) == [(SAMPLES_PER_SLICE, 0)] * 2


def test_a_histogram_that_went_on_counting_is_filled_in() -> None:
    family = f.Family("resolver_any", "histogram", "Any.")
    histogram = Histogram((0, 1))
    writer = Writer()
    assert work(writer, family, {(): histogram}) == [(5, 0)]
    assert work(writer, family, {(): histogram}) == [(0, 0)]
    histogram.observe(0.5)
    assert work(writer, family, {(): histogram}) == [(0, 5)]
    histogram.total += 0.1
    assert work(writer, family, {(): histogram}) == [(0, 5)]
    assert work(writer, family, {(): Histogram((0, 2))}) == [(5, 0)], "other bounds are other lines"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(b" 1.0\n", b" 1.0 1700000000\n"), (b" 1.0\n", b" 1\n"), (b" 1.0\n", b" 1.0"), (b" 1.0\n", b" 1.0\n\n")],
    ids=["a time stamp", "other numbers", "no end of line", "two ends"],
)
def test_what_does_not_come_out_of_a_template_is_the_librarys_to_write(
    monkeypatch: pytest.MonkeyPatch, ours: bytes, theirs: bytes
) -> None:
    library = generate_latest
    monkeypatch.setattr(collector, "generate_latest", lambda of: library(of).replace(ours, theirs))
    family = f.Family("resolver_any", "gauge", "Any.")
    writer = Writer()
    for _ in range(3):
        writer.begin()
        ((text, written, filled),) = writer.pieces(family, {(): 1})
        assert (text.endswith(theirs), written, filled) == (True, 1, 0)


def test_what_is_remembered_is_bounded_and_what_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (f.Family(f"resolver_{name}", "gauge", "Any.") for name in ("one", "two"))
    monkeypatch.setattr(collector, "REMEMBERED_MAX_BYTES", len(chunks(one, {(): 1})[0]))
    writer = Writer()

    def scrape(*families: f.Family) -> list[int]:
        writer.begin()
        return [written for family in families for _, written, _ in writer.pieces(family, {(): 1})]

    assert scrape(one, two) == [1, 1]
    assert scrape(one, two) == [0, 1]
    assert scrape(two) == [1]
    assert scrape(one, two) == [1, 0]
    assert scrape(one, two) == [0, 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([".", "cluster.local."]),
            st.sampled_from([1, 28, 65280]),
            st.sampled_from([0, 3, 16]),
            st.booleans(),
            st.sampled_from([("cache", "success"), ("cache", "denial"), ("forward", "")]),
            st.integers(12, 70_000),
            st.sampled_from([0.0, 0.1, 1.7]),
        ),
        max_size=20,
    )
)
def test_a_fold_that_remembers_places_is_as_a_new_one(counted: list[tuple[Any, ...]]) -> None:
    table = SeriesTable()
    old = SeriesFold()
    for zone, qtype, rcode, do, (plugin, kind), size_bytes, duration_s in counted:
        table.count(UDP, zone, "", qtype, rcode, do, plugin, 40, size_bytes, duration_s, kind)
        new = SeriesFold()
        for fold in (old, new):
            fold.begin()
            fold.add(table.by_key.values())
        assert families(old) == families(new)


def families(fold: SeriesFold) -> list[tuple[str, list[Any]]]:
    """Return everything that a fold says, in its order, histograms as their numbers."""
    said: list[tuple[str, f.Samples]] = [(family.name, samples) for family, samples in fold.families()]
    said.append(("hits", fold.cache_hits.by_labels()))
    return [
        (
            name,
            [
                (labels, (*value.counts, value.total) if isinstance(value, Histogram) else value)
                for labels, value in samples.items()
            ],
        )
        for name, samples in said
    ]


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
    second.users -= 1
    del registry.upstreams["other"]
    assert registry.upstream("d").to == "d"
    assert set(registry.upstreams) == {"a", "d"}
