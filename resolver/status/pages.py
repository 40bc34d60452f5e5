"""The pages of this process and where they are: /health, /ready, /metrics as CoreDNS has them."""

from collections.abc import Iterable

from resolver.clock import Now
from resolver.status.connection import Page, Response
from resolver.status.exposition import CONTENT_TYPE, Exposition
from resolver.status.health import Health
from resolver.status.options import HealthOptions, PrometheusOptions, ReadyOptions
from resolver.status.probe import Problem
from resolver.status.ready import Readiness

OK = Response(200, b"OK")


class Pages:
    """What each page says now."""

    def __init__(self, health: Health, readiness: Readiness, exposition: Exposition, now: Now) -> None:
        self._health = health
        self._readiness = readiness
        self._exposition = exposition
        self._now = now

    async def health(self) -> Response:
        """200 while our own questions are answered, else 503 and why."""
        problem = self._unhealthy()
        return OK if problem is None else Response(503, f"{problem}\n".encode())

    async def ready(self) -> Response:
        """200 when clients may come, else 503 and the parts that are not ready, with commas as in CoreDNS."""
        problem = self._unready()
        return OK if problem is None else Response(503, problem.encode())

    async def metrics(self) -> Response:
        """A scrape; one that fails has already been reported by its task."""
        try:
            return Response(200, await self._exposition.text(), CONTENT_TYPE)
        except Exception:
            return Response(500, b"the scrape failed, see the log\n")

    def problems(self) -> dict[str, Problem]:
        """Return the same two for exec probes."""
        return {"health": self._unhealthy, "ready": self._unready}

    def routes(
        self,
        health: Iterable[HealthOptions],
        ready: Iterable[ReadyOptions],
        prometheus: Iterable[PrometheusOptions],
    ) -> dict[str, dict[str, Page]]:
        """Return the routes of all directives of all server blocks; several may name one address."""
        routes: dict[str, dict[str, Page]] = {}
        for at_health in health:
            routes.setdefault(at_health.address, {})["/health"] = self.health
        for at_ready in ready:
            routes.setdefault(at_ready.address, {})["/ready"] = self.ready
        for at_metrics in prometheus:
            routes.setdefault(at_metrics.address, {})["/metrics"] = self.metrics
        return routes

    def _unhealthy(self) -> str | None:
        return self._health.problem(self._now())

    def _unready(self) -> str | None:
        return ",".join(self._readiness.reasons) or None
