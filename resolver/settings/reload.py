"""When a reload is due: pure decisions, and the reading of what is watched.

The daemon waits `next_check_s`, calls `digest_watched`, asks `due`, and if so loads and says `loaded` or `failed`.

What callers may rely on:

- Files that did not change are never loaded again, and neither is a content that failed, until it changes
  (CoreDNS plugin/reload).
- SIGHUP and SIGUSR1 load whatever the digest says: `due(digest, forced=True)`.
- The time between two looks is the interval plus at most half of the jitter in both directions, drawn anew each
  time, so that the nodes of a cluster do not move in step.
"""

import hashlib
from collections.abc import Iterable

from resolver.settings.directives.import_ import is_glob
from resolver.settings.environment.machine import LocalMachine, Machine
from resolver.settings.loading import load
from resolver.settings.model import ReloadOptions, Settings

__all__ = ["SIGNALLED_INTERVAL_S", "Watch", "digest_watched", "load", "next_check_s", "options_of"]

SIGNALLED_INTERVAL_S = 10.0
"""`-reloadwithsignal`: node-cache looks at ConfigMaps that often (DefaultConfigSyncPeriod)."""


class Watch:
    """What is known of the watched files: the content that serves, and the last that failed."""

    def __init__(self, digest: str) -> None:
        self._serving = digest
        self._failed = ""

    def due(self, digest: str, *, forced: bool = False) -> bool:
        """Tell whether files with this digest should be loaded."""
        return forced or digest not in {self._serving, self._failed}

    def loaded(self, digest: str) -> None:
        """These files serve now."""
        self._serving, self._failed = digest, ""

    def failed(self, digest: str) -> None:
        """These files could not be loaded; what served before goes on."""
        self._failed = digest


def options_of(settings: Settings) -> ReloadOptions | None:
    """Return the process's reload options, None where nothing is watched; the last block that says so counts."""
    found = [block.reload for block in settings.blocks if block.reload is not None]
    options = found[-1] if found else None
    if settings.process.reload_with_signal and (
        options is None or not 0 < options.interval_s <= SIGNALLED_INTERVAL_S
    ):
        options = ReloadOptions(interval_s=SIGNALLED_INTERVAL_S, jitter_s=0.0)
    return options if options is not None and options.interval_s > 0 else None


def next_check_s(options: ReloadOptions, chance: float) -> float:
    """Return how long to wait before the next look; `chance` is a random number from 0 up to 1."""
    return options.interval_s + options.jitter_s * (chance - 0.5)


def digest_watched(paths: Iterable[str], machine: Machine | None = None) -> str:
    """Return a digest of all that is watched: files, patterns, and the files of directories that are not hidden.

    What is not there, or cannot be read, is part of the digest too: it differs from an empty file.
    """
    machine = machine or LocalMachine()
    digest = hashlib.sha512()
    for path in paths:
        for file in _files(path, machine):
            try:
                content = b"=" + machine.read(file)
            except OSError:
                content = b"-"
            digest.update(f"{len(file)}:{file}{len(content)}:".encode("utf-8", "surrogateescape"))
            digest.update(content)
    return digest.hexdigest()


def _files(path: str, machine: Machine) -> list[str]:
    if is_glob(path):
        return machine.matches(path)
    if machine.is_directory(path):
        return [file for file in machine.matches(f"{path}/*") if machine.is_file(file)]
    return [path]
