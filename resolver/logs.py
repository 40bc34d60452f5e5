"""Log lines that cannot hurt: what the process says on standard output, in CoreDNS's form or as JSON.

What callers may rely on:

- A call never blocks and never raises. A line goes into a bounded queue that one daemon thread writes; while
  standard output is stalled (a full pipe, a stopped terminal) lines are dropped and counted, serving goes on
  and memory stays where it is. When it flows again, one line says how many were lost.
- Lines per second are bounded for each level, and for the query log on its own; one line a second at most
  says how many were suppressed.
- One call is one line, whatever its text holds: what is not printable is escaped. Only `detail` (a traceback)
  may have several lines, and each of them carries the level in front, so that no text can forge a line.
- It works before a loop exists and after it has ended; `flush` waits for the thread, but not for ever.

`held` and `install_exception_handler` are the one place where tasks end: nothing that a task raises is lost,
and nothing is logged twice.

Longer than 300 lines because the thread, its queue and its budgets only make sense side by side; the form of
a line (`printable`, `format_text`, `format_json`) and the budget (`Budget`) are pure.
"""

import asyncio
import atexit
import json
import os
import queue
import select
import threading
import time
import traceback
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

from resolver import metrics
from resolver.clock import Now

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]
Fields = Mapping[str, object]

LINES_PER_S = {"debug": 1_000, "info": 200, "warning": 100, "error": 100, "query": 10_000}
"""Per channel; `query` is the query log, whose level is `info`. 10,000 x 150 bytes is 1.5 MB a second."""

QUEUE_MAX_BYTES = 1024 * 1024
"""What waits for standard output: less than a second of the query log at its bound."""

LINE_MAX_CHARACTERS = 4_096
"""A longer text is cut: the longest name is 1,004 characters when each of its bytes is escaped."""

DETAIL_MAX_LINES = 60
BATCH_BYTES = 64 * 1024
SUMMARY_EVERY_S = 1.0
PLACES_MAX = 256
"""Places in the code whose traceback was printed; of more, the quietest is forgotten and printed again."""

T = TypeVar("T")


class Budget:
    """How many lines one channel may still say in this second. `now_s` is any monotonic clock."""

    __slots__ = ("limit", "said", "suppressed", "told", "window_start_s")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.window_start_s = float("-inf")
        self.said = 0
        self.suppressed = 0
        self.told = 0

    def take(self, now_s: float) -> bool:
        """Tell whether one more line may go out, and count it either way."""
        if now_s - self.window_start_s >= 1.0:
            self.window_start_s = now_s
            self.said = 0
        if self.said >= self.limit:
            self.suppressed += 1
            return False
        self.said += 1
        return True


def printable(text: str) -> str:
    """Return `text` as one line: what is not printable becomes `\\DDD` (`\\u{HEX}` above 255)."""
    if len(text) > LINE_MAX_CHARACTERS:
        text = f"{text[:LINE_MAX_CHARACTERS]}... ({len(text) - LINE_MAX_CHARACTERS} more characters)"
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else f"\\{ord(character):03d}"
        if ord(character) < 256
        else f"\\u{{{ord(character):x}}}"
        for character in text
    )


def format_text(level: str, text: str, plugin: str, detail: str) -> bytes:
    """Return one entry as CoreDNS prints it: `[ERROR] plugin/errors: 2 name. A: what happened`."""
    prefix = f"[{level.upper()}] "
    lines = [f"{prefix}plugin/{plugin}: {printable(text)}" if plugin else prefix + printable(text)]
    if detail:
        lines += [f"{prefix}  {printable(line)}" for line in detail.splitlines()[:DETAIL_MAX_LINES]]
    return ("\n".join(lines) + "\n").encode()


def format_json(level: str, text: str, plugin: str, detail: str, *, fields: Fields, wall_s: float) -> bytes:
    """Return one entry as a JSON object; the keys in front are those of CoreDNS's `-log-format json`."""
    time_text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="microseconds")
    entry: dict[str, object] = {"time": time_text, "level": level.upper(), "msg": text[:LINE_MAX_CHARACTERS]}
    if plugin:
        entry["plugin"] = plugin
    entry.update(fields)
    if detail:
        entry["detail"] = "\n".join(detail.splitlines()[:DETAIL_MAX_LINES])
    return (json.dumps(entry, separators=(",", ":"), default=str) + "\n").encode()


