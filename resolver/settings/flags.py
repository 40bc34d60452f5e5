"""The command line: node-cache's flags, CoreDNS's, and ours.

Go's forms all work: `-flag value`, `-flag=value`, `--flag`; a boolean is `-flag` or `-flag=false` and never takes
the next word. A flag that is written twice counts as written last. Of node-cache's traps none is kept:
`-syncinterval` takes seconds or a duration (there `30s` overflowed), `-corefile` works as another name of `-conf`
(there it was read by nobody).

`parse` is pure and raises ConfigError and nothing else; defaults that depend on the machine are filled in by
`settings.loading`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from resolver.errors import ConfigError
from resolver.settings import targets, values
from resolver.settings.environment.memory import LEAST_BYTES
from resolver.settings.model import ProcessOptions
from resolver.settings.values import shown
from resolver.system.options import UPSTREAMS

PLACE = "command line"
SYNC_LEAST_S, SYNC_MAX_S = 1.0, 86400.0
SNAPSHOT_LEAST_S, SNAPSHOT_MAX_S = 1.0, 3600.0
LOCAL_IPS_MAX = 16
ENDPOINTS_MAX = 64
_SOCKET_PATH_MAX_BYTES = 107  # sun_path less its NUL (unix(7))
_INTERFACE_NAME_MAX = 15  # IFNAMSIZ - 1


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `field` is where its value goes; a boolean has no `value_name`."""

    name: str
    field: str
    value_name: str
    read: Callable[[str], Any]
    help: str
    group: str


class Parsed(NamedTuple):
    """A command line: what the flags say, words that are no flags, and flags that only print something."""

    process: ProcessOptions
    words: tuple[str, ...]
    asked: str  # "help", "version", "plugins" or ""
    warnings: tuple[str, ...]


def _text(word: str) -> str:
    if "\0" in word:
        raise ValueError("a NUL byte")
    return word


def _socket_path(word: str) -> str:
    if not 0 < len(os.fsencode(word)) <= _SOCKET_PATH_MAX_BYTES or "\0" in word:
        raise ValueError(f"{shown(word)} is not a path of 1 to {_SOCKET_PATH_MAX_BYTES} bytes")
    return word


def _boolean(word: str) -> bool:
    """Go's strconv.ParseBool."""
    if word in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if word in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(f"{shown(word)} is neither true nor false")


def _local_ips(word: str) -> tuple[str, ...]:
    return _bounded(tuple(dict.fromkeys(values.ip(each.strip()) for each in word.split(","))), LOCAL_IPS_MAX)


def _endpoints(word: str) -> tuple[str, ...]:
    if word == UPSTREAMS:
        return (UPSTREAMS,)
    found = [targets.address(each.strip()) for each in word.split(",")]
    places = [each.host if each.port == 53 else values.joined(each.host, each.port) for each in found]
    return _bounded(tuple(dict.fromkeys(places)), ENDPOINTS_MAX)


def _bounded(found: tuple[str, ...], most: int) -> tuple[str, ...]:
    if len(found) > most:
        raise ValueError(f"{len(found)} addresses, at most {most}")
    return found


def _address(word: str) -> str:
    return values.joined(*values.host_port(word))


def _sync_interval(word: str) -> float:
    """A bare number is seconds. `60ns` was node-cache's way to say 60 seconds: there the number was multiplied."""
    if word.isascii() and word.removesuffix("ns").isdigit() and len(word) < 12:
        found_s = float(word.removesuffix("ns"))
    else:
        found_s = values.duration_s(word)
    if not SYNC_LEAST_S <= found_s <= SYNC_MAX_S:
        raise ValueError(f"{shown(word)} is not within 1s and 24h")
    return found_s


def _snapshot_interval(word: str) -> float:
    found_s = values.duration_s(word)
    if not SNAPSHOT_LEAST_S <= found_s <= SNAPSHOT_MAX_S:
        raise ValueError(f"{shown(word)} is not within 1s and 1h")
    return found_s


def _service(word: str) -> str:
    if not word or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in word):
        raise ValueError(f"{shown(word)} is not the name of a Service")
    return word


def _interface(word: str) -> str:
    if not 0 < len(word) <= _INTERFACE_NAME_MAX or "/" in word or not word.isprintable() or " " in word:
        raise ValueError(f"{shown(word)} is not a name of an interface, 1 to {_INTERFACE_NAME_MAX} characters")
    return word


