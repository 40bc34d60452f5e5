"""Pictures as SVG text: horizontal bars in groups, and lines over a logarithmic axis. Pure; no library.

A picture says all its numbers in words, too, has a white ground (pages may be dark) and needs no fonts.
"""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

WIDTH = 720
LEFT, RIGHT, TOP = 150, 90, 40
BAR, GAP, GROUP_GAP, HEAD = 16, 4, 14, 20
PLOT_HEIGHT, LEGEND_LINE = 260, 18
OURS = ("#0b5fa5", "#6aaee0")
PEERS = ("#8a8a8a", "#b5893c", "#6f9a5d", "#a0647c", "#5d7a9a", "#9a7b5d")
FLOOR_COLOUR = "#cccccc"

Numbers = Mapping[str, Mapping[str, float]]
"""Group (or series) to label to number."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour for each server, the same in all pictures of a run: ours blue, the floor light."""
    mine = [name for name in names if name.startswith("ours")]
    peers = [name for name in names if name not in mine and name != "floor"]
    chosen = {name: OURS[place % len(OURS)] for place, name in enumerate(mine)}
    chosen |= {name: PEERS[place % len(PEERS)] for place, name in enumerate(peers)}
    return chosen | {"floor": FLOOR_COLOUR}


def bars(title: str, unit: str, groups: Numbers, form: str = ",.1f") -> str:
    """Groups of bars under each other, each bar with its name and number."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    chosen = colours(names)
    most = max((value for group in groups.values() for value in group.values()), default=0) or 1
    parts, y = [], TOP
    for label, group in groups.items():
        parts.append(_text(10, y + 14, label, weight="bold"))
        y += HEAD
        for name, value in group.items():
            width = max(1.0, (WIDTH - LEFT - RIGHT) * value / most)
            parts.append(_text(LEFT - 6, y + 12, name, anchor="end"))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{chosen[name]}"/>')
            parts.append(_text(LEFT + width + 5, y + 12, format(value, form)))
            y += BAR + GAP
        y += GROUP_GAP
    return _picture(title, unit, parts, y)


def lines(title: str, unit: str, series: Numbers, form: str = ",.1f") -> str:
    """One line for each series over labels that begin with a number; equal factors are equal steps to the right."""
    labels = list(dict.fromkeys(label for points in series.values() for label in points))
    places = {label: math.log10(max(1.0, leading_number(label))) for label in labels}
    low, high = min(places.values(), default=0), max(places.values(), default=1)
    most = max((value for points in series.values() for value in points.values()), default=0) or 1
    chosen = colours(list(series))

    def x(label: str) -> float:
        return 60 + (WIDTH - 60 - RIGHT) * ((places[label] - low) / (high - low) if high > low else 0.5)

    def y(value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - value / most)

    parts = []
    for part in range(5):
        value = most * part / 4
        parts.append(f'<path d="M60 {y(value):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(_text(54, y(value) + 4, format(value, form), anchor="end"))
    parts += [_text(x(label), TOP + PLOT_HEIGHT + 18, label, anchor="middle") for label in labels]
    legend = TOP + PLOT_HEIGHT + 40
    for name, points in series.items():
        way = " ".join(f"{x(label):.1f},{y(value):.1f}" for label, value in points.items())
        colour = chosen[name]
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(label):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            for label, value in points.items()
        ]
        parts.append(f'<rect x="60" y="{legend - 9}" width="12" height="10" fill="{colour}"/>')
        numbers = ", ".join(format(value, form) for value in points.values())
        parts.append(_text(78, legend, f"{name}: {numbers}"))
        legend += LEGEND_LINE
    return _picture(title, unit, parts, legend)


def leading_number(label: str) -> float:
    """`1,000 names` is 1000; a label without a number is 1."""
    word = label.split(" ", maxsplit=1)[0].replace(",", "")
    return float(word) if word.replace(".", "", 1).isdigit() else 1.0


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def _picture(title: str, unit: str, parts: Sequence[str], height: float) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" font-size="12" role="img" '
        f"aria-label={quoteattr(f'{title}, {unit}')}>"
    )
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, ground, _text(10, 22, f"{title}, {unit}", weight="bold"), *parts, "</svg>", ""])
