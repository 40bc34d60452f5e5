"""How much memory the caches may take when `-cache-memory` does not say: a quarter of the cgroup's limit.

Pure parsing of what the kernel shows (cgroup v2 `memory.max`, v1 `memory.limit_in_bytes`), and one thin reader.
In a container the cgroup's own files are mounted at the root of /sys/fs/cgroup; outside, the path stands in
/proc/self/cgroup. A limit holds for everything below it, so the smallest on the way up counts.
"""

from resolver.settings.environment.machine import Machine

DEFAULT_BYTES = 64 * 1024 * 1024
"""Without a limit: about 100,000 answers."""

LEAST_BYTES = 1024 * 1024
"""Below this a cache is of no use."""

SHARE = 4
"""The caches take one part in this many; sockets, buffers and Python itself need the rest."""

_ROOT = "/sys/fs/cgroup"
_UNLIMITED_BYTES = 2**60  # cgroup v1 writes "no limit" as a number close to 2**63


def default_cache_bytes(limit_bytes: int | None) -> int:
    """Return the budget for a memory limit, or for none."""
    return DEFAULT_BYTES if limit_bytes is None else max(limit_bytes // SHARE, LEAST_BYTES)


def parse_limit(text: str) -> int | None:
    """Return the bytes of one limit file, None for `max`, for v1's huge numbers and for anything else."""
    word = text.strip()
    if not (word.isascii() and word.isdigit() and len(word) < 20):
        return None
    return int(word) if 0 < int(word) < _UNLIMITED_BYTES else None


def limit_files(membership: str) -> list[str]:
    """Return the files whose limits hold for a process with this /proc/self/cgroup, nearest first.

    Lines are `0::/path` (v2) and `5:memory,cpu:/path` (v1); the roots come last, for containers where the
    path is the host's and is not there.
    """
    files: list[str] = []
    for line in membership.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, path = parts
        if controllers == "":
            files += [f"{_ROOT}{above}/memory.max" for above in _upwards(path)]
        elif "memory" in controllers.split(","):
            files += [f"{_ROOT}/memory{above}/memory.limit_in_bytes" for above in _upwards(path)]
    files += [f"{_ROOT}/memory.max", f"{_ROOT}/memory/memory.limit_in_bytes"]
    return list(dict.fromkeys(files))


def read_limit_bytes(machine: Machine) -> int | None:
    """Return this process's memory limit, None without one or where the kernel does not say."""
    limits = [parse_limit(_text(machine, path)) for path in limit_files(_text(machine, "/proc/self/cgroup"))]
    return min((limit for limit in limits if limit is not None), default=None)


def _upwards(path: str) -> list[str]:
    """`/a/b` gives `/a/b` and `/a`; the root itself has no limit of its own."""
    names = [name for name in path.split("/") if name not in {"", ".", ".."}][:64]
    return ["/" + "/".join(names[:count]) for count in range(len(names), 0, -1)]


def _text(machine: Machine, path: str) -> str:
    try:
        return machine.read(path).decode("ascii", "replace")
    except (OSError, ValueError):
        return ""
