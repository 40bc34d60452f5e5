"""How tests run: `async def` tests on asyncio and on uvloop, and the loop may not hide anything.

- An exception that reaches the loop's handler fails the test.
- A task that is still there when the test has ended fails it.
- A call that blocks (a file, a sleep, a socket that waits) inside the package while a loop runs fails it.
- The suite is bounded: one async test may take `LIMIT_S`.
- Where CI is set, a test that is skipped has failed: a package that nobody installs would hide a whole folder.
- Where tests are about a kernel and processes in real time (`REAL_TIME`), one that fails is run once more, and
  the summary says so: two processors that have neighbours stand still now and then. What fails twice has failed.
"""

import asyncio
import inspect
import os
from collections.abc import Callable, Generator
from typing import Any

import pytest
import uvloop
from blockbuster import blockbuster_ctx
from hypothesis import settings

LIMIT_S = 60.0

# Timings never decide a test: a machine that is busy is no counterexample.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


MAY_BE_MISSING = ("kubectl", "Helm", "Debian machine", "package lists", "do not fill the table", "memory cgroup")
"""What a skipped test in CI may say: neither Debian nor PyPI has these for every machine."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(words in reason for words in MAY_BE_MISSING):
            report.outcome = "failed"
            report.longrepr = f"CI must run this: {reason}"
    return report


REAL_TIME = ("tests/deploy/", "tests/lab/", "tests/perf/", "tests/succession/", "tests/system/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", list(LOOPS))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        await asyncio.wait_for(pyfuncitem.obj(**arguments), LIMIT_S)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"

    with (
        blockbuster_ctx(scanned_modules=["resolver"]) as blocker,
        asyncio.Runner(loop_factory=LOOPS[str(pyfuncitem.callspec.params["loop_kind"])]) as runner,
    ):
        # At the end of the process the log is waited for, bounded in time; tests end it inside a loop.
        blocker.functions["threading.Lock.acquire"].can_block_in("resolver/logs.py", {"flush", "close"})
        runner.run(watched())
    for complaint in complaints:
        raised = complaint.get("exception")
        raise AssertionError(f"the loop's exception handler was told: {complaint}") from raised
    return True
