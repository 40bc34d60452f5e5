"""Families and samples as Prometheus's text format 0.0.4, in pieces that a loop turn can bear. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from resolver.metrics import Histogram
from resolver.status.families import Family, Samples, Value

SAMPLES_PER_SLICE = 300
"""Lines rendered before the loop gets a turn: about 0.3 ms of the 5 ms that a turn may take."""


def number(value: float) -> str:
    """Return `value` as Prometheus reads it: `64000`, `0.00025`, `+Inf`."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def escape(value: str) -> str:
    """Return `value` as it stands between the quotes of a label."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def head(family: Family) -> str:
    """Return the two lines in front of a family's samples."""
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind}\n"


def sample_lines(family: Family, values: Sequence[str], value: Value) -> list[str]:
    """Return the lines of one label set: one, or for a histogram its cumulative buckets, sum and count."""
    labels = ",".join(f'{name}="{escape(text)}"' for name, text in zip(family.labels, values, strict=True))
    braced = f"{{{labels}}}" if labels else ""
    if not isinstance(value, Histogram):
        return [f"{family.name}{braced} {number(value)}\n"]
    before = labels + "," if labels else ""
    counts = list(accumulate(value.counts))
    lines = [
        f'{family.name}_bucket{{{before}le="{bound}"}} {count}\n'
        for bound, count in zip((*map(number, value.bounds), "+Inf"), counts, strict=True)
    ]
    lines.append(f"{family.name}_sum{braced} {number(value.total)}\n")
    lines.append(f"{family.name}_count{braced} {counts[-1]}\n")
    return lines


def chunks(family: Family, samples: Samples, lines_max: int = SAMPLES_PER_SLICE) -> Iterator[str]:
    """Yield the text of one family in pieces of at most `lines_max` samples; nothing if it has none."""
    lines: list[str] = []
    first = True
    for values, value in samples.items():
        more = sample_lines(family, values, value)
        if lines and len(lines) + len(more) > lines_max:
            yield (head(family) if first else "") + "".join(lines)
            first = False
            lines = []
        lines += more
    if lines:
        yield (head(family) if first else "") + "".join(lines)


def regroup(samples: Mapping[tuple[str, ...], int], family: Family, to: Family) -> dict[tuple[str, ...], int]:
    """Return `samples` of `family` summed over the labels that `to` does not have."""
    positions = [family.labels.index(label) for label in to.labels]
    sums: dict[tuple[str, ...], int] = {}
    for values, value in samples.items():
        key = tuple(values[position] for position in positions)
        sums[key] = sums.get(key, 0) + value
    return sums
