"""What the `forward` directive can say (CoreDNS plugin/forward, to 1.14.7, and ours)."""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["random", "round_robin", "sequential"]


@dataclass(frozen=True, slots=True)
class Target:
    """One TO word of `forward`, before files are read and host names resolved.

    kind `address`  host is an IP address, port and server_name are set
    kind `file`     host is the path of a resolv.conf, watched and swapped live
    kind `name`     host is a host name, re-resolved on its TTL
    """

    kind: Literal["address", "file", "name"]
    host: str
    port: int = 53
    tls: bool = False
    server_name: str = ""  # TLS server name; empty: the directive's `tls_servername`
    text: str = ""  # as it stood in the Corefile, for messages


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """`tls [CERT KEY] [CA]` and `tls_servername`; empty paths mean no client certificate, system CAs."""

    certificate_path: str = ""
    key_path: str = ""
    ca_path: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """One `forward` directive. Rcodes are numbers, names are lower case with a trailing dot."""

    from_zone: str = "."
    targets: tuple[Target, ...] = ()  # 1 to 15
    except_zones: tuple[str, ...] = ()
    force_tcp: bool = False
    prefer_udp: bool = False
    expire_s: float = 10.0  # idle sockets and connections are closed after this
    max_age_s: float = 0.0  # a socket or connection takes no new question after this; 0: no limit
    max_idle_conns: int = 0  # idle connections kept per upstream; 0: no limit but ours
    max_fails: int = 2  # failed health checks in a row that make an upstream down; 0: never down
    max_connect_attempts: int = 0  # tries for one question; 0: twice the number of upstreams
    policy: Policy = "random"
    health_check_s: float = 0.5
    health_check_no_rec: bool = False
    health_check_domain: str = "."
    max_concurrent: int = 0  # flights at once; one more is REFUSED; 0: no limit of this directive's
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    failover_rcodes: frozenset[int] = frozenset()
    failfast: bool = False  # failfast_all_unhealthy_upstreams
    read_timeout_s: float = 2.0  # how long one try over TCP, or the last one over UDP, is waited for
    source_address: str = ""
    resolver_targets: tuple[Target, ...] = ()  # who resolves targets of kind `name`
    tls: TlsOptions = TlsOptions()
    fallback: tuple[Target, ...] = ()  # asked when every upstream above failed
    deadline_s: float = 2.0  # when no upstream answered anybody since the question went out
    deadline_slow_s: float = 4.5  # when one did: a slow recursion is not a dead upstream
