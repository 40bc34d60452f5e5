"""The fixture `lab`: a fresh node for one test, in under 3 s, removed whatever happens, explained when it fails.

Needs root and Debian's programs; elsewhere its tests are skipped and say why. CI is root and has them.
"""

import os
import shutil
from collections.abc import Generator, Iterator

import pytest

from tests.lab.clients import Programs, compile_all
from tests.lab.lab import Lab
from tests.lab.spaces import work_folder

PROGRAMS = (
    *("ip", "nft", "iptables", "ip6tables", "conntrack", "unbound", "dig", "cc", "musl-gcc"),
    *("nsenter", "unshare", "setpriv"),
)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The compiled clients."""
    needs()
    return compile_all(tmp_path_factory.mktemp("lab-programs"))


def needs() -> None:
    """Skip where there can be no lab."""
    if os.getuid() != 0:
        pytest.skip("the lab makes network namespaces: root only")
    os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {' '.join(missing)} (tests/packages.sh installs them on Debian)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        lab = getattr(item, "funcargs", {}).get("lab")
        if report.failed and isinstance(lab, Lab):
            report.sections.append(("the lab", lab.report()))
    return report


@pytest.fixture
def lab(programs: Programs) -> Iterator[Lab]:
    with work_folder() as folder:
        made = Lab(folder, programs)
        try:
            yield made
        finally:
            made.close()
