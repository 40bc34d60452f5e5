"""A memory cgroup of our own, version 1 or 2, below the root or below our own; named as all of the lab is."""

import contextlib
import os
from pathlib import Path

from tests.lab.spaces import LabError, pause

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


def parent() -> Path | None:
    """Where a memory cgroup can be made, None where there is no such place."""
    if (V1 / "memory.limit_in_bytes").exists() and os.access(V1, os.W_OK):
        return V1
    with contextlib.suppress(OSError):
        if "memory" in (V2 / "cgroup.subtree_control").read_text().split() and os.access(V2, os.W_OK):
            return V2
    return None


def make(name: str, limit_mib: int) -> Path:
    """Make one with this limit and no swap. Raises LabError."""
    above = parent()
    if above is None:
        raise LabError("no memory cgroup can be made here")
    group = above / name
    group.mkdir()
    limit = str(limit_mib << 20)
    if above == V1:
        (group / "memory.limit_in_bytes").write_text(limit)
    else:
        (group / "memory.max").write_text(limit)
        with contextlib.suppress(OSError):  # without swap there is no such file
            (group / "memory.swap.max").write_text("0")
    return group


def remove(group: Path) -> None:
    """Remove it once its last process is gone; the kernel may take a moment to see that."""
    for _ in range(100):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            pause(0.01)
    raise LabError(f"{group} has processes: {(group / 'cgroup.procs').read_text()}")
