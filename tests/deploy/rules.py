"""What must hold of a set of Kubernetes objects that runs us: pure rules, one function each.

A rule takes the rendered objects and yields one line for each thing that is wrong, or nothing. `test_manifests.py`
holds every folder under deploy/ to them, and shows for each rule a broken manifest that it finds. They know nothing
of kustomize, so they hold for what another tool renders as well.

Longer than 300 lines because the rules are one list that is read from top to bottom, and each is a few lines.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types, and we use one function of it

from resolver import VERSION, daemon
from resolver.errors import ConfigError
from resolver.settings import flags
from resolver.settings.environment.memory import default_cache_bytes
from resolver.settings.loading import load
from resolver.settings.model import Settings
from resolver.settings.values import size_bytes
from tests.deploy.kustomize import Object
from tests.deploy.manifests import CUSTOM, Pod, arguments, at, corefiles, machine, of_kind, pods, resolvers

Problems = Iterator[str]
Rule = Callable[[list[Object]], Problems]

KUBERNETES = ("1.27", "1.37")
"""The oldest that has all we use (unhealthyPodEvictionPolicy), and the newest known to kubernetes-validate."""

CLUSTER_DNS = {"k8s-app": "kube-dns"}
"""The pods of the cluster's DNS are not ours, but ours select them."""

SPARE_S = 5
"""The kernel, the kubelet and the snapshot want some of the grace period as well."""

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

PROCESS_BYTES = 40 * 1024 * 1024
"""design.md section 3: RSS stays under budget x 1.15 + 40 MiB."""


def _name(found: Object) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def follows_the_schema(objects: list[Object]) -> Problems:
    """Each object is one that the API server takes, without unknown fields."""
    for found in objects:
        for version in KUBERNETES:
            if found["kind"] in CUSTOM:
                continue
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(step) for step in error.path)
                yield f"{_name(found)}, Kubernetes {version}: {where}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{_name(found)}, Kubernetes {version}: {error.message}"


def is_named_once(objects: list[Object]) -> Problems:
    """No two objects are the same, and all lie in one namespace."""
    names = [_name(found) for found in objects]
    yield from {f"{name} twice" for name in names if names.count(name) > 1}
    for found in objects:
        clusterwide = found["kind"] in {"ClusterRole", "ClusterRoleBinding"}
        if found["metadata"].get("namespace") != (None if clusterwide else "kube-system"):
            yield f"{_name(found)}: namespace {found['metadata'].get('namespace')}"


def mounts_what_is_there(objects: list[Object]) -> Problems:
    """Volumes come from ConfigMaps that are there, mounts from volumes, and no volume is left over."""
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        volumes = pod.spec.get("volumes", [])
        for config in (volume["configMap"] for volume in volumes if "configMap" in volume):
            if config["name"] not in maps and not config.get("optional"):
                yield f"{_name(pod.owner)}: no ConfigMap {config['name']}"
            for item in config.get("items", ()):
                if item["key"] not in maps.get(config["name"], {item["key"]: ""}):
                    yield f"{_name(pod.owner)}: no key {item['key']} in ConfigMap {config['name']}"
        mounted = {mount["name"] for each in pod.containers() for mount in each.get("volumeMounts", ())}
        declared = {volume["name"] for volume in volumes}
        for name in mounted ^ declared:
            yield f"{_name(pod.owner)}: volume {name} is only {'mounted' if name in mounted else 'declared'}"


def names_accounts_that_are_there(objects: list[Object]) -> Problems:
    """Pods and bindings name ServiceAccounts and roles among the objects."""
    there = {(found["kind"], found["metadata"]["name"]) for found in objects}
    for pod in pods(objects):
        if ("ServiceAccount", pod.spec.get("serviceAccountName")) not in there:
            yield f"{_name(pod.owner)}: no ServiceAccount {pod.spec.get('serviceAccountName')}"
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        for wanted in (binding["roleRef"], *binding["subjects"]):
            if (wanted["kind"], wanted["name"]) not in there:
                yield f"{_name(binding)}: no {wanted['kind']} {wanted['name']}"


