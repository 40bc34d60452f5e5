"""docs/performance.md and its pictures from results: what stands between two marks is rewritten, all else is kept.

    <!-- perf: NAME -->
    ... made here ...
    <!-- /perf -->

NAME is a workload's, or `machine`, `targets`, `worse`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from perf import show, svg
from perf.results import METRICS, Block, Results
from perf.targets import verdicts, worse
from perf.workloads import WORKLOADS, Workload

NOT_YET = "Not measured yet."
# What servers are compared by. The rate is the load's as much as theirs.
COMPARED = {"cpu_us", "p50_us", "p99_us", "p999_us", "hit_percent", "rss_mib", "start_ms", "cpu_percent"}
MARKED = re.compile(r"(<!-- perf: ([a-z-]+) -->\n)(.*?)(<!-- /perf -->)", re.DOTALL)


def write(page: Path, results: Results) -> list[Path]:
    """Rewrite the marked parts of `page` and the pictures in `img` beside it; returns the files written."""
    pictures = page.parent / "img"
    written = []
    for name, block in results.items():
        workload = WORKLOADS.get(name)
        picture = draw(workload, block) if workload else ""
        if picture:
            pictures.mkdir(parents=True, exist_ok=True)
            path = pictures / f"perf-{name}.svg"
            path.write_text(picture)
            written.append(path)

    def made(found: re.Match[str]) -> str:
        return found.group(1) + part(found.group(2), results) + found.group(4)

    page.write_text(MARKED.sub(made, page.read_text()))
    return [*written, page]


def part(name: str, results: Results) -> str:
    """One marked part, with its line ends."""
    if name == "machine":
        text = machine(results)
    elif name == "targets":
        text = targets(results)
    elif name == "worse":
        text = behind(results)
    elif name in results:
        text = section(WORKLOADS[name], results[name])
    else:
        text = NOT_YET
    return f"\n{text}\n\n"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers from the third column on stand at the right."""
    marks = ["---" if place < 2 else "---:" for place in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, marks, *rows))


def section(workload: Workload, block: Block) -> str:
    """Picture, table, and what does not count."""
    texts = [workload.about]
    if draw(workload, block):
        texts.append(f"![{workload.title}](img/perf-{workload.name}.svg)")
    texts.append(markdown(*show.lay_out(block, workload.metrics)))
    refused = [f"- {row.server}, {row.case}: {reason}" for row in block.rows for reason in row.rejected]
    if refused:
        texts.append("Does not count:\n\n" + "\n".join(dict.fromkeys(refused)))
    texts.append(f"Measured {block.measured} with `{block.command}`.")
    return "\n\n".join(texts)


def draw(workload: Workload, block: Block) -> str:
    """The workload's picture of its first metric; empty when no run counts."""
    metric = workload.metrics[0]
    cases, servers = block.cases(), block.servers()
    found = {
        (case, server): row.values.get(metric)
        for case in cases
        for server in servers
        if (row := block.find(case, server)) is not None
    }
    numbers = {key: svg.Measured.of(rounds) for key, rounds in found.items() if rounds}
    if not numbers:
        return ""
    meant = METRICS[metric]
    if workload.picture == "lines":
        series = {s: {c: numbers[c, s] for c in cases if (c, s) in numbers} for s in servers}
        drawn = {s: p for s, p in series.items() if p}
        return svg.lines(workload.title, meant.heading, drawn, meant.form, less_is_better=meant.less_is_better)
    groups = {c: {s: numbers[c, s] for s in servers if (c, s) in numbers} for c in cases}
    return svg.bars(workload.title, meant.heading, groups, meant.form, less_is_better=meant.less_is_better)


def machine(results: Results) -> str:
    """Machines, versions and what is missing; the same words of several workloads once."""
    if not results:
        return NOT_YET
    facts = {f"{name}: {value}" for block in results.values() for name, value in block.machine.items()}
    versions = {f"{name}: {value}" for block in results.values() for name, value in block.versions.items() if value}
    missing = {f"{name}: {value}" for block in results.values() for name, value in block.missing.items()}
    lists = (("Machine", facts), ("Versions", versions), ("Left out", missing))
    return "\n\n".join(f"{head}:\n\n" + "\n".join(f"- {f}" for f in sorted(said)) for head, said in lists if said)


def targets(results: Results) -> str:
    """What we mean to reach."""
    rows = [
        [target.text, word, "-" if measured is None else f"{measured:.2f}"]
        for target, measured, word in verdicts(results)
    ]
    return markdown(["target", "", "measured"], rows)


def behind(results: Results) -> str:
    """Every case in which a peer is better than one of our lanes."""
    if not results:
        return NOT_YET
    compared = {
        name: tuple(metric for metric in workload.metrics if metric in COMPARED)
        for name, workload in WORKLOADS.items()
    }
    better: dict[tuple[str, str], list[str]] = {}
    for workload, case, metric, mine, peer, ratio in worse(results, compared):
        where = WORKLOADS[workload].title, f"{case}: {METRICS[metric].heading}, {mine}"
        better.setdefault(where, []).append(f"{peer} {ratio:.2f} ×")
    rows = [[*where, ", ".join(who)] for where, who in better.items()]
    if not rows:
        return "In no case of these results is another server better than we are by more than 3 %."
    return markdown(["workload", "where", "better, and how many times"], rows)
