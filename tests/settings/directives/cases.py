"""How the tables of good and bad directives are run."""

import pytest

from tests.settings.support import FakeMachine, block_refusal_of


def bad(text: str, line: int, problem: str) -> object:
    """A row: lines of a server block, the line of the fault, and a part of what is said."""
    return pytest.param(text, line, problem, id=" ".join(text.split())[:60] or "empty")


def assert_refused(text: str, line: int, problem: str, machine: FakeMachine | None = None) -> None:
    """The refusal names the line, the fault, and what would be accepted."""
    refusal = block_refusal_of(text, machine)
    assert refusal.startswith(f"{line}: ")
    assert problem in refusal
    assert "; accepted: " in refusal
