"""What the `errors` and `log` directives can say (CoreDNS plugin/errors and plugin/log, to 1.14.7)."""

import re
from dataclasses import dataclass
from typing import Literal

ErrorLevel = Literal["debug", "info", "warning", "error"]
LogClass = Literal["success", "denial", "error", "all"]

ERROR_LEVELS: tuple[ErrorLevel, ...] = ("debug", "info", "warning", "error")
LOG_CLASSES: tuple[LogClass, ...] = ("success", "denial", "error", "all")

PATTERN_MAX_CHARACTERS = 10_000
"""CoreDNS plugin/errors maxRegexpLen."""

COMMON_FORMAT = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}"'
    " {rcode} {>rflags} {rsize} {duration}"
)
COMBINED_FORMAT = COMMON_FORMAT + ' "{>opcode}"'


@dataclass(frozen=True, slots=True)
class ConsolidateRule:
    """`consolidate DURATION REGEXP [LEVEL] [show_first]`: like errors become one line per period."""

    period_s: float
    pattern: str  # `compile_pattern` accepts it
    level: ErrorLevel = "error"
    show_first: bool = False  # the first error of a period is logged at once


@dataclass(frozen=True, slots=True)
class ErrorsOptions:
    """The `errors` directive of one server block."""

    stacktrace: bool = False
    consolidate: tuple[ConsolidateRule, ...] = ()  # the first that matches takes the error


@dataclass(frozen=True, slots=True)
class LogOptions:
    """One `log` directive; of several in a block, the first whose names match decides.

    names    Zones, lower case with a trailing dot.
    format   With `{common}` and `{combined}` as they stand in the Corefile.
    classes  What is logged; `all` beside others means all.
    """

    names: tuple[str, ...] = (".",)
    format: str = COMMON_FORMAT
    classes: frozenset[LogClass] = frozenset({"all"})


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return `pattern` compiled, or raise ValueError that says what is wrong with it.

    It is Python's syntax, which contains the part of Go's that people write.
    """
    if len(pattern) > PATTERN_MAX_CHARACTERS:
        raise ValueError(f"regular expression of {len(pattern)} characters, at most {PATTERN_MAX_CHARACTERS}")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"regular expression {pattern[:80]!r}: {error}") from error
