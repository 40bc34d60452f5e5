"""The rules of the house that a reviewer would miss: import direction, sizes, reasons, true documents."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resolver.tools.demo_zone import DemoZone
from tests.support.client import parse, query

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES = 300
FUNCTION_LINES = 50
FOLDERS = (".ci", "deploy", "docs", "perf", "resolver", "tests")
TEXT = {"", ".cfg", ".json", ".md", ".py", ".pxd", ".pyi", ".pyx", ".sh", ".toml", ".txt", ".yaml", ".yml", ".zone"}


def files(*suffixes: str) -> list[Path]:
    """All files of the project with one of these suffixes; nothing that tools left behind."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix in suffixes and "__pycache__" not in path.parts)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


PYTHON = files(".py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_imports_go_downward_only() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_part_has_its_layer() -> None:
    (contract,) = PROJECT["tool"]["importlinter"]["contracts"]
    layered = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    parts = {path.stem if path.is_file() else path.name for path in (ROOT / "resolver").iterdir()}
    parts -= {"__init__", "__main__", "__pycache__", "py"}
    assert {f"resolver.{part}" for part in parts if part} <= layered


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_sizes_and_docstrings(path: Path) -> None:
    text = path.read_text()
    if not text:
        return  # a folder of tests needs no words
    tree = ast.parse(text)
    module_doc = ast.get_docstring(tree) or ""
    assert module_doc, "a module says what callers may rely on"
    if len(text.splitlines()) > FILE_LINES:
        assert gives_reason(module_doc, FILE_LINES), f"over {FILE_LINES} lines, and the docstring does not say why"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                assert gives_reason(ast.get_docstring(node) or "", FUNCTION_LINES), f"{node.name}: {length} lines"


def gives_reason(docstring: str, limit: int) -> bool:
    return re.search(rf"\b{limit} lines\b.* because \w+", " ".join(docstring.split())) is not None


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_nothing_sleeps_and_nothing_is_left_for_later(path: Path) -> None:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            # One turn of the loop is not waiting. Looking again is, and says why nothing tells us (ASYNC110).
            looks_again = "noqa: ASYNC110" in text.splitlines()[node.lineno - 2]
            assert looks_again or ast.unparse(node) == "asyncio.sleep(0)", f"line {node.lineno}"
    assert not re.search(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b", text)


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_a_silenced_check_has_its_reason_beside_it(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        silenced = re.search(r"# (type: ignore|noqa)\b(.*)", line)
        if silenced and '"' not in silenced.group(2):
            assert re.fullmatch(r"(\[[\w, -]+\]|: ?[A-Z]+\d+(, ?[A-Z]+\d+)*)( +#)? +\w.+", silenced.group(2)), (
                f"line {number}: {line}"
            )


@pytest.mark.parametrize("path", [p for p in files(*TEXT) if p.name != "LICENSE"], ids=relative)
def test_nothing_names_one_machine(path: Path) -> None:
    text = path.read_text()
    # Written apart, so that this file passes its own test.
    for forbidden in (
        "/wo" + "rk/",
        "/ro" + "ot/",
        "/ho" + "me/",
        "/tmp" + "/v/",
        "py" + "pi.org",
        "pythonhos" + "ted",
    ):
        assert forbidden not in text


RECORD = re.compile(
    r"# (?P<number>\d+)\. \S.+\n\n"
    r"Date: \d{4}-\d\d-\d\d\n"
    r"Status: (accepted|rejected|superseded by \d{4})\n\n"
    r"## What we met\n\n.+\n\n## What we decide\n\n.+\n\n## What follows\n\n.+",
    re.DOTALL,
)
RECORDS = sorted((ROOT / "docs" / "decisions").glob("*"))


@pytest.mark.parametrize("path", RECORDS, ids=relative)
def test_a_decision_record_has_the_form(path: Path) -> None:
    name = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
    record = RECORD.fullmatch(path.read_text())
    assert name
    assert record
    assert int(name.group(1)) == int(record.group("number"))


def test_decision_records_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


DOCUMENTS = files(".md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def shell_lines(path: Path) -> list[str]:
    """The commands of a document: lines of its ```sh blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = [line for path in DOCUMENTS for line in shell_lines(path)]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_readme_shows_commands() -> None:
    shown = shell_lines(ROOT / "README.md")
    assert "make run" in shown
    assert "make test" in shown
    assert sum(line.startswith("dig ") for line in shown) == 3


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_documents_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    program = Path(words[0]).name if words else "python3"
    if program == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
    elif program == "dig" and "5300" in words:
        assert dig_is_answered(words)
    elif program == "resolver":
        for word in words[1:]:
            assert "/" not in word or (ROOT / word).exists()
    else:
        assert program in {"python3", "pip", "dig", "curl", "kubectl", "kill", "docker", "helm"}


def test_make_run_shows_the_same_questions_as_the_readme() -> None:
    script = (ROOT / "deploy" / "local" / "run.sh").read_text().replace("$PORT", "5300")
    digs = [line.strip() for line in script.splitlines() if line.strip().startswith("dig ")]
    assert digs == [line for line in shell_lines(ROOT / "README.md") if line.startswith("dig ")]


def dig_is_answered(words: list[str]) -> bool:
    """Whether the demo, which stands behind `make run`, has records for this dig command."""
    name, rdtype = [*(word for word in words[1:] if not re.match(r"[@+-]|\d+$", word)), "A"][:2]
    response = DemoZone().answer(query(name, rdtype).to_wire(), tcp=True)
    return response is not None and bool(parse(response).answer)


def test_news_are_collected() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.index("## Unreleased") == text.index("## ")
