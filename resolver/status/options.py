"""What the `health`, `ready` and `prometheus` directives can say (CoreDNS, to 1.14.7), and HTTP's bounds."""

import ipaddress
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
    """Bounds of the small HTTP server. All that peers can make it hold: 64 x (one read of 256 KiB + one page)."""

    connections_max: int = 64  # per process; one more is closed at once
    head_max_bytes: int = 16 * 1024  # request line and headers that are not whole yet; h11's own default
    body_max_bytes: int = 64 * 1024  # a request with a longer body is refused: nothing here reads one
    request_s: float = 5.0  # a request that has begun must be whole by then (CoreDNS ReadTimeout)
    write_s: float = 5.0  # a client that does not read is closed then (CoreDNS WriteTimeout)
    idle_s: float = 5.0  # between requests of one connection (CoreDNS IdleTimeout)


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """Bounds of the socket for exec probes: whatever a client does, 16 x (64 bytes + one read)."""

    connections_max: int = 16  # one more is closed at once; kubelet has three probes under way at most
    question_max_bytes: int = 64  # a longer line is answered as what it is: no question of ours
    connection_s: float = 2.0  # from connecting to being gone; the clients wait 1 s


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `:8080`, `127.0.0.1:9153`, `[::1]:8181` or `localhost:9153`.

    The empty host is every address of this machine, and `localhost` is 127.0.0.1, as in CoreDNS. Other names
    are not looked up: who would answer? Raises ValueError that says what is accepted.
    """
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets: its last group is no port
    if not colon or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ValueError(f"{text!r} is not an address with a port, such as :8080 or 127.0.0.1:8080")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        return (str(ipaddress.ip_address(host)) if host else ""), int(port_text)
    except ValueError:
        raise ValueError(f"{text!r}: the host must be empty, localhost or an IP address") from None