def selects_its_pods(objects: list[Object]) -> Problems:
    """Every selector finds pods: its own, ours, or those of the cluster's DNS."""
    templates = [pod.labels for pod in pods(objects)] + [CLUSTER_DNS]
    for pod in pods(objects):
        if not pod.owner["spec"]["selector"]["matchLabels"].items() <= pod.labels.items():
            yield f"{_name(pod.owner)}: its selector does not find its own pods"
    selectors = [(found, at(found, "spec/selector")) for found in of_kind(objects, "Service")]
    budgets = of_kind(objects, "PodDisruptionBudget")
    selectors += [(found, at(found, "spec/selector/matchLabels")) for found in budgets]
    redirects = of_kind(objects, "CiliumLocalRedirectPolicy")
    selectors += [
        (found, at(found, "spec/redirectBackend/localEndpointSelector/matchLabels")) for found in redirects
    ]
    for found, labels in selectors:
        if not labels or not any(labels.items() <= template.items() for template in templates):
            yield f"{_name(found)}: no pod has the labels {labels}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        yield from _scrapes(monitor, of_kind(objects, "Service"))
    for redirect in redirects:
        for port in at(redirect, "spec/redirectBackend/toPorts"):
            if not any(_has_port(pod, port) for pod in pods(objects)):
                yield f"{_name(redirect)}: no container has the port {port['name']}"


def _has_port(pod: Pod, wanted: Object) -> bool:
    asked = {"name": wanted["name"], "containerPort": int(wanted["port"]), "protocol": wanted["protocol"]}
    return asked in [port for each in pod.containers() for port in each.get("ports", ())]


