"""What goes wrong in setting up the node: one log line when it begins, one when it is over, counters throughout.

The check comes round every minute; a node that lacks a program would say so 1,440 times a day.
"""

from resolver import logs
from resolver.errors import CommandFailed
from resolver.metrics import NODE_COMMANDS, NodeCounters

PLUGIN = "node"


class Troubles:
    """The parts that do not work now, each with what was said about it last."""

    def __init__(self, counters: NodeCounters, setup_errors: dict[str, int]) -> None:
        self._counters = counters
        self._setup_errors = setup_errors
        self._said: dict[str, str] = {}

    def failed(self, part: str, error: CommandFailed, errortype: str, consequence: str) -> None:
        """`part` does not work.

        errortype    node-cache's word; `iptables` becomes `iptables_lock` where the lock was the reason.
        consequence  What it means for those who ask, for the end of the line.
        """
        self._setup_errors["iptables_lock" if error.kind == "lock" else errortype] += 1
        self._counters.commands_failed[_command(error.program)] += 1
        text = f"{part}: {error}; {consequence}"
        if self._said.get(part) != text:
            self._said[part] = text
            logs.error(text, plugin=PLUGIN)

    def works(self, part: str) -> None:
        """`part` works, whether or not it did before."""
        if self._said.pop(part, ""):
            logs.info(f"{part}: works again", plugin=PLUGIN)


def _command(program: str) -> str:
    """`ip6tables-legacy` and its like are counted as `iptables`."""
    base = program.rpartition("/")[2]
    return base if base in NODE_COMMANDS else "iptables"
