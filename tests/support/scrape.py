"""Reads a metrics page as Prometheus would: samples by name and labels."""

import re
import urllib.request
from collections.abc import Iterable

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]


class Scrape:
    """One page. `value` adds up all samples of a name that have these labels."""

    def __init__(self, text: str) -> None:
        self.samples: dict[tuple[str, Labels], float] = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            self.samples[name, frozenset(_LABEL.findall(labels or ""))] = float(value)

    def value(self, name: str, **labels: str) -> float:
        """Return the sum; raises KeyError when there is no such sample."""
        found = self.matching(name, labels.items())
        if not found:
            raise KeyError(name, labels)
        return sum(found)

    def matching(self, name: str, labels: Iterable[tuple[str, str]]) -> list[float]:
        """Return the values of all samples of `name` with these labels and perhaps others."""
        wanted = set(labels)
        return [value for (known, having), value in self.samples.items() if known == name and wanted <= having]

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the sums by these labels, without those that are 0."""
        sums: dict[tuple[str, ...], float] = {}
        for (known, having), value in self.samples.items():
            if known == name and value:
                key = tuple(dict(having).get(label, "") for label in labels)
                sums[key] = sums.get(key, 0) + value
        return sums


def fetch(host: str, port: int) -> Scrape:
    """Scrape http://host:port/metrics, blocking."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as page:
        return Scrape(page.read().decode())
