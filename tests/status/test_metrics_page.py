"""docs/metrics.md and the code say the same."""

import ast
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from resolver.status import families
from resolver.status.collector import of_process

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    [cell.strip(" `") for cell in line.split("|")[1:-1]]
    for line in (ROOT / "docs/metrics.md").read_text().splitlines()
    if re.match(r"\| `[a-z0-9_]+` \| (counter|gauge|histogram) \|", line)
]
ROWS = {name: (kind, labels) for name, kind, labels, _ in CELLS}


def names_of_readings() -> set[str]:
    """The names that other parts give to readings of their own: first arguments that look like one."""
    found = set()
    for path in (ROOT / "resolver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                value = node.args[0].value
                if isinstance(value, str) and re.fullmatch(r"(coredns|resolver)_[a-z0-9_]+", value):
                    found.add(value)
    return found


def of_the_library() -> dict[str, tuple[str, set[str]]]:
    """Kind and labels by name of what prometheus_client exports of itself."""
    return {
        found.name + ("_total" if found.type == "counter" else ""): (found.type, set(found.samples[0].labels))
        for found in text_string_to_metric_families(of_process(runtime_metrics=True).decode())
    }


def test_what_the_library_exports_is_on_the_page_as_it_is() -> None:
    for name, (kind, labels) in of_the_library().items():
        assert ROWS.get(name) == (kind, ", ".join(sorted(labels))), name


def test_names_of_counters_end_as_the_library_ends_them() -> None:
    for name, (kind, _) in ROWS.items():
        assert name.endswith("_total") == (kind == "counter"), name


def test_every_family_is_on_the_page_as_it_is() -> None:
    for family in families.ALL:
        assert ROWS.get(family.name) == (family.kind, ", ".join(family.labels)), family.name


def test_the_page_and_the_code_have_the_same_names() -> None:
    exported = {family.name for family in families.ALL} | names_of_readings() | set(of_the_library())
    assert set(ROWS) == exported
