"""`loop`: find out whether our questions come back to us (CoreDNS plugin/loop).

`forward/` asks the question and drops the upstream that sends it back; `daemon.py` starts that. CoreDNS ends the
process instead.
"""

from resolver.settings.arguments import Option, Where, count_arguments, no_block
from resolver.settings.corefile import Statement

FORM = "loop"
OPTIONS: dict[str, Option] = {}


def read(statement: Statement, where: Where) -> bool:
    """Return True: the word is there."""
    count_arguments(statement, 0, 0, FORM)
    no_block(statement, FORM)
    return True
