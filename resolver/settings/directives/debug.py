"""`debug`: more is logged (CoreDNS plugin/debug).

`daemon.py` lowers the level of `logs.py`. Unlike CoreDNS's, ours does not let a failure end the process.
"""

from resolver.settings.arguments import Option, Where, count_arguments, no_block
from resolver.settings.corefile import Statement

FORM = "debug"
OPTIONS: dict[str, Option] = {}


def read(statement: Statement, where: Where) -> bool:
    """Return True: the word is there."""
    count_arguments(statement, 0, 0, FORM)
    no_block(statement, FORM)
    return True
