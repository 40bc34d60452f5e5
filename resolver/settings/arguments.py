"""How a directive reads its words: counting arguments, turning them into values, options in a block.

A directive's module writes its options as a table of `Option`: the form as the documentation shows it, and a
reader made by `flag`, `duration`, `number`, `choice` or by hand. What every reader may rely on: the statement is
one line with its words in place; what it raises points at the word that is wrong and ends with what would be
accepted. Readers return the fields of the options dataclass that they set.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from resolver.errors import ConfigError
from resolver.settings import values, zones
from resolver.settings.corefile import Statement
from resolver.settings.environment.machine import Machine
from resolver.settings.model import ProcessOptions
from resolver.settings.tokens import Token
from resolver.settings.values import shown

T = TypeVar("T")
Fields = dict[str, Any]
Reader = Callable[[Statement, str], Fields]

NUMBER_MAX = 2**32 - 1
"""Go parses these counts into 32 bits."""


@dataclass(frozen=True, slots=True)
class Option:
    """One line inside a directive's block: its form, and who reads it (given the statement and the form)."""

    form: str
    read: Reader
    offered: bool = True  # False: known, and refused with a reason


@dataclass(frozen=True, slots=True)
class Where:
    """What a directive may know beyond its own words."""

    zones: tuple[str, ...]  # of its block
    process: ProcessOptions
    machine: Machine
    warnings: list[str]  # readers add lines to it


def wrong(place: Token, problem: str, accepted: str) -> ConfigError:
    """Return the error for the word at `place`: what is wrong with it, and the form that is accepted."""
    return place.wrong(f"{problem}; accepted: {accepted}")


def value(word: Token, read: Callable[[str], T], accepted: str) -> T:
    """Return `read(word)`; its ValueError becomes an error that points at the word."""
    try:
        return read(word.text)
    except ValueError as error:
        raise wrong(word, str(error), accepted) from None


def count_arguments(statement: Statement, least: int, most: int, accepted: str) -> tuple[Token, ...]:
    """Return the arguments if there are at least `least` and at most `most` of them."""
    args = statement.args
    if len(args) < least:
        missing = "an argument" if least == 1 else f"{least} arguments"
        raise wrong(
            statement.word, f"{statement.word.text} takes {'at least ' * (most > least)}{missing}", accepted
        )
    if len(args) > most:
        raise wrong(args[most], f"{shown(args[most].text)} is one argument too many", accepted)
    return args


def no_block(statement: Statement, accepted: str) -> None:
    """Refuse a block."""
    if statement.body is not None:
        raise wrong(statement.word, f"{statement.word.text} takes no block", accepted)


def read_block(statement: Statement, options: Mapping[str, Option]) -> Fields:
    """Return the fields that the lines of the block set; where two lines set one, the later one counts."""
    fields: Fields = {}
    for line in statement.body or ():
        option = options.get(line.word.text)
        if option is None:
            known = ", ".join(name for name, each in options.items() if each.offered)
            problem = (
                f"{statement.word.text} has no option {shown(line.word.text)}{did_you_mean(line.word, options)}"
            )
            raise wrong(line.word, problem, known)
        no_block(line, option.form)
        fields |= option.read(line, option.form)
    return fields


def did_you_mean(word: Token, known: Iterable[str]) -> str:
    """Return `, did you mean ...?` when a known word is close, else nothing."""
    if not 1 < len(word.text) <= 40:
        return ""
    import difflib  # only on the way out: a start without errors must not pay for it

    close = difflib.get_close_matches(word.text, list(known), n=1, cutoff=0.6)
    return f", did you mean {shown(close[0])}?" if close else ""


# Readers for the tables


def flag(field: str) -> Reader:
    """An option that is only its own word."""

    def read(line: Statement, form: str) -> Fields:
        count_arguments(line, 0, 0, form)
        return {field: True}

    return read


def duration(field: str, *, least_s: float = 0.0, most_s: float | None = None) -> Reader:
    """An option with one duration."""

    def read(line: Statement, form: str) -> Fields:
        (word,) = count_arguments(line, 1, 1, form)
        return {field: bounded_duration(word, form, least_s=least_s, most_s=most_s)}

    return read


def number(field: str, *, least: int = 0, most: int = NUMBER_MAX) -> Reader:
    """An option with one whole number."""

    def read(line: Statement, form: str) -> Fields:
        (word,) = count_arguments(line, 1, 1, form)
        return {field: bounded_number(word, form, least=least, most=most)}

    return read


def choice(field: str, choices: Iterable[str]) -> Reader:
    """An option with one word out of a few."""
    known = tuple(choices)

    def read(line: Statement, form: str) -> Fields:
        (word,) = count_arguments(line, 1, 1, form)
        if word.text not in known:
            raise wrong(word, f"{shown(word.text)} is not known here", form)
        return {field: word.text}

    return read


# Single words


def bounded_duration(word: Token, accepted: str, *, least_s: float = 0.0, most_s: float | None = None) -> float:
    """Return the word as seconds within its bounds."""
    found_s = value(word, values.duration_s, accepted)
    if found_s < 0:
        raise wrong(word, f"{shown(word.text)} is negative", accepted)
    if found_s < least_s:
        raise wrong(word, f"{shown(word.text)} is too short, at least {values.duration_text(least_s)}", accepted)
    if most_s is not None and found_s > most_s:
        raise wrong(word, f"{shown(word.text)} is too long, at most {values.duration_text(most_s)}", accepted)
    return found_s


def bounded_number(word: Token, accepted: str, *, least: int = 0, most: int = NUMBER_MAX) -> int:
    """Return the word as a whole number within its bounds."""
    found = value(word, values.integer, accepted)
    if found < least:
        raise wrong(word, f"{shown(word.text)} is too small, at least {least}", accepted)
    if found > most:
        raise wrong(word, f"{shown(word.text)} is too large, at most {most}", accepted)
    return found


def zones_of(words: Iterable[Token], accepted: str) -> tuple[str, ...]:
    """Return zone arguments expanded, each once, in order."""
    found: list[str] = []
    for word in words:
        found += value(word, lambda text: zones.expand(zones.without_scheme_and_port(text)), accepted)
    return tuple(dict.fromkeys(found))
