"""Pictures say their numbers: lengths, steps, axes and labels."""

from xml.etree import ElementTree as ET

import pytest

from perf import svg


def measured(*rounds: float) -> svg.Measured:
    return svg.Measured.of(rounds)


def words(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter() if element.tag.endswith("text")]


def widths(picture: str) -> list[float]:
    """How long the bars are."""
    return [float(e.get("width", "0")) for e in ET.fromstring(picture).iter() if e.get("height") == "16"]


def test_bars_say_their_numbers_and_are_as_long() -> None:
    groups = {"one": {"floor": measured(5.0), "ours": measured(10.0)}, "two": {"ours": measured(2.5)}}
    picture = svg.bars("A < B", "µs", groups)
    assert {"A < B: µs", "one", "two", "10.0", "5.0", "2.5", "ours", "floor"} <= set(words(picture))
    assert widths(picture) == [480.0, 240.0, 120.0]  # the floor stands last
    assert f"shorter is better; {svg.FLOOR_SAYS}" in words(picture)
    assert any(
        word.startswith("longer is better") for word in words(svg.bars("A", "%", groups, less_is_better=False))
    )


def test_groups_of_bars_that_are_far_apart_have_their_own_scales() -> None:
    groups = {"one": {"ours": measured(100.0)}, "two": {"ours": measured(5.0), "unbound": measured(10.0)}}
    picture = svg.bars("A", "µs", groups)
    assert widths(picture) == [480.0, 240.0, 480.0]
    assert "shorter is better; each group has its own scale" in words(picture)


def test_how_far_rounds_are_apart_is_drawn() -> None:
    picture = svg.bars("A", "µs", {"one": {"ours": measured(8.0, 9.0, 12.0), "unbound": measured(6.0, 6.02)}})
    assert widths(picture) == [360.0, pytest.approx(240.4)]
    reach = {e.get("d", "") for e in ET.fromstring(picture).iter() if e.tag.endswith("path")}
    (way,) = reach  # two rounds that are as good as one are no line
    assert way.startswith("M470.0 ")
    assert "H630.0" in way
    assert "shorter is better; thin lines: from the best round to the worst" in words(picture)


def test_lines_stand_at_equal_steps_for_equal_factors() -> None:
    points = {"1,000 names": measured(5.0), "10,000 names": measured(6.0), "100,000 names": measured(5.0, 6.0)}
    picture = svg.lines("Growth", "µs", {"floor": points, "ours": points, "unbound": points})
    circles = [e for e in ET.fromstring(picture).iter() if e.tag.endswith("circle")]
    xs = [float(e.get("cx", "0")) for e in circles]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert circles[-1].get("fill") == svg.OURS[0]  # drawn over the others
    assert [word for word in words(picture) if word.endswith(": 5.0, 6.0, 5.5")] == [
        f"{name}: 5.0, 6.0, 5.5" for name in ("ours", "unbound", "floor")
    ]
    assert svg.leading_number("no number") == 1


def test_an_axis_has_round_numbers_and_labels_that_do_not_touch() -> None:
    counts = ("1 socket", "50 sockets", "100 sockets", "1,000 sockets")
    picture = svg.lines("Growth", "µs", {"ours": {count: measured(47.0) for count in counts}})
    assert {"0.0", "10.0", "20.0", "30.0", "40.0", "50.0"} <= set(words(picture))
    heights = [e.get("y") for e in ET.fromstring(picture).iter() if e.text in counts]
    assert len(set(heights)) == 2
    assert heights[1] != heights[2]
