"""Who watches the answers of one server block, from its directives."""

from collections.abc import Sequence

from resolver.clock import Timers
from resolver.report.errorlog import ErrorLog
from resolver.report.options import ErrorsOptions, LogOptions
from resolver.report.querylog import QueryLog

Observer = QueryLog | ErrorLog


def observers_of(
    errors: ErrorsOptions | None, log: Sequence[LogOptions], timers: Timers
) -> tuple[list[Observer], bool]:
    """Return the observers of a block, and whether one of them must see each answer by itself.

    Their `close` says what is still counted; call it when the block goes.
    """
    observers: list[Observer] = []
    if errors is not None:
        observers.append(ErrorLog(errors, timers))
    if log:
        observers.append(QueryLog(log))
    return observers, bool(log)
