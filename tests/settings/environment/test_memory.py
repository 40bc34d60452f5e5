"""The memory limit of the cgroup, in both versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.settings.environment import memory
from tests.settings.support import FakeMachine

#        content of a limit file, bytes
LIMITS = [
    ("104857600\n", 104857600),
    ("max\n", None),
    ("9223372036854771712\n", None),
    ("0\n", None),
    ("", None),
    ("-1\n", None),
    ("1 2", None),
    ("9" * 40, None),
    ("٣", None),
]


@pytest.mark.parametrize(("text", "limit"), LIMITS)
def test_limits(text: str, limit: int | None) -> None:
    assert memory.parse_limit(text) == limit


#        /proc/self/cgroup, files in the order of looking
MEMBERSHIPS = [
    pytest.param(
        "0::/kubepods/pod1/c1\n",
        ["/kubepods/pod1/c1/memory.max", "/kubepods/pod1/memory.max", "/kubepods/memory.max", "/memory.max"],
        id="version 2",
    ),
    pytest.param("0::/\n", ["/memory.max"], id="version 2 in a container"),
    pytest.param(
        "12:cpu,cpuacct:/x\n5:memory:/docker/c1\n0::/system\n",
        ["/memory/docker/c1/memory.limit_in_bytes", "/memory/docker/memory.limit_in_bytes", "/system/memory.max"],
        id="version 1 beside 2",
    ),
    pytest.param("nonsense\n::\n0::/../../a\n", ["/a/memory.max"], id="nonsense and an outside path"),
]


@pytest.mark.parametrize(("membership", "files"), MEMBERSHIPS)
def test_limit_files(membership: str, files: list[str]) -> None:
    found = memory.limit_files(membership)
    assert found[: len(files)] == ["/sys/fs/cgroup" + file for file in files]
    assert found[-1] == "/sys/fs/cgroup/memory/memory.limit_in_bytes"


#        files, bytes
MACHINES = [
    pytest.param({}, None, id="no cgroup at all"),
    pytest.param({"/sys/fs/cgroup/memory.max": "100000000"}, 100_000_000, id="container, version 2"),
    pytest.param({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000"}, 5_000_000, id="container, version 1"),
    pytest.param(
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/memory.max": "max",
            "/sys/fs/cgroup/a/memory.max": "7000000",
        },
        7_000_000,
        id="a limit above holds below",
    ),
    pytest.param(
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/memory.max": "9000000",
            "/sys/fs/cgroup/a/memory.max": "7000000",
        },
        7_000_000,
        id="the smallest counts",
    ),
]


@pytest.mark.parametrize(("files", "limit"), MACHINES)
def test_the_machines_limit(files: dict[str, str], limit: int | None) -> None:
    assert memory.read_limit_bytes(FakeMachine(files)) == limit


@pytest.mark.parametrize(("limit", "budget"), [(None, 64 * 2**20), (400 * 2**20, 100 * 2**20), (100, 2**20)])
def test_a_quarter_of_the_limit_is_for_caches(limit: int | None, budget: int) -> None:
    assert memory.default_cache_bytes(limit) == budget


@given(text=st.text(max_size=200))
def test_any_membership_gives_files(text: str) -> None:
    assert all(file.startswith("/sys/fs/cgroup/") for file in memory.limit_files(text))
