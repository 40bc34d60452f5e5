"""The error log: what kept a question from its answer, as the `errors` directive says (CoreDNS plugin/errors).

Like errors can be consolidated: each rule counts what matches it and says one line when its period is over.
The first rule that matches takes the error. What is remembered is one number for each rule, whatever arrives.
"""

import re
from typing import NamedTuple

from resolver import logs
from resolver.clock import Timers
from resolver.report.options import ConsolidateRule, ErrorLevel, ErrorsOptions, compile_pattern
from resolver.report.querylog import type_name
from resolver.report.series import RCODE_NAMES
from resolver.wire import names
from resolver.wire.answer import Refusal
from resolver.wire.question import Question

MATCHED_CHARACTERS = 512
"""How much of an error a rule sees: a pattern that backtracks must not hold the loop."""


def go_duration(duration_s: float) -> str:
    """Return a duration as Go prints it: `30s`, `5m0s`, `1h0m0s`, `500ms`."""
    if 0 < duration_s < 1:
        return f"{duration_s * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, seconds = divmod(duration_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


class Verdict(NamedTuple):
    """What to do with one error.

    level    Say it now at this level, or None.
    started  The rule whose period begins now, or None.
    """

    level: ErrorLevel | None
    started: int | None


class Consolidation:
    """The counting, without a clock: who uses it ends each period that a `Verdict` has started."""

    def __init__(self, rules: tuple[ConsolidateRule, ...]) -> None:
        self.rules = rules
        self._patterns: list[re.Pattern[str]] = [compile_pattern(rule.pattern) for rule in rules]
        self._counts = [0] * len(rules)

    def take(self, text: str) -> Verdict:
        """Count one error under the first rule that matches it."""
        seen = text[:MATCHED_CHARACTERS]
        for position, pattern in enumerate(self._patterns):
            if pattern.search(seen):
                rule = self.rules[position]
                self._counts[position] += 1
                if self._counts[position] > 1:
                    return Verdict(None, None)
                return Verdict(rule.level if rule.show_first else None, position)
        return Verdict("error", None)

    def end(self, position: int) -> str | None:
        """End the period of one rule: return its line, or None when there is nothing more to say."""
        count, self._counts[position] = self._counts[position], 0
        rule = self.rules[position]
        # With show_first the one error has been said already.
        if count == 0 or (count == 1 and rule.show_first):
            return None
        return f"{count} errors like '{rule.pattern}' occurred in last {go_duration(rule.period_s)}"


class ErrorLog:
    """The `errors` directive of one server block."""

    def __init__(self, options: ErrorsOptions, timers: Timers) -> None:
        self._consolidation = Consolidation(options.consolidate)
        self._timers = timers
        self._closed = False

    def failed(self, question: Question, refusal: Refusal) -> None:
        """Say `2 name. TYPE: what happened`, or count it."""
        text = refusal.ede_text or RCODE_NAMES[refusal.rcode]
        level, started = self._consolidation.take(text)
        if started is not None and self._closed:
            # After the end nobody waits for a period: say at once what has no other chance.
            self._end(started)
        elif started is not None:
            period_s = self._consolidation.rules[started].period_s
            self._timers.call_after(period_s, lambda: self._end(started))
        if level is not None:
            _say(level, f"{refusal.rcode} {names.to_text(question.name)} {type_name(question.qtype)}: {text}")

    def close(self) -> None:
        """Say what is still counted; a reload or the end of the process must not swallow it."""
        self._closed = True
        for position in range(len(self._consolidation.rules)):
            self._end(position)

    def _end(self, position: int) -> None:
        line = self._consolidation.end(position)
        if line is not None:
            _say(self._consolidation.rules[position].level, line)


def _say(level: ErrorLevel, text: str) -> None:
    {"debug": logs.debug, "info": logs.info, "warning": logs.warning, "error": logs.error}[level](
        text, plugin="errors"
    )
