"""`log [NAMES...] [FORMAT] { class ... }`: one line for each question (CoreDNS plugin/log).

`report/querylog.py` writes the lines. A format is the last argument with a `{` in it.
"""

from resolver.report.options import LOG_CLASSES, LogClass, LogOptions
from resolver.settings.arguments import Fields, Option, Where, count_arguments, read_block, wrong, zones_of
from resolver.settings.corefile import Statement
from resolver.settings.values import shown

FORM = "log [NAMES...] [FORMAT]"
_NAMES_MAX = 1024


def _class(line: Statement, form: str) -> Fields:
    classes: set[LogClass] = set()
    for word in count_arguments(line, 1, len(LOG_CLASSES), form):
        known = [name for name in LOG_CLASSES if name == word.text]
        if not known:
            raise wrong(word, f"{shown(word.text)} is not a class of answers", form)
        classes |= set(known)
    return {"classes": frozenset(classes)}


OPTIONS = {"class": Option("class success|denial|error|all...", _class)}


def read(statement: Statement, where: Where) -> LogOptions:
    """Return one rule of the query log."""
    default = LogOptions()
    words = list(count_arguments(statement, 0, _NAMES_MAX, FORM))
    form = words.pop().text if words and "{" in words[-1].text else default.format
    names = zones_of(words, FORM) or default.names
    fields = {"classes": default.classes, **read_block(statement, OPTIONS)}
    return LogOptions(names=names, format=form, **fields)
