"""What people see: progress while it runs and tables afterwards, with rich where it is installed, else plain.

`Plain` and `Rich` are interchangeable: `say` what is being done, `warn` what must not be missed, `table` a
finished workload. Text goes to standard output, progress to standard error.
"""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from perf.estimate import Estimate
from perf.results import METRICS, Block, Row

if TYPE_CHECKING:
    from rich.status import Status

FLOOR, PEER = "floor", "unbound"


class Screen(Protocol):
    """See the module's words."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def warn(self, text: str) -> None:
        """Something that stays on the screen."""

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A finished table; the first two columns are text, the others numbers."""

    def close(self) -> None:
        """Nothing more is being done."""


def screen() -> Screen:
    """The better one of those that work here."""
    try:
        return Rich()
    except ImportError:
        return Plain()


class Plain:
    """Lines of text."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._said = ""

    def say(self, text: str) -> None:
        """One line each time something else begins."""
        if text != self._said:
            print(f"[{time.monotonic() - self._begun_s:6.0f} s] {text}", file=sys.stderr, flush=True)
        self._said = text

    def warn(self, text: str) -> None:
        """A line."""
        print(f"  ! {text}", file=sys.stderr, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as their longest cell."""
        print(f"\n{title}\n{plain(head, rows)}\n", flush=True)

    def close(self) -> None:
        """Lines need no end."""


class Rich:
    """A line that changes while it runs, and tables with colour. Raises ImportError without rich."""

    def __init__(self) -> None:
        from rich.console import Console  # optional: the extra "tools"

        self._out, self._err = Console(), Console(stderr=True)
        self._status: Status | None = None
        self._plain = None if self._err.is_terminal else Plain()

    def say(self, text: str) -> None:
        """The changing line; plain lines where nothing can change."""
        if self._plain:
            self._plain.say(text)
        elif self._status is None:
            # Once a second: it runs on the load's processor.
            self._status = self._err.status(text, refresh_per_second=1)
            self._status.start()
        else:
            self._status.update(text)

    def warn(self, text: str) -> None:
        """A line above the changing one."""
        self._err.print(f"  ! {text}", style="yellow", markup=False, highlight=False)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; where nobody watches, plain text of full width."""
        self.close()
        if not self._out.is_terminal:
            print(f"\n{title}\n{plain(head, rows)}\n", flush=True)
            return
        from rich.table import Table  # as above

        made = Table(title=title, title_justify="left")
        for place, word in enumerate(head):
            made.add_column(word, justify="right" if place > 1 else "left", overflow="fold")
        for cells in rows:
            made.add_row(*cells, style="bold" if cells[1].startswith("ours") else None)
        self._out.print(made)

    def close(self) -> None:
        """Remove the changing line."""
        if self._status:
            self._status.stop()
            self._status = None


class TimeLeft:
    """A screen for what is being done, with how long all of it still takes."""

    def __init__(self, screen: Screen, estimate: Estimate) -> None:
        self._screen, self._estimate = screen, estimate

    def say(self, text: str) -> None:
        """What is being done now, and the time left."""
        self._screen.say(f"{text} ({self._estimate.text})")

    def warn(self, text: str) -> None:
        """Something that stays on the screen."""
        self._screen.warn(text)


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text."""
    widths = [max(len(line[place]) for line in (head, *rows)) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place > 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *rows)
    )


def cell(row: Row, metric: str) -> str:
    """Median and, in brackets, the extremes."""
    values = row.values.get(metric)
    if not values:
        return "-"
    form = METRICS[metric].form
    middle = format(row.median(metric), form)
    low, high = format(min(values), form), format(max(values), form)
    return middle if low == high else f"{middle} [{low}-{high}]"


def outcome(row: Row) -> str:
    """What became of the questions of all runs, counted ones and others."""
    if not row.sent:
        return "-"
    return ", ".join(f"{name} {count:,}" for name, count in sorted(row.rcodes.items())) or "no answer"


def lay_out(block: Block, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one workload's table: a line for each case and server, ratios within the same run."""
    main = metrics[0]
    others = [name for name in (PEER, FLOOR) if any(row.server == name for row in block.rows)]
    asked = any(row.sent for row in block.rows)
    head = ["case", "server", METRICS[main].heading, *(f"x {name}" for name in others)]
    head += [METRICS[metric].heading for metric in metrics[1:]]
    head += [*(["rcodes", "lost"] if asked else []), "rejected"]
    rows = []
    for case in block.cases():
        for server in block.servers():
            row = block.find(case, server)
            if row is None:
                continue
            ratios = [block.ratio(case, server, other, main) for other in others]
            cells = [case, server, cell(row, main), *("-" if r is None else f"{r:.2f}" for r in ratios)]
            cells += [cell(row, metric) for metric in metrics[1:]]
            cells += [outcome(row), f"{row.lost:,}"] if asked else []
            rows.append([*cells, str(len(row.rejected)) if row.rejected else ""])
    return head, rows