def _scrapes(monitor: Object, services: list[Object]) -> Problems:
    labels = at(monitor, "spec/selector/matchLabels").items()
    found = [service for service in services if labels <= service["metadata"].get("labels", {}).items()]
    if len(found) != 1:
        yield f"{_name(monitor)}: {len(found)} Services have its labels"
    for service in found:
        ports = {port["name"] for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                yield f"{_name(monitor)}: Service {service['metadata']['name']} has no port {endpoint['port']}"
        if service["metadata"].get("annotations"):
            yield f"{_name(monitor)}: Service {service['metadata']['name']} is annotated too, and scraped twice"


def _settings(pod: Pod, objects: list[Object]) -> Settings:
    """What our process makes of the pod's arguments and files. Raises ConfigError."""
    parsed = flags.parse(arguments(pod.container))
    if parsed.words or parsed.asked:
        raise ConfigError(flags.PLACE, 0, f"{parsed.words or parsed.asked} is not for serving")
    return load(parsed.process, machine(pod, objects))


def _loaded(objects: list[Object]) -> Iterator[tuple[Pod, Settings]]:
    for pod in resolvers(objects):
        try:
            yield pod, _settings(pod, objects)
        except ConfigError:
            continue  # starts_with_its_arguments says so


def starts_with_its_arguments(objects: list[Object]) -> Problems:
    """Our parser takes the arguments, and the Corefile that they name loads without a warning."""
    for pod in resolvers(objects):
        try:
            settings = _settings(pod, objects)
        except ConfigError as error:
            yield f"{_name(pod.owner)}: {error}"
            continue
        yield from (f"{_name(pod.owner)}: {warning}" for warning in settings.warnings)
        if not list(corefiles(settings.process, machine(pod, objects))):
            yield f"{_name(pod.owner)}: no Corefile"


def asks_services_that_are_there(objects: list[Object]) -> Problems:
    """The Service of -upstreamsvc has an address, the one whose pods are asked directly is headless."""
    services = {found["metadata"]["name"]: at(found, "spec/clusterIP") for found in of_kind(objects, "Service")}
    for pod, settings in _loaded(objects):
        upstream = settings.process.upstream_service
        if services.get(upstream, "None") == "None":
            yield f"{_name(pod.owner)}: Service {upstream} has no ClusterIP"
        for target in (target for block in settings.blocks for each in block.forwards for target in each.targets):
            if target.kind == "name":
                service, namespace = target.host.split(".")[:2]
                if services.get(service) != "None" or namespace != pod.owner["metadata"]["namespace"]:
                    yield f"{_name(pod.owner)}: forward to {target.host}, and no such headless Service"


def is_scraped_where_it_serves(objects: list[Object]) -> Problems:
    """The Service for Prometheus leads to the port of the Corefile, in number and in annotation."""
    for pod, settings in _loaded(objects):
        ports = {
            int(options.address.rpartition(":")[2]) for block in settings.blocks if (options := block.prometheus)
        }
        for service in of_kind(objects, "Service"):
            if not service["spec"]["selector"].items() <= pod.labels.items():
                continue
            annotation = service["metadata"].get("annotations", {}).get("prometheus.io/port")
            told = {each.get("targetPort") for each in service["spec"]["ports"]}
            told |= {int(annotation)} if annotation else set()
            if told != ports:
                yield f"{_name(service)}: leads to {sorted(told)}, metrics are at {sorted(ports)}"


def is_probed(objects: list[Object]) -> Problems:
    """Somebody asks whether it has started, lives and is ready."""
    for pod in resolvers(objects):
        for kind in PROBES:
            if kind not in pod.container:
                yield f"{_name(pod.owner)}: no {kind}"


def is_probed_where_it_answers(objects: list[Object]) -> Problems:
    """Exec probes ask the socket of -probe-socket, which is the pod's own; HTTP probes ask the health directive."""
    for pod, settings in _loaded(objects):
        private = {volume["name"] for volume in pod.spec["volumes"] if "emptyDir" in volume}
        own = [mount["mountPath"] for mount in pod.container["volumeMounts"] if mount["name"] in private]
        for kind, probe in ((kind, pod.container[kind]) for kind in PROBES if kind in pod.container):
            if "exec" in probe:
                path = settings.process.probe_socket
                question = "ready" if kind == "readinessProbe" else "health"
                if probe["exec"]["command"] != ["probe", question, path]:
                    yield f"{_name(pod.owner)}: {kind} runs {probe['exec']['command']}, -probe-socket is {path}"
                if posixpath.dirname(path) not in own:
                    yield f"{_name(pod.owner)}: {path} is not in a directory of the pod's own"
                if probe.get("timeoutSeconds", 1) < 2:
                    yield f"{_name(pod.owner)}: {kind} gives up before the probe does, after 1 s"
            else:
                where = f"{probe['httpGet'].get('host', '')}:{probe['httpGet']['port']}"
                if where not in [block.health.address for block in settings.blocks if block.health]:
                    yield f"{_name(pod.owner)}: {kind} asks {where}, where nobody answers"


def writes_where_it_may(objects: list[Object]) -> Problems:
    """With a read-only root, every file that a flag names lies in a volume that can be written."""
    for pod, settings in _loaded(objects):
        if not at(pod.container, "securityContext/readOnlyRootFilesystem"):
            continue
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        open_to_us = [
            mount["mountPath"]
            for mount in pod.container["volumeMounts"]
            if not mount.get("readOnly") and not volumes.get(mount["name"], {}).get("configMap")
        ]
        process = settings.process
        for path in (process.pidfile, process.probe_socket):
            if path and posixpath.dirname(path) not in open_to_us:
                yield f"{_name(pod.owner)}: {path} cannot be written"


def takes_over_from_the_one_before(objects: list[Object]) -> Problems:
    """The hand-over directory is made by us, below one of the host's that the next pod sees as well."""
    for pod, settings in _loaded(objects):
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in pod.container["volumeMounts"]}
        path = settings.process.handover_dir
        mount = mounts.get(posixpath.dirname(path), {})
        if path in mounts:
            yield f"{_name(pod.owner)}: {path} is the kubelet's with mode 0755, name a directory below it"
        elif mount.get("readOnly") or not at(volumes, f"{mount.get('name')}/hostPath"):
            yield f"{_name(pod.owner)}: -handover-dir {path!r} is not below a directory of the host's"


