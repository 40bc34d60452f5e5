"""From flags to `Settings`: find the Corefile, fill it, parse it, check it.

Where the Corefile comes from, first that applies:

1. `-conf stdin`: standard input.
2. `-basecorefile`, when it exists: the template of node-local-dns. Nothing is written, so `-conf` may lie on a
   read-only root; node-cache wrote the filled template there.
3. `-conf`.
4. Neither: `BUILT_IN`, all names on 127.0.0.1.

`load` reads files and the environment through a `Machine` and has no other effect. It raises ConfigError whose
text is one line, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import replace

from resolver.errors import ConfigError, ConfigMapError
from resolver.settings import blocks, configmap, corefile, placeholders
from resolver.settings.environment import memory
from resolver.settings.environment.machine import LocalMachine, Machine, why
from resolver.settings.model import ProcessOptions, Settings

BUILT_IN_NAME = "built-in Corefile"
BUILT_IN = b"""\
. {
    bind 127.0.0.1
    errors
    cache
    forward . /etc/resolv.conf
}
"""

WITHOUT_CONFIGMAP = "the kube-dns ConfigMap is left out"

EXAMPLE_LOCAL_IP = "169.254.20.10"
EXAMPLE_CLUSTER_DNS = "192.0.2.53"
"""What `resolver check` puts for addresses that only the node knows (RFC 5737)."""


def load(
    process: ProcessOptions,
    machine: Machine | None = None,
    *,
    starting: bool = True,
    examples: bool = False,
) -> Settings:
    """Return the settings that the flags and the files say now; raises ConfigError.

    starting  A broken kube-dns ConfigMap is a warning at start, when the alternative is no DNS at all, and an
              error at a reload, when the alternative is the settings that serve.
    examples  `resolver check`: a placeholder whose value only the node knows is filled with an example.
    """
    machine = machine or LocalMachine()
    warnings: list[str] = []
    path, text = _source(process, machine)
    watched = [] if path in {BUILT_IN_NAME, "stdin"} else [path]
    kube_dns = _kube_dns(process, machine, watched, warnings, starting)
    fillings = _fillings(process, machine.environ, kube_dns)
    if examples:
        fillings = _with_examples(text, fillings, warnings)
    filled = placeholders.fill(text, path, fillings)
    sources = [(path, filled)]
    if kube_dns.stub_domains:
        stubs = configmap.stub_blocks(kube_dns, process.local_ips, process.dns_port)
        sources.append((f"{watched[-1]}/stubDomains", stubs))
    parsed = corefile.parse(sources, machine)
    if not parsed.blocks:
        raise ConfigError(path, 0, "no server block; accepted: zones and a block, as in: . {")
    try:
        found = blocks.build(parsed.blocks, process, machine, warnings)
    except ConfigError as error:
        raise _with_cause(error, parsed.warnings) from None
    if "cache-memory" not in process.given:
        budget = memory.default_cache_bytes(memory.read_limit_bytes(machine))
        process = replace(process, cache_memory_bytes=budget)
    return Settings(
        blocks=found,
        process=process,
        corefile_path=path,
        digest=parsed.digest,
        watched_paths=tuple(dict.fromkeys([*watched, *parsed.watched])),
        warnings=tuple(dict.fromkeys([*parsed.warnings, *warnings])),
        without_configmap=any(warning.endswith(WITHOUT_CONFIGMAP) for warning in warnings),
    )


def _with_cause(error: ConfigError, warnings: tuple[str, ...]) -> ConfigError:
    """A word that is wrong because a variable on its line is not set: say that, too."""
    place = f"{error.file}:{error.line}: environment variable "
    causes = [warning.removeprefix(place).split()[0] for warning in warnings if warning.startswith(place)]
    if not causes:
        return error
    return ConfigError(
        error.file, error.line, f"{error.problem} (not set: environment variable {', '.join(causes)})"
    )


def _source(process: ProcessOptions, machine: Machine) -> tuple[str, bytes]:
    if process.conf == "stdin":
        if process.stdin_text is None:
            raise ConfigError("stdin", 0, "standard input was not read")
        return "stdin", process.stdin_text
    for path in (process.base_corefile, process.conf):
        if path and machine.is_file(path):
            try:
                return path, machine.read(path)
            except OSError as error:
                raise ConfigError(path, 0, f"cannot be read: {why(error)}") from None
    if process.conf:
        raise ConfigError(process.conf, 0, "no such file; -conf names the Corefile")
    if "basecorefile" in process.given:
        raise ConfigError(process.base_corefile, 0, "no such file; -basecorefile names the template")
    return BUILT_IN_NAME, BUILT_IN


def _kube_dns(
    process: ProcessOptions, machine: Machine, watched: list[str], warnings: list[str], starting: bool
) -> configmap.KubeDns:
    directory = process.kubedns_config_dir
    if not directory and machine.is_directory(configmap.DEFAULT_DIRECTORY):
        directory = configmap.DEFAULT_DIRECTORY
    if not directory:
        return configmap.KubeDns()
    watched.append(directory.rstrip("/"))
    try:
        return configmap.read(directory, machine)
    except ConfigError as error:
        if not starting:
            raise ConfigMapError(error.file, error.line, error.problem) from None
        warnings.append(f"{error}; {WITHOUT_CONFIGMAP}")
        return configmap.KubeDns()


def _fillings(
    process: ProcessOptions, environ: Mapping[str, str], kube_dns: configmap.KubeDns
) -> placeholders.Fillings:
    variable = blocks.service_variable(process.upstream_service)
    state = f"holds {environ[variable]!r}, no IP address" if variable in environ else "is not set"
    return placeholders.Fillings(
        local_ips=process.local_ips,
        cluster_dns=blocks.cluster_dns(process, environ),
        upstream_servers=kube_dns.upstream_nameservers,
        prometheus_address=process.prometheus_listen_address,
        cluster_remedy=(
            f"the environment variable {variable} {state}: create the Service {process.upstream_service}"
            " before this pod starts, or name another one with -upstreamsvc"
        ),
    )


def _with_examples(text: bytes, fillings: placeholders.Fillings, warnings: list[str]) -> placeholders.Fillings:
    if not fillings.local_ips and placeholders.LOCAL_DNS in text:
        warnings.append(f"without -localip, __PILLAR__LOCAL__DNS__ is checked as {EXAMPLE_LOCAL_IP}")
        fillings = fillings._replace(local_ips=(EXAMPLE_LOCAL_IP,))
    if not fillings.cluster_dns and placeholders.CLUSTER_DNS in text:
        warnings.append(f"outside a cluster, __PILLAR__CLUSTER__DNS__ is checked as {EXAMPLE_CLUSTER_DNS}")
        fillings = fillings._replace(cluster_dns=EXAMPLE_CLUSTER_DNS)
    return fillings
