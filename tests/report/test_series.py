"""`Series` and `SeriesTable` in C and in Python count alike."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.report import counters, plain_counters, series
from resolver.report.labels import SIZE_BUCKETS_BYTES, TIME_BUCKETS_S, ListenerLabels, SeriesKey

LABELS = ListenerLabels("dns://:53", "udp", "1")

both = pytest.mark.parametrize("module", [plain_counters, counters], ids=["python", "compiled"])

edges = [size + more for size in SIZE_BUCKETS_BYTES for more in (0, 1)]
sizes = st.one_of(st.integers(0, 70_000), st.sampled_from(edges))
durations = st.one_of(st.floats(0, 20), st.sampled_from([*TIME_BUCKETS_S, TIME_BUCKETS_S[0] * 1.001]))
answers = st.tuples(
    st.sampled_from([".", "cluster.local."]),
    st.sampled_from([1, 28, 15, 99, 65_280]),
    st.integers(0, 15),
    st.booleans(),
    st.sampled_from(["", "cache", "forward"]),
    sizes,
    sizes,
    durations,
    st.sampled_from(["", "success", "denial"]),
)


def state(table: Any) -> list[tuple[Any, ...]]:
    """All that a scrape reads of a table, in its order."""
    return [
        (key, one.key, one.uses, one.request_bytes, one.response_bytes, one.duration_sum_s, one.late_counts)
        for key, one in table.by_key.items()
    ]


def test_the_compiled_ones_are_taken_where_they_were_built() -> None:
    assert series.Series is counters.Series
    assert series.SeriesTable is counters.SeriesTable


@given(counted=st.lists(answers, max_size=30))
def test_whatever_is_counted_they_agree(counted: list[tuple[Any, ...]]) -> None:
    tables: list[Any] = [plain_counters.SeriesTable(), counters.SeriesTable()]
    for zone, *rest in counted:
        for table in tables:
            one = table.count(LABELS, zone, "", *rest)
            assert table.by_key[tuple(one.key)] is one
    plain, compiled = map(state, tables)
    assert plain == compiled


@both
@pytest.mark.parametrize(
    ("duration_s", "bucket"),
    [(0.0, None), (TIME_BUCKETS_S[0], None), (0.000251, 1), (0.0005, 1), (8.0, 15), (8.192, 15), (9.0, 16)],
)
def test_a_duration_above_the_first_bucket_has_its_own(module: Any, duration_s: float, bucket: int | None) -> None:
    one = module.SeriesTable().count(LABELS, ".", "", 1, 0, False, "", 30, 60, duration_s)
    if bucket is None:
        assert (one.late_counts, one.duration_sum_s) == (None, 0.0)
    else:
        assert [number for number, count in enumerate(one.late_counts) if count] == [bucket]
        assert one.duration_sum_s == duration_s
    one.late(0.3, 5)
    assert one.late_counts[11] == 5
    assert one.uses == 1


@both
def test_buckets_and_names_make_the_key(module: Any) -> None:
    table = module.SeriesTable()
    one = table.count(LABELS, ".", "v", 4321, 3, True, "cache", 100, 101, 0.0, "denial")
    assert one.key == SeriesKey(LABELS, ".", "v", 0, 3, True, "cache", 1, 2, "denial")
    assert table.count(LABELS, ".", "v", 999, 3, True, "cache", 1, 200, 0.0, "denial") is one
    assert (one.uses, one.request_bytes, one.response_bytes) == (2, 101, 301)
    assert table.count(LABELS, ".", "v", 999, 3, True, "cache", 1, 200, 0.0) is not one
    assert len(table.by_key) == 2


@both
def test_its_counters_are_numbers_that_anybody_may_add_to(module: Any) -> None:
    one = module.Series(SeriesKey(LABELS, ".", "", 1, 0, False, "", 1, 1))
    one.uses += 2**40
    one.request_bytes += 3
    one.response_bytes += 4
    assert (one.uses, one.request_bytes, one.response_bytes, one.late_counts) == (2**40, 3, 4, None)
    with pytest.raises(AttributeError):
        one.other = 1
