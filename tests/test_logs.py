"""Logs never block, never grow, never lose count, and no text forges a line."""

import asyncio
import fcntl
import json
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from resolver import logs, metrics
from resolver.clock import Now
from resolver.logs import Budget, Format, Log, format_json, format_text, printable


class Pipe:
    """Standard output's stand-in: a pipe, read when the test says so."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        # As small as the kernel lets it be, so that it is full soon.
        fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.read_fd, False)

    def take(self, until: bytes = b"", limit_s: float = 10.0) -> str:
        """Read what is there, or until `until` has come."""
        data = b""
        while True:
            readable, _, _ = select.select([self.read_fd], [], [], limit_s if until else 0)
            if not readable:
                assert not until, f"{until!r} did not come, but {data[-300:]!r}"
                return data.decode()
            data += os.read(self.read_fd, 65536)
            if until and until in data:
                return data.decode()


@contextmanager
def piped(log_format: Format = "text", *, now: Now = time.monotonic) -> Iterator[tuple[Log, Pipe]]:
    pipe = Pipe()
    log = Log(pipe.write_fd, log_format=log_format, now=now)
    before = logs.use(log)
    try:
        yield log, pipe
    finally:
        logs.use(before)
        pipe.take()
        os.close(pipe.read_fd)
        log.close()
        os.close(pipe.write_fd)


LINES = [
    pytest.param("plain", "", b"[ERROR] plain\n", id="no plugin"),
    pytest.param(
        "2 a.example. A: no", "errors", b"[ERROR] plugin/errors: 2 a.example. A: no\n", id="plugin, as CoreDNS"
    ),
    pytest.param("a\n[INFO] b", "", b"[ERROR] a\\010[INFO] b\n", id="a new line cannot forge a line"),
    pytest.param("\x1b[2J\x00\x7f", "", b"[ERROR] \\027[2J\\000\\127\n", id="terminal controls are escaped"),
    pytest.param("\x85\u2028", "", b"[ERROR] \\133\\u{2028}\n", id="other line ends too"),
    pytest.param("\udcff", "", b"[ERROR] \\u{dcff}\n", id="bytes that were not UTF-8"),
    pytest.param("Zürich", "", "[ERROR] Zürich\n".encode(), id="letters stay"),
]


@pytest.mark.parametrize(("text", "plugin", "line"), LINES)
def test_text_lines(text: str, plugin: str, line: bytes) -> None:
    assert format_text("error", text, plugin, "") == line


def test_detail_has_the_level_before_each_line() -> None:
    lines = format_text("error", "it broke", "", "Traceback\r\n  File x\nValueError: \x0bhi").decode().splitlines()
    assert lines[0] == "[ERROR] it broke"
    assert all(line.startswith("[ERROR]   ") for line in lines[1:])


@pytest.mark.parametrize("text", [param.values[0] for param in LINES])
def test_json_lines_are_one_object_each(text: str) -> None:
    data = format_json("info", text, "health", "two\nlines", fields={"port": 53, "raw": b"\xff"}, wall_s=0.5)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    entry = json.loads(data)
    assert entry["msg"] == text
    assert entry["level"] == "INFO"
    assert entry["plugin"] == "health"
    assert entry["port"] == 53
    assert entry["time"] == "1970-01-01T00:00:00.500000+00:00"


def test_a_long_text_is_cut() -> None:
    line = printable("x" * 10_000)
    assert len(line) < logs.LINE_MAX_CHARACTERS + 40
    assert line.endswith("... (5904 more characters)")


def test_budget_is_per_second() -> None:
    budget = Budget(2)
    assert [budget.take(now_s) for now_s in (0.0, 0.1, 0.2, 0.99, 1.0, 1.5, 1.9)] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip
    assert budget.suppressed == 3


def test_lines_arrive_in_order() -> None:
    with piped() as (log, pipe):
        for number in range(20):
            logs.info(f"line {number}")
        assert log.flush()
        assert pipe.take().splitlines() == [f"[INFO] line {number}" for number in range(20)]


def test_debug_only_when_asked() -> None:
    with piped() as (log, pipe):
        logs.debug("quiet")
        logs.start(debug=True)
        logs.debug("loud", plugin="forward")
        log.flush()
        assert pipe.take() == "[DEBUG] plugin/forward: loud\n"


def test_json_carries_fields() -> None:
    with piped("json") as (log, pipe):
        logs.warning("late", plugin="forward", to="10.0.0.2:53")
        log.flush()
        entry = json.loads(pipe.take())
        assert (entry["level"], entry["msg"], entry["to"]) == ("WARNING", "late", "10.0.0.2:53")


def test_too_many_lines_are_suppressed_and_counted() -> None:
    with piped() as (log, pipe):
        # More than one second's worth, however the calls fall across two seconds.
        for _ in range(10 * logs.LINES_PER_S["error"]):
            logs.error("again")
        suppressed = log.suppressed_lines()["error"]
        assert suppressed >= 8 * logs.LINES_PER_S["error"]
        assert log.flush()
        text = pipe.take()
        assert f"[WARNING] {suppressed} error log lines were suppressed: more than 100 in a second" in text
        assert text.count("again") == 10 * logs.LINES_PER_S["error"] - suppressed


def test_the_summary_comes_by_itself() -> None:
    looks = count()
    lines = logs.LINES_PER_S["error"] + 1

    def now() -> float:
        """One second lasts for all lines; then each look at the clock is a second later."""
        return max(0.0, next(looks) - lines)

    with piped(now=now) as (log, pipe):
        for _ in range(lines - 1):
            logs.error("again")
        assert log.flush()
        logs.error("one too many, and nothing is said after it")
        assert "[WARNING] 1 error log lines were suppressed" in pipe.take(until=b"more than 100 in a second\n")


def told(text: str) -> int:
    """How many lines the notices in `text` say were lost."""
    return sum(int(count) for count in re.findall(r"\[WARNING\] (\d+) log lines were lost", text))


def test_a_stalled_output_stalls_nobody_and_holds_no_memory() -> None:
    with piped() as (log, pipe):
        line = "x" * 4000
        for _ in range(2000):  # 8 MB into a pipe of 4 KiB that nobody reads
            logs.query(line, {})
        assert log._queued_bytes <= logs.QUEUE_MAX_BYTES + 5000
        dropped = log.dropped_lines
        assert dropped > 1500
        assert not log.flush(0.05)
        # The output flows again: what was kept arrives, and between it how much was not.
        text = ""
        while told(text) < dropped:
            text += pipe.take(until=b"log lines were lost: standard output did not take them\n")
        while not log.flush(0.05):
            text += pipe.take()
        text += pipe.take()
        assert told(text) == dropped
        assert text.count(line) == 2000 - dropped
        assert log.flush()


def test_a_closed_output_is_no_error() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    log = Log(write_fd)
    log.line("info", "nobody reads this", fields={})
    assert log.flush()
    assert log.dropped_lines == 1
    log.close()
    os.close(write_fd)


def test_a_shared_output_that_does_not_block() -> None:
    with piped() as (log, pipe):
        os.set_blocking(pipe.write_fd, False)
        for _ in range(50):
            logs.query("y" * 1000, {})
        assert pipe.take(until=b"").count("y") <= 50_000
        logs.info("the end")
        pipe.take(until=b"the end")
        assert log.dropped_lines == 0


async def test_what_a_held_task_raises_reaches_the_loop() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def fails() -> None:
        raise ValueError("no such thing")

    task = logs.hold(fails(), "the watcher")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [context["message"] for context in told] == ["the watcher ended with ValueError"]
    assert task not in logs._held


async def test_a_held_task_that_ends_well_or_is_cancelled_is_quiet() -> None:
    async def works() -> int:
        return 7

    task = logs.hold(works(), "a task")
    assert task in logs._held
    assert await task == 7
    endless = logs.held(asyncio.create_task(asyncio.Event().wait()), "an endless task")
    endless.cancel()
    await asyncio.wait([endless])
    await asyncio.sleep(0)
    assert not logs._held


async def test_exceptions_are_logged_once_and_counted() -> None:
    loop = asyncio.get_running_loop()
    before = metrics.registry.process.panics
    with piped() as (log, pipe):
        logs.install_exception_handler(loop)

        def broken() -> None:
            raise ValueError("first\n[INFO] line")

        for _ in range(3):
            loop.call_soon(broken)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "only words"})
        assert log.flush()
        text = pipe.take()
    assert metrics.registry.process.panics == before + 4
    lines = text.splitlines()
    assert sum("ValueError: first\\010[INFO] line" in line for line in lines) == 3
    assert text.count("Traceback (most recent call last)") == 1
    assert lines[-1] == "[ERROR] only words"
    assert all(line.startswith("[ERROR]") for line in lines)


async def test_places_are_bounded_and_the_noisy_one_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two of these exceptions were raised anywhere, so the name of their class is their place."""
    monkeypatch.setattr(logs, "PLACES_MAX", 2)
    loop = asyncio.get_running_loop()
    with piped() as (log, pipe):
        logs.install_exception_handler(loop)
        for raised in (OSError, ValueError, OSError, KeyError, OSError, ValueError, OSError):
            loop.call_exception_handler({"message": "broken", "exception": raised("here")})
        assert log.flush()
        entries = pipe.take().split("[ERROR] broken: ")[1:]
    # A traceback that was never raised is one line of detail.
    assert [(entry.split(":")[0], len(entry.splitlines()) > 1) for entry in entries] == [
        ("OSError", True), ("ValueError", True), ("OSError", False), ("KeyError", True),
        ("OSError", False), ("ValueError", True), ("OSError", False),
    ]  # fmt: skip