def _size(word: str) -> int:
    found = values.size_bytes(word)
    if found < LEAST_BYTES:
        raise ValueError(f"{shown(word)} is too little for a cache, at least {values.size_text(LEAST_BYTES)}")
    return found


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(word: str) -> str:
        if word not in choices:
            raise ValueError(f"{shown(word)} is not one of {', '.join(choices)}")
        return word

    return read


SERVING, TEMPLATE, NODE = "Serving", "Kubernetes template and ConfigMaps", "Node set-up, with -localip"

FLAGS = (
    Flag("conf", "conf", "FILE", _text, "Corefile to serve; stdin reads standard input", SERVING),
    Flag("corefile", "corefile", "FILE", _text, "another name of -conf, which wins over it", SERVING),
    Flag("dns.port", "dns_port", "PORT", values.port, "port of zones that name none (53)", SERVING),
    Flag("p", "dns_port", "PORT", values.port, "same as -dns.port", SERVING),
    Flag("cache-memory", "cache_memory_bytes", "SIZE", _size,
         "of all caches together, like 64MiB (a quarter of the memory limit; 64MiB without one)", SERVING),
    Flag("log-format", "log_format", "text|json", _one_of("text", "json"), "form of log lines (text)", SERVING),
    Flag("lane", "lane", "auto|python|compiled", _one_of("auto", "python", "compiled"),
         "who answers from the packet cache (auto: compiled where it was built)", SERVING),
    Flag("handover-dir", "handover_dir", "DIR", _text,
         "give sockets and cache to the next process, and keep snapshots, in DIR (off)", SERVING),
    Flag("snapshot-interval", "snapshot_interval_s", "TIME", _snapshot_interval,
         "time between two snapshots of the cache (60s)", SERVING),
    Flag("pidfile", "pidfile", "FILE", _text, "write the process id there once we serve", SERVING),
    Flag("probe-socket", "probe_socket", "PATH", _socket_path,
         "Unix socket that answers exec probes: health, ready (none)", SERVING),
    Flag("quiet", "quiet", "", _boolean, "log nothing of the start", SERVING),
    Flag("metrics-listen-address", "metrics_listen_address", "ADDR", _address,
         "second metrics endpoint of node-cache (0.0.0.0:9353)", SERVING),
    Flag("localip", "local_ips", "IP,IP", _local_ips,
         "addresses that pods ask; fills __PILLAR__LOCAL__DNS__", TEMPLATE),
    Flag("basecorefile", "base_corefile", "FILE", _text,
         "template, used when it exists (/etc/coredns/Corefile.base)", TEMPLATE),
    Flag("kubednscm", "kubedns_config_dir", "DIR", _text,
         "mounted kube-dns ConfigMap (/etc/kube-dns if it exists)", TEMPLATE),
    Flag("upstreamsvc", "upstream_service", "NAME", _service,
         "Service of the cluster's DNS; its *_SERVICE_HOST is read (kube-dns)", TEMPLATE),
    Flag("prometheus-listen-address", "prometheus_listen_address", "ADDR", _address,
         "fills __PROMETHEUS__ENDPOINT__ (:9253)", TEMPLATE),
    Flag("reloadwithsignal", "reload_with_signal", "", _boolean,
         "take changed files every 10s, also without the reload directive", TEMPLATE),
    Flag("setupinterface", "setup_interface", "", _boolean, "put -localip on a device (true with -localip)", NODE),
    Flag("setupiptables", "setup_iptables", "", _boolean,
         "bring pods to us while we live (true with -localip)", NODE),
    Flag("interception", "interception", "notrack|tracked", _one_of("notrack", "tracked"),
         "how: past conntrack, or with it where a network policy needs it (notrack)", NODE),
    Flag("standing-nat", "standing_nat", "IP[:PORT],...|upstreams", _endpoints,
         "where pods that ask a link-local -localip get their answers while we are away", NODE),
    Flag("interfacename", "interface_name", "NAME", _interface, "that device (nodelocaldns)", NODE),
    Flag("skipteardown", "skip_teardown", "", _boolean, "leave the device behind at the end (false)", NODE),
    Flag("syncinterval", "sync_interval_s", "TIME", _sync_interval,
         "seconds, or a duration like 60s: how often all of this is checked and mended (60s)", NODE),
    Flag("health-port", "health_port", "PORT", values.port,
         "port in the rules for health; the health directive has its own (8080)", NODE),
    Flag("version", "asked", "", _boolean, "print the version", SERVING),
    Flag("plugins", "asked", "", _boolean, "print the directives that a Corefile may have", SERVING),
    Flag("help", "asked", "", _boolean, "print this", SERVING),
    Flag("h", "asked", "", _boolean, "same as -help", SERVING),
)  # fmt: skip