def has_time_to_end(objects: list[Object]) -> Problems:
    """The grace period covers the lame duck of the Corefile and the drain of the code."""
    for pod, settings in _loaded(objects):
        lame_duck_s = max((block.health.lameduck_s for block in settings.blocks if block.health), default=0.0)
        grace_s = pod.spec.get("terminationGracePeriodSeconds", 30)
        if grace_s < lame_duck_s + daemon.DRAIN_S + SPARE_S:
            yield f"{_name(pod.owner)}: {grace_s} s of grace for {lame_duck_s:g} + {daemon.DRAIN_S:g} + {SPARE_S} s"


def goes_on_while_it_is_replaced(objects: list[Object]) -> Problems:
    """The new pod starts beside the old one: surge, no host ports, and time enough to see that it stays ready."""
    for pod in resolvers(objects):
        if at(pod.owner, "spec/updateStrategy/rollingUpdate") != {"maxSurge": 1, "maxUnavailable": 0}:
            yield f"{_name(pod.owner)}: updates are a gap, {at(pod.owner, 'spec/updateStrategy')}"
        if pod.owner["spec"].get("minReadySeconds", 0) < 5:
            yield f"{_name(pod.owner)}: the old pod goes as soon as the new one was ready once"
        for each in pod.containers():
            for port in each.get("ports", ()):
                if pod.spec.get("hostNetwork") or "hostPort" in port:
                    yield f"{_name(pod.owner)}: port {port['containerPort']} is a host port"


def is_there_before_others(objects: list[Object]) -> Problems:
    """On every node, kept when the node is full, never asking the cluster's DNS (which it is) for anything."""
    tolerated = [
        {"key": "CriticalAddonsOnly", "operator": "Exists"},
        {"effect": "NoExecute", "operator": "Exists"},
        {"effect": "NoSchedule", "operator": "Exists"},
    ]
    for pod in resolvers(objects):
        wanted = {"priorityClassName": "system-node-critical", "dnsPolicy": "Default", "tolerations": tolerated}
        for key, value in wanted.items():
            if pod.spec.get(key) != value:
                yield f"{_name(pod.owner)}: {key} is {pod.spec.get(key)}"
        needs_links = any("$(KUBE_DNS" in word for word in pod.container.get("args", ()))
        if pod.spec.get("enableServiceLinks", True) is False and needs_links:
            yield f"{_name(pod.owner)}: the addresses of Services are not in its environment"


def has_no_more_rights_than_it_uses(objects: list[Object]) -> Problems:
    """Two capabilities on the node, one in a pod, else none; nothing to write on, no token, the usual seccomp."""
    for pod in pods(objects):
        ours = pod.owner["kind"] == "DaemonSet"
        on_the_node = ours and pod.spec.get("hostNetwork", False)
        if ours and pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{_name(pod.owner)}: a token for nothing"
        if at(pod.spec, "securityContext/seccompProfile/type") != "RuntimeDefault":
            yield f"{_name(pod.owner)}: seccomp is not RuntimeDefault"
        if any(pod.spec.get(key) for key in ("hostPID", "hostIPC", "shareProcessNamespace")):
            yield f"{_name(pod.owner)}: shares more with the host than its network"
        for each in pod.containers():
            context = each.get("securityContext", {})
            allowed = {"NET_ADMIN", "NET_BIND_SERVICE"} if on_the_node else {"NET_BIND_SERVICE"}
            capabilities = context.get("capabilities", {})
            expected = allowed if ours and each in pod.spec["containers"] else set()
            if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) != expected:
                yield f"{_name(pod.owner)}: {each['name']} has {capabilities}, not {sorted(expected)} alone"
            if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
                yield f"{_name(pod.owner)}: {each['name']} may write on its root or gain rights"
            if context.get("privileged"):
                yield f"{_name(pod.owner)}: {each['name']} is privileged"


