"""`errors { ... }`: failures of the block are logged (CoreDNS plugin/errors).

`report/errorlog.py` does the work.
"""

from dataclasses import replace

from resolver.report.options import ERROR_LEVELS, ConsolidateRule, ErrorLevel, ErrorsOptions, compile_pattern
from resolver.settings.arguments import (
    Fields,
    Option,
    Where,
    bounded_duration,
    count_arguments,
    flag,
    read_block,
    value,
    wrong,
)
from resolver.settings.corefile import Statement
from resolver.settings.values import shown

FORM = "errors [stdout]"


def _consolidate(line: Statement, form: str) -> Fields:
    period, pattern, *rest = count_arguments(line, 2, 4, form)
    level: ErrorLevel = "error"
    show_first = False
    for position, word in enumerate(rest):
        if word.text == "show_first" and position == len(rest) - 1:
            show_first = True
        elif position == 0 and (known := [name for name in ERROR_LEVELS if name == word.text]):
            level = known[0]
        else:
            raise wrong(word, f"{shown(word.text)} does not belong here", form)
    value(pattern, compile_pattern, form)
    rule = ConsolidateRule(
        period_s=bounded_duration(period, form, least_s=0.001),
        pattern=pattern.text,
        level=level,
        show_first=show_first,
    )
    return {"consolidate": (rule,)}


OPTIONS = {
    "stacktrace": Option("stacktrace", flag("stacktrace")),
    "consolidate": Option("consolidate DURATION REGEXP [warning|error|info|debug] [show_first]", _consolidate),
}


def read(statement: Statement, where: Where) -> ErrorsOptions:
    """Return the block's error log; each `consolidate` line adds a rule."""
    for word in count_arguments(statement, 0, 1, FORM):
        if word.text != "stdout":
            raise wrong(word, f"{shown(word.text)}: errors go to standard output only", FORM)
    options = ErrorsOptions()
    for line in statement.body or ():
        fields = read_block(statement._replace(body=(line,)), OPTIONS)
        rules = options.consolidate + fields.pop("consolidate", ())
        options = replace(options, consolidate=rules, **fields)
    return options