class Log:
    """One output with its queue, thread and budgets. The process has one (`use`, `start`), tests more."""

    def __init__(
        self, fd: int = 1, *, log_format: Format = "text", debug: bool = False, now: Now = time.monotonic
    ) -> None:
        self.log_format = log_format
        self.debug = debug
        self.dropped_lines = 0
        self._fd = fd
        self._now = now
        self._budgets = {channel: Budget(limit) for channel, limit in LINES_PER_S.items()}
        self._queue: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        # Re-entrant: a signal handler may log while the line that it interrupted holds it.
        self._lock = threading.RLock()
        self._queued_bytes = 0
        self._told_dropped = 0
        self._untold_since_s: float | None = None
        self._thread: threading.Thread | None = None

    def line(
        self,
        level: Level,
        text: str,
        *,
        plugin: str = "",
        detail: str = "",
        channel: str = "",
        fields: Fields,
    ) -> None:
        """Say one line, or drop it and count that."""
        if level == "debug" and not self.debug:
            return
        budget = self._budgets[channel or level]
        with self._lock:
            if not budget.take(self._now()):
                if budget.suppressed == budget.told + 1:
                    self._put(b"")  # wakes the thread, which says so a second later
                return
            if self._queued_bytes >= QUEUE_MAX_BYTES:
                self.dropped_lines += 1
                return
        # Wall time for people only; nothing is decided by it.
        if self.log_format == "json":
            data = format_json(level, text, plugin, detail, fields=fields, wall_s=time.time())
        else:
            data = format_text(level, text, plugin, detail)
        with self._lock:
            self._queued_bytes += len(data)
            self._put(data)

    def suppressed_lines(self) -> dict[str, int]:
        """Lines not said because their channel had said enough in that second."""
        return {channel: budget.suppressed for channel, budget in self._budgets.items()}

    def flush(self, timeout_s: float = 1.0) -> bool:
        """Wait until all that was said so far is written, at most `timeout_s`; tell whether it is.

        It blocks: for the end of the process, not for the loop.
        """
        if self._thread is None:
            return True
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout_s)

    def close(self, timeout_s: float = 1.0) -> bool:
        """Flush and end the thread; a line said afterwards starts another."""
        flushed = self.flush(timeout_s)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)
            self._thread = None
        return flushed

    def _put(self, item: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def _write_forever(self) -> None:
        while True:
            untold = any(budget.suppressed > budget.told for budget in self._budgets.values())
            item: bytes | threading.Event | None = b""
            with suppress(queue.Empty):
                item = self._queue.get(timeout=SUMMARY_EVERY_S if untold else None)
            if item is None:
                return
            batch, lines, flushes = self._drain(item)
            lost = not self._write(batch + self._notices(at_once=bool(flushes)))
            with self._lock:
                self._queued_bytes -= len(batch)
                if lost:
                    self.dropped_lines += lines
            for written in flushes:
                written.set()

    def _drain(self, item: bytes | threading.Event | None) -> tuple[bytes, int, list[threading.Event]]:
        """Return what waits, from `item` on, about BATCH_BYTES: bytes, lines, and who waits for them."""
        batch = bytearray()
        lines = 0
        flushes: list[threading.Event] = []
        while True:
            if item is None:
                self._queue.put(None)  # `close` has flushed: what stands behind it is for the next thread
                break
            if isinstance(item, threading.Event):
                flushes.append(item)
            elif item:
                batch += item
                lines += 1
            if len(batch) >= BATCH_BYTES:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        return bytes(batch), lines, flushes

    def _notices(self, at_once: bool) -> bytes:
        """Return lines about lines that were not said: lost ones now, suppressed ones once a second."""
        notices = b""
        dropped = self.dropped_lines
        if dropped > self._told_dropped:
            count = dropped - self._told_dropped
            notices += self._format_notice(f"{count} log lines were lost: standard output did not take them")
            self._told_dropped = dropped
        with self._lock:
            if all(budget.suppressed == budget.told for budget in self._budgets.values()):
                self._untold_since_s = None
                return notices
            now_s = self._now()
            if self._untold_since_s is None:
                self._untold_since_s = now_s
            if not at_once and now_s - self._untold_since_s < SUMMARY_EVERY_S:
                return notices
            self._untold_since_s = None
            for channel, budget in self._budgets.items():
                count = budget.suppressed - budget.told
                budget.told = budget.suppressed
                if count:
                    notices += self._format_notice(
                        f"{count} {channel} log lines were suppressed: more than {budget.limit} in a second"
                    )
        return notices

    def _format_notice(self, text: str) -> bytes:
        if self.log_format == "json":
            return format_json("warning", text, "", "", fields={}, wall_s=time.time())
        return format_text("warning", text, "", "")

    def _write(self, data: bytes) -> bool:
        """Write all of `data`, however long that takes; tell whether somebody took it."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Somebody who shares our standard output made it non-blocking.
                select.select([], [self._fd], [])
            except OSError:
                return False  # closed: nobody reads; the process goes on without a log
        return True


_log = Log()


def use(log: Log) -> Log:
    """Make `log` the one that this process says its lines to, and return the one before."""
    global _log
    before, _log = _log, log
    return before


def current() -> Log:
    """The log that this process says its lines to."""
    return _log


def start(*, log_format: Format = "text", debug: bool = False) -> None:
    """Settle form and depth; lines said before had the defaults."""
    _log.log_format = log_format
    _log.debug = debug


def debug(text: str, *, plugin: str = "", **fields: object) -> None:
    """Say `text` if the `debug` directive is on. `fields` stand in JSON only."""
    _log.line("debug", text, plugin=plugin, fields=fields)


def info(text: str, *, plugin: str = "", **fields: object) -> None:
    """Say `text`; `plugin` puts `plugin/NAME: ` in front, as in CoreDNS. `fields` stand in JSON only."""
    _log.line("info", text, plugin=plugin, fields=fields)


def warning(text: str, *, plugin: str = "", **fields: object) -> None:
    """As `info`: something is wrong, and serving goes on as before."""
    _log.line("warning", text, plugin=plugin, fields=fields)


def error(text: str, *, plugin: str = "", detail: str = "", **fields: object) -> None:
    """As `info`: something failed. `detail` may have several lines, as a traceback does."""
    _log.line("error", text, plugin=plugin, detail=detail, fields=fields)


def query(text: str, fields: Fields) -> None:
    """Say one line of the query log, which has a budget of its own."""
    _log.line("info", text, channel="query", fields=fields)


def flush(timeout_s: float = 1.0) -> bool:
    """See `Log.flush`; also done, with a second's patience, when the interpreter exits."""
    return _log.flush(timeout_s)


atexit.register(flush)

_held: set["asyncio.Future[Any]"] = set()


def held(task: "asyncio.Task[T]", what: str) -> "asyncio.Task[T]":
    """Keep `task` alive until it is done, and let what it raises reach the loop's exception handler.

    The loop itself holds tasks weakly (asyncio.create_task, "Important"), and an exception in a task that
    nobody awaits is said only when the task is collected. `what` names it: `the reload watcher`.
    """
    _held.add(task)
    task.add_done_callback(partial(_ended, what))
    return task


def hold(coroutine: Coroutine[Any, Any, T], what: str) -> "asyncio.Task[T]":
    """Start `coroutine` as a task, and `held` it."""
    return held(asyncio.get_running_loop().create_task(coroutine), what)


def _ended(what: str, task: "asyncio.Future[Any]") -> None:
    _held.discard(task)
    if task.cancelled():
        return
    raised = task.exception()
    if raised is not None:
        text = f"{what} ended with {type(raised).__name__}"
        task.get_loop().call_exception_handler({"message": text, "exception": raised})


def install_exception_handler(loop: asyncio.AbstractEventLoop) -> None:
    """Log whatever reaches the loop's exception handler, and count it as CoreDNS counts panics.

    Each place in the code prints its traceback once, then only a line; those are bounded as all errors are.
    """
    from cachetools import LRUCache  # here, because commands that only print have no loop and need not wait for it

    places: LRUCache[tuple[str, int | None], bool] = LRUCache(PLACES_MAX)

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        metrics.registry.process.panics += 1
        message = str(context.get("message", "unhandled exception"))
        raised = context.get("exception")
        if not isinstance(raised, BaseException):
            error(message)
            return
        trace = raised.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (
            (type(raised).__name__, None) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        )
        detail = "" if places.get(place) else "".join(traceback.format_exception(raised))
        places[place] = True
        error(f"{message}: {type(raised).__name__}: {raised}", detail=detail)

    loop.set_exception_handler(handle)