def mounts_little_of_the_host(objects: list[Object]) -> Problems:
    """Of the host's files only those that are needed, and none that holds secrets or the runtime's socket."""
    allowed = {"/run/xtables.lock", "/run/systemd/resolve", "/var/lib/node-resolver"}
    for pod in pods(objects):
        for volume in pod.spec.get("volumes", ()):
            path = at(volume, "hostPath/path")
            if path and path not in allowed:
                yield f"{_name(pod.owner)}: mounts {path} of the host"
            if path and not at(volume, "hostPath/type"):
                yield f"{_name(pod.owner)}: {path} may be anything on the host, or not there"


def keeps_within_its_memory(objects: list[Object]) -> Problems:
    """A limit that the caches' budget and the process fit into, requests to be scheduled by, no limit of CPU."""
    for pod in pods(objects):
        for each in pod.containers():
            resources = each.get("resources", {})
            limit = size_bytes(at(resources, "limits/memory") or "1")
            if not at(resources, "requests/cpu") or not at(resources, "requests/memory"):
                yield f"{_name(pod.owner)}: {each['name']} requests nothing"
            elif size_bytes(resources["requests"]["memory"]) > limit:
                yield f"{_name(pod.owner)}: {each['name']} requests more memory than its limit, {limit} bytes"
            if at(resources, "limits/cpu"):
                yield f"{_name(pod.owner)}: {each['name']} is throttled"
    for pod, settings in _loaded(objects):
        limit = size_bytes(at(pod.container, "resources/limits/memory") or "1")
        given = "cache-memory" in settings.process.given
        budget = settings.process.cache_memory_bytes if given else default_cache_bytes(limit)
        if budget * 1.15 + PROCESS_BYTES > limit:
            yield f"{_name(pod.owner)}: caches of {budget} bytes do not fit into {limit}"


def runs_this_version(objects: list[Object]) -> Problems:
    """Our image has the tag of this version, every other one a tag that says which."""
    for pod in pods(objects):
        for each in pod.containers():
            ours = pod.owner["kind"] == "DaemonSet"
            if not re.fullmatch(
                rf"node-resolver:{re.escape(VERSION)}" if ours else r".+:v?\d[\w.]+", each["image"]
            ):
                yield f"{_name(pod.owner)}: {each['name']} runs {each['image']}"


def _dicts(value: Any) -> Iterator[Object]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(item)


def cannot_stop_the_cluster(objects: list[Object]) -> Problems:
    """Nothing stands in the way of the API server (design.md section 9, Jetstack): no webhook, no API service."""
    for found in objects:
        if re.search("Webhook|APIService|Policy$", found["kind"]) and found["kind"] not in CUSTOM:
            yield f"{_name(found)}: can keep others from working"


RULES: tuple[Rule, ...] = (
    follows_the_schema,
    is_named_once,
    mounts_what_is_there,
    names_accounts_that_are_there,
    selects_its_pods,
    starts_with_its_arguments,
    asks_services_that_are_there,
    is_scraped_where_it_serves,
    is_probed,
    is_probed_where_it_answers,
    writes_where_it_may,
    takes_over_from_the_one_before,
    has_time_to_end,
    goes_on_while_it_is_replaced,
    is_there_before_others,
    has_no_more_rights_than_it_uses,
    mounts_little_of_the_host,
    keeps_within_its_memory,
    runs_this_version,
    cannot_stop_the_cluster,
)
