"""The pidfile: written when we answer, removed when we leave. A node's scripts wait for it."""

import os
from pathlib import Path

from resolver import logs


def write(path: str) -> None:
    """Write this process's number; a path that cannot be written is a warning, not the end of DNS."""
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        logs.warning(f"cannot write the pidfile {path}: {error.strerror}; name another with -pidfile")


def remove(path: str) -> None:
    """Remove it, unless another generation has written its own number meanwhile."""
    try:
        if Path(path).read_text().strip() == str(os.getpid()):
            Path(path).unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # it could not be written, or somebody was faster: gone is gone
    except OSError as error:
        logs.warning(f"cannot remove the pidfile {path}: {error.strerror}")
