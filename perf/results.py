"""What was measured, as a value that goes to JSON and back: the table, the pictures and the page are made from it.

    {"cached-udp": {"measured": "2026-01-31", "command": ..., "machine": {...}, "versions": {server: line},
                    "missing": {server: reason}, "rows": [{"case", "server", "values": {metric: [one a round]},
                    "sent", "lost", "rcodes", "rejected": [reason]}]}}

Ratios are made within one workload's run only; workloads measured at different times can share a file.
"""

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A number in tables: heading, format, and whether less of it is better."""

    heading: str
    form: str
    less_is_better: bool = True


METRICS = {
    "cpu_us": Metric("CPU µs per answer", ".1f"),
    "rate": Metric("answers/s", ",.0f", less_is_better=False),
    "p50_us": Metric("p50 µs", ",.0f"),
    "p99_us": Metric("p99 µs", ",.0f"),
    "p999_us": Metric("p99.9 µs", ",.0f"),
    "late_us": Metric("load late p99 µs", ",.0f"),
    "hit_percent": Metric("hits %", ".1f", less_is_better=False),
    "asked_percent": Metric("asked upstream %", ".1f"),
    "rss_mib": Metric("RSS MiB", ",.1f"),
    "start_ms": Metric("ms", ",.0f"),
    "cpu_percent": Metric("CPU %", ".2f"),
}


@dataclass
class Row:
    """All runs of one case against one server."""

    case: str
    server: str
    values: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0
    lost: int = 0
    rcodes: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)

    def median(self, metric: str) -> float | None:
        """The median over the rounds, None when no run counts."""
        values = self.values.get(metric)
        return statistics.median(values) if values else None


@dataclass
class Block:
    """One workload's run."""

    measured: str = ""
    command: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def row(self, case: str, server: str) -> Row:
        """The row of this case and server; made when it is new."""
        found = self.find(case, server)
        if found is None:
            found = Row(case, server)
            self.rows.append(found)
        return found

    def find(self, case: str, server: str) -> Row | None:
        """The row of this case and server."""
        return next((row for row in self.rows if (row.case, row.server) == (case, server)), None)

    def cases(self) -> list[str]:
        """In the order of their first run."""
        return list(dict.fromkeys(row.case for row in self.rows))

    def servers(self) -> list[str]:
        """In the order of their first run, ours in front."""
        return sorted(dict.fromkeys(row.server for row in self.rows), key=lambda name: not name.startswith("ours"))

    def ratio(self, case: str, server: str, other: str, metric: str) -> float | None:
        """How many times the other's median this server's is."""
        both = [row.median(metric) if (row := self.find(case, name)) else None for name in (server, other)]
        if both[0] is None or not both[1]:
            return None
        return both[0] / both[1]

    def note(
        self,
        case: str,
        server: str,
        values: Mapping[str, float],
        *,
        sent: int = 0,
        lost: int = 0,
        rcodes: Mapping[str, int] | None = None,
        problem: str = "",
    ) -> None:
        """Add one run; with a `problem` it is shown as rejected and its numbers count nowhere."""
        row = self.row(case, server)
        row.sent += sent
        row.lost += lost
        row.rcodes = dict(Counter(row.rcodes) + Counter(rcodes or {}))
        if problem:
            row.rejected.append(problem)
            return
        for metric, value in values.items():
            row.values.setdefault(metric, []).append(value)


Results = dict[str, Block]


def load(path: Path) -> Results:
    """Read results; a file that is not there has none. Raises ValueError for a file of another kind."""
    if not path.exists():
        return {}
    try:
        said: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return {
            name: Block(**{**block, "rows": [Row(**row) for row in block["rows"]]}) for name, block in said.items()
        }
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as problem:
        raise ValueError(f"{path.name} has no results of this tool: {problem}") from problem


def save(path: Path, results: Results) -> None:
    """Write results; numbers are cut to what was measured, so that a change shows in a diff."""
    said = {name: asdict(block) for name, block in results.items()}
    for block in said.values():
        for row in block["rows"]:
            row["values"] = {m: [round(value, 4) for value in values] for m, values in row["values"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
