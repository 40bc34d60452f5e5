"""One validated configuration, as values: what `load` returns and the daemon builds from.

What callers may rely on:

- Everything here is frozen and already checked: zones are lower case with a trailing dot, networks are
  expanded to reverse zones, addresses are addresses, bounds hold.
- `Block.zones` and `Block.listen` are never empty, and no (zone, address, port) is in two blocks.
- A value of these classes compares equal to another that was loaded from the same text, so a reload that
  changed nothing is `old.blocks == new.blocks`.

How text becomes these values is in `corefile`, `blocks` and `directives`; options of a stage live in the
`options.py` of that stage.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from resolver.cache.options import CacheOptions
from resolver.forward.options import ForwardOptions
from resolver.reply.options import LoadBalanceOptions
from resolver.report.options import ErrorsOptions, LogOptions
from resolver.status.options import HealthOptions, PrometheusOptions, ReadyOptions
from resolver.system.options import Interception, NodeOptions

Scheme = Literal["dns", "tls", "https", "https3", "grpc", "quic"]


class ListenAddress(NamedTuple):
    """Where a block answers, over UDP and TCP. `host` is an address, or "" for all addresses."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ReloadOptions:
    """`reload [30s] [15s]`: how often watched files are looked at (CoreDNS plugin/reload)."""

    interval_s: float = 30.0  # at least 2; 0: never
    jitter_s: float = 15.0  # at least 1 and at most half of the interval, so that nodes do not move in step


@dataclass(frozen=True, slots=True)
class Block:
    """One server block: its zones, where it listens, and what each of its directives said.

    Each of `zones` is served on each of `listen`. A server block whose keys name several ports becomes one
    value per port; these have the same `number` and equal options, and share one cache (CoreDNS: all keys of
    a server block share their plugins).
    """

    zones: tuple[str, ...]
    listen: tuple[ListenAddress, ...]
    number: int = 0  # which server block of the Corefile it came from, from 0
    file: str = ""
    line: int = 0
    cache: CacheOptions | None = None
    forwards: tuple[ForwardOptions, ...] = ()  # in the order of the file; `next` goes to the one after
    errors: ErrorsOptions | None = None
    log: tuple[LogOptions, ...] = ()  # the first whose names match decides
    loadbalance: LoadBalanceOptions | None = None
    health: HealthOptions | None = None
    ready: ReadyOptions | None = None
    prometheus: PrometheusOptions | None = None
    reload: ReloadOptions | None = None
    loop: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What the flags said (docs/configuration.md lists them); one field each, named as the flag."""

    given: frozenset[str] = frozenset()  # names of the flags that were written, without their dashes
    conf: str = ""  # the Corefile; `stdin` reads standard input; empty: the embedded default
    stdin_text: bytes | None = None  # what `-conf stdin` read; kept, because it cannot be read again
    dns_port: int = 53  # of blocks without a port
    local_ips: tuple[str, ...] = ()  # `-localip`: what pods ask; `bind` decides where we listen
    pidfile: str = ""
    quiet: bool = False
    probe_socket: str = ""  # path of the Unix socket for exec probes; empty: none
    handover_dir: str = ""  # directory for hand-over and snapshots; empty: neither
    snapshot_interval_s: float = 60.0  # between two snapshot files
    base_corefile: str = "/etc/coredns/Corefile.base"  # template; used when it exists
    kubedns_config_dir: str = ""  # `-kubednscm`: mounted kube-dns ConfigMap; empty: /etc/kube-dns if it exists
    upstream_service: str = "kube-dns"  # its *_SERVICE_HOST fills __PILLAR__CLUSTER__DNS__
    sync_interval_s: float = 60.0  # how often the node set-up is looked at
    reload_with_signal: bool = False  # changed ConfigMaps are taken at once, without waiting for `reload`
    metrics_listen_address: str = "0.0.0.0:9353"  # the second metrics endpoint of node-cache
    prometheus_listen_address: str = ":9253"  # fills __PROMETHEUS__ENDPOINT__
    health_port: int = 8080  # only in the node's rules; the `health` directive has its own address
    setup_interface: bool = False  # node-cache's default, true, holds once `-localip` is given
    setup_iptables: bool = False
    interception: Interception = "notrack"
    standing_nat: tuple[str, ...] = ()  # addresses of kube-dns pods, for pods that ask a link-local address
    interface_name: str = "nodelocaldns"
    skip_teardown: bool = False
    cache_memory_bytes: int = 64 * 1024 * 1024  # of all caches together; flag, else a quarter of the cgroup's limit
    lane: Literal["auto", "python", "compiled"] = "auto"
    log_format: Literal["text", "json"] = "text"

    @property
    def node(self) -> NodeOptions:
        """What is to be done to the node."""
        return NodeOptions(
            local_ips=self.local_ips,
            dns_port=self.dns_port,
            health_port=self.health_port,
            interface_name=self.interface_name,
            setup_interface=self.setup_interface,
            setup_iptables=self.setup_iptables,
            skip_teardown=self.skip_teardown,
            sync_interval_s=self.sync_interval_s,
            interception=self.interception,
            standing_nat=self.standing_nat,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """One validated configuration: the blocks of the Corefile and what the flags said."""

    blocks: tuple[Block, ...]
    process: ProcessOptions = ProcessOptions()
    corefile_path: str = ""  # for people: a path, `stdin` or `built-in Corefile`
    digest: str = ""  # sha512 in hex of the effective text, templates filled and imports in place
    watched_paths: tuple[str, ...] = ()  # Corefile, imports, template, ConfigMap directories
    warnings: tuple[str, ...] = ()  # one line each, to be logged once at start and at each reload
    without_configmap: bool = False  # the kube-dns ConfigMap could not be used; a warning says why

    @property
    def prometheus(self) -> tuple[PrometheusOptions, ...]:
        """Where metrics are to be had: the directives of all blocks, and on a node what node-cache's flag says."""
        directives = tuple(block.prometheus for block in self.blocks if block.prometheus)
        if self.process.local_ips and self.process.metrics_listen_address:
            return (*directives, PrometheusOptions(self.process.metrics_listen_address))
        return directives
