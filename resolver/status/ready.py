"""Whether clients should be sent here: the truth of /ready.

Pure state. Each part that must be ready is expected by name, and says when it is (`forward`, with the first
answer of an upstream). A process that is `starting` is not ready before `started`, whatever its parts say. At
SIGTERM `stop` makes it false at once and for good.
"""

from collections.abc import Iterable

from resolver.status.options import Monitor

STOPPING = "Shutting down"
"""CoreDNS's words."""


STARTING = "Starting"


class Readiness:
    """Which parts are ready. With `until-ready` a part that was ready once counts as ready from then on."""

    def __init__(self, monitor: Monitor = "until-ready", *, starting: bool = False) -> None:
        self.monitor = monitor
        self._parts: dict[str, bool] = {}
        self._starting = starting
        self._stopping = False

    def expect(self, names: Iterable[str]) -> None:
        """From now on exactly these parts must be ready; those that stay keep what they said."""
        self._parts = {name: self._parts.get(name, False) for name in names}

    def set(self, name: str, ready: bool) -> None:
        """Part `name` is ready, or is not any more."""
        if name in self._parts and (ready or self.monitor == "continuously"):
            self._parts[name] = ready

    def started(self) -> None:
        """What comes after all parts are ready is done: pods are sent here, where they are to be."""
        self._starting = False

    def stop(self) -> None:
        """The process is ending."""
        self._stopping = True

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Parts that are not ready."""
        return tuple(sorted(name for name, ready in self._parts.items() if not ready))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What stands in the way; empty when ready."""
        if self._stopping:
            return (STOPPING,)
        return self.waits_for or ((STARTING,) if self._starting else ())
