"""The error log says what CoreDNS's says, when it says it, and remembers no more than a number for each rule."""

import asyncio
from collections.abc import Iterator

import pytest

from resolver import logs
from resolver.clock import Timers
from resolver.report.errorlog import MATCHED_CHARACTERS, Consolidation, ErrorLog, go_duration
from resolver.report.options import (
    PATTERN_MAX_CHARACTERS,
    ConsolidateRule,
    ErrorsOptions,
    compile_pattern,
)
from resolver.wire.answer import Refusal
from resolver.wire.header import SERVFAIL
from tests.report.test_querylog import question
from tests.support.jumping import JumpingClock

DURATIONS = [
    (30, "30s"), (90, "1m30s"), (300, "5m0s"), (3600, "1h0m0s"), (0.5, "500ms"), (1.5, "1.5s"), (0, "0s"),
    (0.00025, "0.25ms"),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


class Lines(logs.Log):
    """Lines are kept for the test."""

    def __init__(self) -> None:
        super().__init__(debug=True)
        self.said: list[str] = []

    def line(
        self,
        level: logs.Level,
        text: str,
        *,
        plugin: str = "",
        detail: str = "",
        channel: str = "",
        fields: logs.Fields,
    ) -> None:
        self.said.append(logs.format_text(level, text, plugin, detail).decode().rstrip("\n"))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    log = Lines()
    before = logs.use(log)
    yield log.said
    logs.use(before)


def timeout(text: str = "10.0.0.2:53 timed out") -> Refusal:
    return Refusal(SERVFAIL, 23, text, "forward")


async def test_each_error_is_a_line(lines: list[str]) -> None:
    log = ErrorLog(ErrorsOptions(), Timers(asyncio.get_running_loop(), JumpingClock()))
    log.failed(question("Example.org."), timeout())
    log.failed(question("a\\010.org.", 28), Refusal(SERVFAIL))
    assert lines == [
        "[ERROR] plugin/errors: 2 Example.org. A: 10.0.0.2:53 timed out",
        "[ERROR] plugin/errors: 2 a\\010.org. AAAA: SERVFAIL",
    ]


async def test_like_errors_become_one_line_a_period(lines: list[str]) -> None:
    clock = JumpingClock()
    timers = Timers(asyncio.get_running_loop(), clock)
    rules = (
        ConsolidateRule(30, "timed out$", "warning"),
        ConsolidateRule(300, "^tls.*", "info", show_first=True),
        ConsolidateRule(30, "out", "debug"),  # never: the first that matches takes it
    )
    log = ErrorLog(ErrorsOptions(consolidate=rules), timers)
    for _ in range(3):
        log.failed(question(), timeout())
    log.failed(question(), timeout("tls: bad certificate"))
    log.failed(question(), timeout("something else"))
    assert lines == [
        "[INFO] plugin/errors: 2 example.org. A: tls: bad certificate",
        "[ERROR] plugin/errors: 2 example.org. A: something else",
    ]
    lines.clear()
    clock.jump(31)
    await timers.sleep(0.02)
    assert lines == ["[WARNING] plugin/errors: 3 errors like 'timed out$' occurred in last 30s"]
    lines.clear()
    log.failed(question(), timeout())
    clock.jump(300)
    await timers.sleep(0.02)
    # The one error of the rule with show_first was said when it came.
    assert lines == ["[WARNING] plugin/errors: 1 errors like 'timed out$' occurred in last 30s"]
    timers.close()


async def test_the_end_says_what_is_counted(lines: list[str]) -> None:
    timers = Timers(asyncio.get_running_loop(), JumpingClock())
    log = ErrorLog(ErrorsOptions(consolidate=(ConsolidateRule(30, "."),)), timers)
    log.failed(question(), timeout())
    log.failed(question(), timeout())
    log.close()
    assert lines == ["[ERROR] plugin/errors: 2 errors like '.' occurred in last 30s"]
    log.failed(question(), timeout())  # a flight of before the reload lands
    assert lines[1:] == ["[ERROR] plugin/errors: 1 errors like '.' occurred in last 30s"]
    timers.close()


def test_a_rule_sees_only_the_beginning() -> None:
    consolidation = Consolidation((ConsolidateRule(1, "end$"),))
    assert consolidation.take("x" * MATCHED_CHARACTERS + "end").level == "error"
    assert consolidation.take("the end").started == 0


BAD_PATTERNS = [
    pytest.param("(", id="unbalanced"),
    pytest.param("*", id="nothing to repeat"),
    pytest.param("x" * (PATTERN_MAX_CHARACTERS + 1), id="too long"),
    pytest.param("(" * 5000 + ")" * 5000, id="too deep"),
]


@pytest.mark.parametrize("pattern", BAD_PATTERNS)
def test_bad_patterns_say_why(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^regular expression") as raised:
        compile_pattern(pattern)
    assert len(str(raised.value)) < 300


def test_the_longest_pattern_is_accepted() -> None:
    assert compile_pattern("x" * PATTERN_MAX_CHARACTERS)
