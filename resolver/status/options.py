"""What the `health`, `ready` and `prometheus` directives can say (CoreDNS, to 1.14.7), and HTTP's bounds."""

from dataclasses import dataclass
from typing import Literal

Monitor = Literal["until-ready", "continuously"]


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """`health [ADDRESS] { lameduck DURATION }`; an address is `host:port`, an empty host means all."""

    address: str = ":8080"
    lameduck_s: float = 0.0  # how long we go on answering after SIGTERM


@dataclass(frozen=True, slots=True)
class ReadyOptions:
    """`ready [ADDRESS] { monitor until-ready|continuously }`.

    `until-ready`: a thing that was ready once is not asked again. `continuously`: it is, at each question.
    """

    address: str = ":8181"
    monitor: Monitor = "until-ready"


@dataclass(frozen=True, slots=True)
class PrometheusOptions:
    """`prometheus [ADDRESS] { runtime_metrics }`.

    CoreDNS's `tls FILE` names a YAML file of the Prometheus exporter toolkit; we have no such server, so
    `settings` refuses it.
    """

    address: str = "localhost:9153"
    runtime_metrics: bool = False  # Python's garbage collector as well: python_gc_*


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Bounds of the small HTTP server. All that a peer can make it hold: 64 x (16 KiB + one body)."""

    connections_max: int = 64  # per process; one more is closed at once
    head_max_bytes: int = 16 * 1024  # request line and headers; h11's own default is the same
    body_max_bytes: int = 64 * 1024  # a request with a longer body is refused: nothing here reads one
    request_s: float = 5.0  # a request that has begun must be whole by then (CoreDNS ReadTimeout)
    write_s: float = 5.0  # a client that does not read is closed then (CoreDNS WriteTimeout)
    idle_s: float = 5.0  # between requests of one connection (CoreDNS IdleTimeout)
