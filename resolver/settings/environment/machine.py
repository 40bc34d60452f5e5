"""The machine as the settings see it: files, environment variables, addresses of interfaces.

`Machine` is what the deciding code takes; `LocalMachine` is this machine. Reads are bounded, because a Corefile
may name anything (`import /dev/zero`).
"""

import glob
import os
import sys
from collections.abc import Mapping
from typing import Protocol

from resolver.errors import ConfigError
from resolver.settings.environment import interfaces

FILE_MAX_BYTES = 4 * 1024 * 1024
"""Four times what a ConfigMap may hold (1 MiB); a file of more is a mistake."""


class Machine(Protocol):
    """Where settings come from besides the command line."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables."""

    def read(self, path: str) -> bytes:
        """Return a file's content; raises OSError, also when it is larger than FILE_MAX_BYTES."""

    def is_file(self, path: str) -> bool:
        """Tell whether `path` is there and no directory."""

    def is_directory(self, path: str) -> bool:
        """Tell whether `path` is a directory."""

    def matches(self, pattern: str) -> list[str]:
        """Return the paths that a glob pattern matches, sorted, without hidden ones."""

    def interface_addresses(self) -> Mapping[str, tuple[str, ...]]:
        """Return the addresses of each network interface by its name; raises OSError."""


class LocalMachine:
    """This machine."""

    @property
    def environ(self) -> Mapping[str, str]:
        return os.environ

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            content = file.read(FILE_MAX_BYTES + 1)
        if len(content) > FILE_MAX_BYTES:
            raise OSError(f"larger than {FILE_MAX_BYTES} bytes")
        return content

    def is_file(self, path: str) -> bool:
        # Not isfile(): `-conf` may be a pipe, as `<(...)` of a shell gives one.
        return os.path.exists(path) and not os.path.isdir(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def matches(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern))

    def interface_addresses(self) -> Mapping[str, tuple[str, ...]]:
        return interfaces.read_addresses()


def why(error: OSError) -> str:
    """Return the reason of an OSError without its path and number."""
    return error.strerror or str(error)


def read_stdin() -> bytes:
    """Return standard input to its end, at most FILE_MAX_BYTES of it; raises ConfigError."""
    content = sys.stdin.buffer.read(FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        raise ConfigError("stdin", 0, f"larger than {FILE_MAX_BYTES} bytes")
    return content
