"""Laws of folding and writing: no count is lost, every label comes back, a slice is as the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    return [text for text, _ in Writer().pieces(family, samples)]


def test_late_counts_never_make_the_first_bucket_negative() -> None:
    table = SeriesTable()
    series = table.count(UDP, ".", "", 1, 0, False, "forward", 40, 80, 1.0)
    series.late(2.0)  # counted before its use is
    fold = SeriesFold()
    fold.add(series)
    assert fold.durations[UDP.server, ".", ""].counts[0] == 0


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


VALUES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3), max_size=3)


@given(st.lists(VALUES, max_size=6))
def test_what_is_remembered_is_what_would_be_written(scrapes: list[dict[str, int]]) -> None:
    family = f.Family("resolver_any", "gauge", "Any.", ("label",))
    writer = Writer()
    for values in scrapes:
        samples: f.Samples = {(label,): value for label, value in values.items()}
        writer.begin()
        found, fresh = (b"".join(text for text, _ in one.pieces(family, samples)) for one in (writer, Writer()))
        assert sorted(found.splitlines()) == sorted(fresh.splitlines())  # their order means nothing


def written(writer: Writer, family: f.Family, samples: f.Samples) -> list[int]:
    """Scrape once; return how many samples were written for each piece."""
    writer.begin()
    return [number for _, number in writer.pieces(family, samples)]


def test_only_the_family_that_changed_is_written_again() -> None:
    family = f.Family("resolver_any", "gauge", "Any.", ("label",))
    samples: f.Samples = {(str(n),): n for n in range(2 * SAMPLES_PER_SLICE)}
    writer = Writer()
    assert written(writer, family, samples) == [SAMPLES_PER_SLICE] * 2
    assert written(writer, family, dict(samples)) == [0]
    assert written(writer, family, {**samples, ("150",): 151}) == [SAMPLES_PER_SLICE] * 2
    assert written(writer, family._replace(help="Other."), samples) == [SAMPLES_PER_SLICE] * 2


def test_a_histogram_that_went_on_counting_is_written_again() -> None:
    family = f.Family("resolver_any", "histogram", "Any.")
    histogram = Histogram((0, 1))
    writer = Writer()
    assert written(writer, family, {(): histogram}) == [5]
    assert written(writer, family, {(): histogram}) == [0]
    histogram.observe(0.5)
    assert written(writer, family, {(): histogram}) == [5]
    histogram.total += 0.1
    assert written(writer, family, {(): histogram}) == [5]


def test_what_is_remembered_is_bounded_and_what_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "REMEMBERED_MAX_BYTES", 1)
    one, two = (f.Family(f"resolver_{name}", "gauge", "Any.") for name in ("one", "two"))
    writer = Writer()

    def scrape(*families: f.Family) -> list[int]:
        writer.begin()
        return [number for family in families for _, number in writer.pieces(family, {(): 1})]

    assert scrape(one, two) == [1, 1]
    assert scrape(one, two) == [0, 1]
    assert scrape(two) == [1]
    assert scrape(one, two) == [1, 0]


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
