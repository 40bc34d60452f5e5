"""Pictures as SVG text: horizontal bars in groups, and lines over a logarithmic axis. Pure; no library.

A picture says all its numbers in words, too, and how to read it; shows how far the rounds were apart; has a white
ground (pages may be dark) and needs no fonts.
"""

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self
from xml.sax.saxutils import escape, quoteattr

WIDTH = 720
LEFT, RIGHT = 150, 90
TITLE, CAPTION_LINE, CAPTION_WORDS = 22, 15, 124
BAR, GAP, GROUP_GAP, HEAD = 16, 4, 14, 20
AXIS, PLOT_HEIGHT, LEGEND_LINE, LABEL_LINE = 60, 260, 18, 15
LETTER = 7.2
"""Width of a letter of size 12, generously: labels that might touch are set apart."""

SEEN = 4
"""A reach of less than this is a blot and not drawn."""

OURS = ("#0b5fa5", "#6aaee0")
PEERS = ("#d55e00", "#009e73", "#cc79a7", "#b8a000", "#8c6d4f", "#555555")
FLOOR, FLOOR_COLOUR = "floor", "#bdbdbd"
FLOOR_SAYS = "floor: an echo in C, no DNS"
MUCH = 8
"""Each group of bars has its own scale when one's longest bar would be this much shorter than another's."""


class Measured(NamedTuple):
    """One number of a picture: the median of its rounds, the least and the most."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Self:
        """Return what `rounds`, at least one, come to."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))


Numbers = Mapping[str, Mapping[str, Measured]]
"""Group (or series) to label to number."""


def colours(names: Iterable[str]) -> dict[str, str]:
    """One colour for each server, the same in all pictures of a run: ours blue, the floor light."""
    mine = [name for name in names if name.startswith("ours")]
    peers = [name for name in names if name not in mine and name != FLOOR]
    chosen = {name: OURS[place % len(OURS)] for place, name in enumerate(mine)}
    chosen |= {name: PEERS[place % len(PEERS)] for place, name in enumerate(peers)}
    return chosen | {FLOOR: FLOOR_COLOUR}