_BY_NAME = {flag.name: flag for flag in FLAGS}


def parse(argv: Sequence[str]) -> Parsed:
    """Return what a command line (without the program's name) says."""
    fields: dict[str, Any] = {}
    given: set[str] = set()
    words: list[str] = []
    asked = ""
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        flag, text = _split(word)
        if text is None:
            if flag.value_name and not rest:
                raise ConfigError(PLACE, 0, f"-{flag.name} needs a value; accepted: -{flag.name} {flag.value_name}")
            text = rest.pop(0) if flag.value_name else "true"
        try:
            found = flag.read(text)
        except ValueError as error:
            accepted = flag.value_name or f"-{flag.name} or -{flag.name}=false"
            raise ConfigError(PLACE, 0, f"-{flag.name}: {error}; accepted: {accepted}") from None
        if flag.field == "asked":
            asked = (asked or {"h": "help"}.get(flag.name, flag.name)) if found else asked
            continue
        fields[flag.field] = found
        given.add("dns.port" if flag.name == "p" else flag.name)
    process, warnings = _settle(fields, frozenset(given))
    return Parsed(process, tuple(words), asked, warnings)


def _split(word: str) -> tuple[Flag, str | None]:
    name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
    flag = _BY_NAME.get(name)
    if flag is None:
        import difflib  # only on the way out

        close = difflib.get_close_matches(name[:40], _BY_NAME, n=1)
        hint = f", did you mean -{close[0]}?" if close else ""
        raise ConfigError(PLACE, 0, f"unknown flag {shown(word)}{hint}; accepted: see resolver -help")
    return flag, text if equals else None


def _settle(fields: dict[str, Any], given: frozenset[str]) -> tuple[ProcessOptions, tuple[str, ...]]:
    """Flags that depend on each other."""
    warnings: list[str] = []
    alias = fields.pop("corefile", "")
    if alias and "conf" not in given:
        fields["conf"] = alias
        warnings.append(f"-corefile {alias} is taken as -conf (node-cache ignores it)")
    elif alias and alias != fields["conf"]:
        warnings.append(f"-corefile {alias} is ignored, -conf {fields['conf']} wins")
    local_ips = fields.get("local_ips", ())
    for name, field in (("setupinterface", "setup_interface"), ("setupiptables", "setup_iptables")):
        if fields.get(field) and not local_ips:
            raise ConfigError(PLACE, 0, f"-{name} needs the addresses; accepted: with -localip IP,IP")
        fields.setdefault(field, bool(local_ips))
    if fields.get("standing_nat") and not local_ips:
        raise ConfigError(PLACE, 0, "-standing-nat needs the addresses; accepted: with -localip IP,IP")
    return replace(ProcessOptions(), given=given, **fields), tuple(warnings)


def help_text() -> str:
    """Return one screen that is enough to start."""
    lines = [
        "resolver: a caching DNS resolver for Kubernetes nodes, pods and laptops",
        "",
        "  resolver [flags]             serve; without a Corefile: 127.0.0.1, cache, /etc/resolv.conf",
        "  resolver check FILE [flags]  validate a Corefile and print what it means",
        "  resolver demo [flags]        a small DNS server to try it against, without any network",
        "  resolver probe ready PATH    ask a process that runs with -probe-socket PATH; or: health",
        "",
        "  try:  resolver -dns.port 5300      and then:  dig @127.0.0.1 -p 5300 example.org",
    ]
    for group in (SERVING, TEMPLATE, NODE):
        lines += ["", f"{group}:"]
        for flag in FLAGS:
            if flag.group == group and flag.name not in {"p", "h"}:
                form = f"-{flag.name} {flag.value_name}".rstrip()
                lines.append(f"  {form:<32} {flag.help}")
    lines += ["", "All forms of Go work: -flag value, -flag=value, --flag. More: docs/configuration.md"]
    return "\n".join(lines) + "\n"
