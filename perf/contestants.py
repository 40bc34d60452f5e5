"""Who is measured: how each server is found, configured and started with settings like everybody's.

Like settings: one thread, the same upstream, a cache with room for everything that a workload asks, no query log,
expired answers served and popular ones refreshed early where a server knows how. Ours also has metrics, scraped
while it is measured (`perf.servers.scraped`); so have node-cache and CoreDNS, with the same Corefile. On a node
(`perf.places`) ours and node-cache also set up what they set up on a node; for the others that is done.

A `Contestant` is a name and a function from a `Plan` to the command that serves in the foreground; the function
writes what configuration it needs into the plan's folder.

Longer than 300 lines because each server's configuration stands here whole.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.places import Place

SEARCHED = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin"
PEERS = {  # name in tables: program, Debian package
    "unbound": ("unbound", "unbound"),
    "dnsmasq": ("dnsmasq", "dnsmasq-base"),
    "kresd": ("kresd", "knot-resolver"),
    "pdns": ("pdns_recursor", "pdns-recursor"),
}
LANES = ("compiled", "python")
OURS = "ours"  # names of our own contestants begin with it
FLOOR = "floor"
NODE_CACHE = "node-cache"
VERSION_S = 10.0
INTERCEPTION = 'resolver_interception{family="1"} 1'  # our metrics say it when each address has answered
LAST_RULE = "--sport 8080"  # the last of the rules that node-cache sets, as iptables-save prints it


@dataclass(frozen=True)
class Plan:
    """One server to start: where it listens, whom it asks, how many names its cache must hold."""

    folder: Path
    place: Place
    upstream_host: str
    upstream_port: int
    entries: int

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.place.host

    @property
    def port(self) -> int:
        """Of DNS, over UDP and TCP."""
        return self.place.port


@dataclass(frozen=True)
class Contestant:
    """One kind of server.

    scraped    It has Prometheus metrics at the place's `metrics_port`.
    forwards   It answers; the floor does not.
    device     On a node it puts its address on a device itself.
    rules      On a node it sets rules that bring questions to it: what its metrics, or for others `iptables-save`,
               say when they are there.
    """

    name: str
    command: Callable[[Plan], list[str]]
    version: tuple[str, ...] = ()
    tcp: bool = True
    scraped: bool = False
    forwards: bool = True
    device: bool = False
    rules: str = ""

    @property
    def ours(self) -> bool:
        """Whether this is node-resolver itself."""
        return self.name.startswith(OURS)


def find(program: str) -> str | None:
    """Where `program` of a Debian package is; system programs are not in everybody's PATH."""
    return shutil.which(program) or shutil.which(program, path=SEARCHED)


def ours(lane: str) -> Contestant:
    """Our own server, as `resolver -lane LANE` runs it."""

    def command(plan: Plan) -> list[str]:
        memory = f"{64 + plan.entries * 4 // 1024}MiB"  # 4 KiB for each name: room for stored answer and renderings
        flags = ["-lane", lane, "-cache-memory", memory, "-handover-dir", str(plan.folder / "handover")]
        if plan.place.is_node:
            flags += ["-localip", plan.host]
        return [sys.executable, "-m", "resolver", "-conf", corefile(plan), *flags]

    version = (sys.executable, "-m", "resolver", "-version")
    return Contestant(f"{OURS}, {lane}", command, version, scraped=True, device=True, rules=INTERCEPTION)


def floor(program: Path) -> Contestant:
    """The server that sends datagrams back; compiled from native/echo.c."""
    return Contestant(FLOOR, lambda plan: [str(program), plan.host, str(plan.port)], tcp=False, forwards=False)


