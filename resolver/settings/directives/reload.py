"""`reload [INTERVAL] [JITTER]`: look for changed files (CoreDNS plugin/reload).

`settings/reload.py` decides when, `daemon.py` swaps. It holds for the whole process, whichever block says it.
"""

from resolver.settings.arguments import Option, Where, bounded_duration, count_arguments, no_block, wrong
from resolver.settings.corefile import Statement
from resolver.settings.model import ReloadOptions
from resolver.settings.values import shown

FORM = "reload [INTERVAL] [JITTER]"
OPTIONS: dict[str, Option] = {}
_INTERVAL_LEAST_S = 2.0
_JITTER_LEAST_S = 1.0


def read(statement: Statement, where: Where) -> ReloadOptions:
    """Return interval and jitter; a jitter above half of the interval becomes half, as in CoreDNS."""
    no_block(statement, FORM)
    default = ReloadOptions()
    interval_s, jitter_s = default.interval_s, default.jitter_s
    for position, word in enumerate(count_arguments(statement, 0, 2, FORM)):
        found_s = bounded_duration(word, FORM)
        least_s = _INTERVAL_LEAST_S if position == 0 else _JITTER_LEAST_S
        if 0 < found_s < least_s:
            raise wrong(word, f"{shown(word.text)} is too short, at least {least_s:g}s, or 0s for none", FORM)
        interval_s, jitter_s = (found_s, jitter_s) if position == 0 else (interval_s, found_s)
    return ReloadOptions(interval_s=interval_s, jitter_s=min(jitter_s, interval_s / 2))