def bars(title: str, unit: str, groups: Numbers, form: str = ",.1f", *, less_is_better: bool = True) -> str:
    """Groups of bars under each other, each bar with its name and number; the floor is the last of its group."""
    names = _floor_last(dict.fromkeys(name for group in groups.values() for name in group))
    chosen = colours(names)
    longest = {
        label: max((value.most for value in group.values()), default=0) or 1 for label, group in groups.items()
    }
    most = max(longest.values(), default=1)
    apart = min(longest.values(), default=1) * MUCH < most
    caption = _caption(groups, names, "shorter" if less_is_better else "longer", apart=apart)
    parts, y = [], _top(caption)
    for label, group in groups.items():
        parts.append(_text(10, y + 14, label, weight="bold"))
        y += HEAD
        scale = (WIDTH - LEFT - RIGHT) / (longest[label] if apart else most)
        for name in (name for name in names if name in group):
            value = group[name]
            width = max(1.0, scale * value.middle)
            parts.append(_text(LEFT - 6, y + 12, name, anchor="end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{chosen[name]}"/>')
            low, high = scale * value.least, scale * value.most
            if high - low >= SEEN:
                parts += _reach(LEFT + low, LEFT + high, y + BAR / 2)
            parts.append(_text(LEFT + max(width, high) + 5, y + 12, format(value.middle, form)))
            y += BAR + GAP
        y += GROUP_GAP
    return _picture(title, unit, caption, parts, y)


def lines(title: str, unit: str, series: Numbers, form: str = ",.1f", *, less_is_better: bool = True) -> str:
    """One line for each series over labels that begin with a number; equal factors are equal steps to the right.

    Ours are drawn over the others.
    """
    labels = list(dict.fromkeys(label for points in series.values() for label in points))
    places = {label: math.log10(max(1.0, leading_number(label))) for label in labels}
    low, high = min(places.values(), default=0), max(places.values(), default=1)
    most = max((value.most for points in series.values() for value in points.values()), default=0) or 1
    step = _round_step(most)
    ticks = [step * number for number in range(math.ceil(most / step) + 1)]
    names = _floor_last(series)
    chosen = colours(names)
    caption = _caption(series, names, "lower" if less_is_better else "higher", apart=False)
    top = _top(caption) + 6

    def x(label: str) -> float:
        return AXIS + (WIDTH - AXIS - RIGHT) * ((places[label] - low) / (high - low) if high > low else 0.5)

    def y(value: float) -> float:
        return top + PLOT_HEIGHT * (1 - value / ticks[-1])

    parts = []
    for tick in ticks:
        parts.append(f'<path d="M{AXIS} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(_text(AXIS - 6, y(tick) + 4, format(tick, form), anchor="end"))
    rows = _rows([(x(label), label) for label in labels])
    for label, row in zip(labels, rows, strict=True):
        parts.append(_text(x(label), top + PLOT_HEIGHT + 18 + row * LABEL_LINE, label, anchor="middle"))
    for name in sorted(names, key=lambda name: name.startswith("ours")):
        parts += _line([(x(label), y(v.middle), y(v.most), y(v.least)) for label, v in series[name].items()],
                       chosen[name], dashed=name == FLOOR)  # fmt: skip
    legend = top + PLOT_HEIGHT + 40 + max(rows, default=0) * LABEL_LINE
    for name in names:
        parts.append(f'<rect x="{AXIS}" y="{legend - 9}" width="12" height="10" fill="{chosen[name]}"/>')
        numbers = ", ".join(format(value.middle, form) for value in series[name].values())
        parts.append(_text(AXIS + 18, legend, f"{name}: {numbers}"))
        legend += LEGEND_LINE
    return _picture(title, unit, caption, parts, legend)


def leading_number(label: str) -> float:
    """`1,000 names` is 1000; a label without a number is 1."""
    word = label.split(" ", maxsplit=1)[0].replace(",", "")
    return float(word) if word.replace(".", "", 1).isdigit() else 1.0


def _floor_last(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name == FLOOR)


def _caption(groups: Numbers, names: Sequence[str], better: str, *, apart: bool) -> list[str]:
    """How to read the picture, in lines."""
    said = [f"{better} is better"]
    if apart:
        said.append("each group has its own scale")
    if any(value.most > value.least for group in groups.values() for value in group.values()):
        said.append("thin lines: from the best round to the worst")
    if FLOOR in names:
        said.append(FLOOR_SAYS)
    return textwrap.wrap("; ".join(said), CAPTION_WORDS)


def _top(caption: Sequence[str]) -> int:
    """Where the drawing begins under title and caption."""
    return TITLE + CAPTION_LINE * len(caption) + 12


def _reach(low: float, high: float, y: float) -> list[str]:
    """A thin line with ends, to be seen on any colour."""
    way = f"M{low:.1f} {y - 3}V{y + 3}M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 3}V{y + 3}"
    return [f'<path d="{way}" stroke="{colour}" stroke-width="{width}"/>' for colour, width in _HALO]


_HALO = (("#ffffff", 3), ("#222222", 1))


def _line(points: Sequence[tuple[float, float, float, float]], colour: str, *, dashed: bool) -> list[str]:
    """Points (x, y, y of the most, y of the least) and the line through them."""
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    drawn = [f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
    for x, y, high, low in points:
        if high != low:
            drawn.append(f'<path d="M{x:.1f} {high:.1f}V{low:.1f}" stroke="{colour}"/>')
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return drawn


def _rows(labels: Sequence[tuple[float, str]]) -> list[int]:
    """In which of two rows each label under an axis stands, given its middle, so that neighbours do not touch."""
    rows, ends = [], [-math.inf, -math.inf]
    for middle, label in labels:
        half = len(label) * LETTER / 2
        row = 0 if middle - half > ends[0] else 1
        rows.append(row)
        ends[row] = middle + half
    return rows


def _round_step(most: float) -> float:
    """A sixth of `most` or a little more, as a number that people like."""
    power: float = 10.0 ** math.floor(math.log10(most / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 6 >= most)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def _picture(title: str, unit: str, caption: Sequence[str], parts: Sequence[str], height: float) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" role="img" '
        f"aria-label={quoteattr(f'{title}: {unit}')}>"
    )
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    said = [_text(10, TITLE, f"{title}: {unit}", weight="bold")]
    said += [_text(10, TITLE + CAPTION_LINE * (row + 1), line, size=11) for row, line in enumerate(caption)]
    return "\n".join([head, ground, *said, *parts, "</svg>", ""])