def coredns_like(name: str, program: str) -> Contestant:
    """A CoreDNS or node-cache binary, with our Corefile."""

    def command(plan: Plan) -> list[str]:
        path = corefile(plan)
        flags = ["-conf", path]
        if name == NODE_CACHE:  # it writes what it makes of the template to -conf before it reads that
            written = plan.folder / "written"
            shutil.copy(path, written)
            flags = ["-conf", str(written), "-basecorefile", path, "-localip", plan.host, *alone]
            flags += ["-metrics-listen-address", f"{plan.host}:0"]
            if plan.place.is_node:  # it sets its rules once it has written this file, not only after a minute
                flags += ["-setupiptables=true", "-pidfile", str(plan.folder / "pid")]
        return [program, *flags]

    # Its device is a dummy, which not every kernel has: the address is on `lo`, and costs the same there.
    alone = ["-setupinterface=false", "-setupiptables=false", "-skipteardown=true"]
    if name != NODE_CACHE:
        return Contestant(name, command, (program, "-version"), scraped=True)
    # It looks at all its flags before it says its version, and would set up the machine's network.
    nothing = ("-conf", "/dev/null", "-basecorefile", "/dev/null", "-metrics-listen-address", "127.0.0.1:0")
    version = (program, "-localip", "127.0.0.1", *alone, *nothing, "-version")
    return Contestant(name, command, version, scraped=True, rules=LAST_RULE)


def corefile(plan: Plan) -> str:
    """Write the Corefile of ours, CoreDNS and node-cache; returns its path."""
    path = plan.folder / "Corefile"
    path.write_text(
        f".:{plan.port} {{\n"
        f"    bind {plan.host}\n"
        f"    errors\n"
        f"    prometheus {plan.host}:{plan.place.metrics_port}\n"
        f"    cache 3600 {{\n"
        f"        success {2 * plan.entries}\n"  # CoreDNS has 256 parts, of which some fill sooner than others
        f"        denial {2 * plan.entries}\n"
        f"        prefetch 3 1m 10%\n"
        f"        serve_stale 1h\n"
        f"    }}\n"
        f"    forward . {plan.upstream_host}:{plan.upstream_port}\n"
        f"}}\n"
    )
    return str(path)


def _unbound(program: str, plan: Plan) -> list[str]:
    size_mib = max(16, plan.entries // 1000)  # half a KiB in each of two caches would do; this is plenty
    (plan.folder / "unbound.conf").write_text(
        f"""\
server:
    interface: {plan.host}@{plan.port}
    access-control: 0.0.0.0/0 allow
    do-daemonize: no
    use-syslog: no
    verbosity: 0
    chroot: ""
    username: ""
    directory: "{plan.folder}"
    pidfile: ""
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    msg-cache-size: {size_mib}m
    rrset-cache-size: {2 * size_mib}m
    infra-cache-numhosts: 1000
    outgoing-range: 4096
    num-queries-per-thread: 4096
    incoming-num-tcp: 1100
    so-rcvbuf: 4m
    rrset-roundrobin: no
    prefetch: yes
    serve-expired: yes
    serve-expired-ttl: 3600
    local-zone: "example." nodefault
remote-control:
    control-enable: yes
    control-interface: "{plan.folder}/control"
    control-use-cert: no
forward-zone:
    name: "."
    forward-addr: {plan.upstream_host}@{plan.upstream_port}
"""
    )
    return [program, "-d", "-c", str(plan.folder / "unbound.conf")]


def _dnsmasq(program: str, plan: Plan) -> list[str]:
    return [
        *(program, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=", "--group="),
        *(f"--listen-address={plan.host}", f"--port={plan.port}", "--bind-interfaces", "--no-hosts", "--no-resolv"),
        f"--server={plan.upstream_host}#{plan.upstream_port}",
        *(f"--cache-size={plan.entries}", "--dns-forward-max=4096", "--max-tcp-connections=1100"),
        "--use-stale-cache=3600",
        "--log-facility=/dev/null",
    ]


def _kresd(program: str, plan: Plan) -> list[str]:
    """Without its module `predict`: that fetches TTLs of a few seconds again at every question."""
    size_mib = max(64, plan.entries // 500)
    (plan.folder / "kresd.conf").write_text(
        f"""\
log_level('crit')
net.listen('{plan.host}', {plan.port}, {{ kind = 'dns' }})
trust_anchors.remove('.')
modules.unload('priming')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('detect_time_skew')
modules = {{ 'serve_stale < cache' }}
cache.size = {size_mib} * MB
policy.add(policy.all(policy.FORWARD({{'{plan.upstream_host}@{plan.upstream_port}'}})))
"""
    )
    return [program, "-n", "-c", str(plan.folder / "kresd.conf"), str(plan.folder)]


def _pdns(program: str, plan: Plan) -> list[str]:
    options = {
        "local-address": plan.host,
        "local-port": plan.port,
        "forward-zones-recurse": f".={plan.upstream_host}:{plan.upstream_port}",
        "dont-query": "",
        "allow-from": "0.0.0.0/0",
        "threads": 1,
        "pdns-distributes-queries": "no",
        "dnssec": "off",
        "max-cache-entries": 2 * plan.entries,
        "max-packetcache-entries": 2 * plan.entries,
        "max-mthreads": 4096,
        "max-tcp-clients": 1100,
        "max-tcp-per-client": 0,
        "serve-stale-extensions": 120,
        "refresh-on-ttl-perc": 10,
        "security-poll-suffix": "",
        "socket-dir": plan.folder,
        "config-dir": plan.folder,
        "daemon": "no",
        "quiet": "yes",
        "loglevel": 0,
        "disable-syslog": "yes",
        "write-pid": "no",
    }
    return [program, *(f"--{name}={value}" for name, value in options.items())]


_COMMANDS: Mapping[str, Callable[[str, Plan], list[str]]] = {
    "unbound": _unbound,
    "dnsmasq": _dnsmasq,
    "kresd": _kresd,
    "pdns": _pdns,
}
_VERSIONS = {"unbound": "-V", "dnsmasq": "--version", "kresd": "--version", "pdns": "--version"}


def peer(name: str, program: str) -> Contestant:
    """A server of Debian's, by its name in `PEERS`."""

    def command(plan: Plan) -> list[str]:
        return _COMMANDS[name](program, plan)

    return Contestant(name, command, (program, _VERSIONS[name]))


def discover(
    wanted: Sequence[str], *, node_cache: str | None, coredns: str | None
) -> tuple[list[Contestant], dict[str, str]]:
    """Return the peers that are there, and what is missing with what would bring it. Raises KeyError."""
    found, missing = [], {}
    for name in wanted:
        program, package = PEERS[name]
        path = find(program)
        if path is None:
            missing[name] = f"not installed (Debian: apt-get install {package})"
        else:
            found.append(peer(name, path))
    for name, given in ((NODE_CACHE, node_cache), ("coredns", coredns)):
        if given is None:
            missing[name] = f"no binary given (--{name} PATH)"
        elif shutil.which(given) is None:
            missing[name] = f"--{name}: no such program"
        else:
            found.append(coredns_like(name, str(Path(shutil.which(given) or given).resolve())))
    return found, missing


def version(contestant: Contestant) -> str:
    """The line in which a server says its version; empty when it does not."""
    if not contestant.version:
        return ""
    try:
        done = subprocess.run(
            contestant.version, capture_output=True, text=True, timeout=VERSION_S, check=False, cwd=ROOT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return version_line(done.stdout + done.stderr)


def version_line(printed: str) -> str:
    """The first line with a number, without the time of a log line in front and without whose rights it is.

    node-cache logs at length first: of its output, what it calls itself and the CoreDNS in it.
    """
    image = re.search(r"node-cache image: (\S+)", printed)
    if image:
        within = re.search(r"^CoreDNS-\S+", printed, re.MULTILINE)
        named = "of unknown version" if image[1] == "UNKNOWN" else image[1]
        return f"node-cache {named}, {within[0]}" if within else ""
    line = next((line for line in printed.splitlines() if any(letter.isdigit() for letter in line)), "")
    line = re.sub(r"^[A-Z][a-z]{2} +\d+ [\d:]{8} ", "", line)
    return re.split(r" +(?:\(C\)|Copyright)", line)[0].strip()


ROOT = Path(__file__).resolve().parents[1]
