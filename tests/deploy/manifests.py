"""The folders under deploy/ that can be applied, what they render to, and the small questions that tests ask of it.

`rendered` gives every test its own copy, so that a test may break it.
"""

import copy
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from resolver.settings.model import ProcessOptions
from tests.deploy import kustomize
from tests.deploy.kustomize import Object
from tests.settings.support import FakeMachine

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

OVERLAYS = tuple(sorted(f"overlays/{path.name}" for path in (DEPLOY / "overlays").iterdir()))
FOLDERS = ("base", *OVERLAYS, "kube-dns")
"""What `kubectl apply -k deploy/...` takes."""

INCUMBENT = "overlays/drop-in"
"""node-local-dns's manifest as Kubernetes ships it: held to what works, not to what we think good."""

HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"

CUSTOM = frozenset({"CiliumLocalRedirectPolicy", "CiliumNetworkPolicy", "GlobalNetworkPolicy", "ServiceMonitor"})
"""Kinds that no Kubernetes schema describes: their projects define them."""

ENVIRONMENT = {
    "KUBE_DNS_SERVICE_HOST": "10.96.0.10",
    "KUBE_DNS_UPSTREAM_SERVICE_HOST": "10.96.77.7",
}
"""What the kubelet tells a pod of kube-system, for the Services kube-dns and kube-dns-upstream."""

ASKED_FOR = {"kube-dns-pods": "10.244.0.2,10.244.1.2"}
"""ConfigMaps that a component asks its user to make, and what may be in them."""

RESOLV_CONF = "nameserver 10.0.0.2\n"


class Pod(NamedTuple):
    """A pod template and the object that it belongs to."""

    owner: Object
    spec: Object
    labels: dict[str, str]

    @property
    def container(self) -> Object:
        """The container that is us; every DaemonSet here has one."""
        (found,) = self.spec["containers"]
        assert isinstance(found, dict)
        return found

    def containers(self) -> list[Object]:
        """All of them, init containers first."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@functools.cache
def _rendered(folder: Path) -> list[Object]:
    return kustomize.render(folder)


def rendered(folder: str) -> list[Object]:
    """The objects of one folder under deploy/."""
    return copy.deepcopy(_rendered(DEPLOY / folder))


def combined(tmp_path: Path, overlay: str, *components: str) -> Path:
    """A kustomization as a user writes it: one of our overlays, and components."""
    here = tmp_path / "mine"
    here.mkdir()
    lines = ["resources:", f"  - {os.path.relpath(DEPLOY / overlay, here)}", "components:"]
    lines += [f"  - {os.path.relpath(DEPLOY / 'components' / each, here)}" for each in components]
    (here / "kustomization.yaml").write_text(HEAD + "\n".join(lines) + "\n")
    return here


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [found for found in objects if found["kind"] in kinds]


def pods(objects: list[Object]) -> list[Pod]:
    """Every pod template among the objects."""
    owners = of_kind(objects, "DaemonSet", "Deployment")
    templates = [(owner, owner["spec"]["template"]) for owner in owners]
    return [Pod(owner, template["spec"], template["metadata"]["labels"]) for owner, template in templates]


def resolvers(objects: list[Object]) -> list[Pod]:
    """Those that run our image as a DaemonSet."""
    return [pod for pod in pods(objects) if pod.owner["kind"] == "DaemonSet"]


def arguments(container: Object) -> list[str]:
    """A container's arguments, as the kubelet expands them; what it does not know it leaves as it is."""
    told = {entry["name"]: at(entry, "valueFrom/configMapKeyRef/name") for entry in container.get("env", ())}
    known = {**ENVIRONMENT, **{name: ASKED_FOR[source] for name, source in told.items()}}

    def value(found: re.Match[str]) -> str:
        return known.get(found[1], found[0])

    return [re.sub(r"\$\((\w+)\)", value, word) for word in container.get("args", ())]


def files(pod: Pod, objects: list[Object]) -> dict[str, str]:
    """The files that ConfigMaps put into our container, by path, and the lists of name servers."""
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(objects, "ConfigMap")}
    found = {"/etc/resolv.conf": RESOLV_CONF}
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    if "sh" in [word for each in pod.spec.get("initContainers", ()) for word in each.get("command", ())]:
        found["/run/resolver/resolv.conf"] = RESOLV_CONF  # the link, test_resolv_conf.py
    for mount in pod.container.get("volumeMounts", ()):
        config_map = volumes.get(mount["name"], {}).get("configMap", {})
        data = maps.get(config_map.get("name", ""), {})
        names = {item["key"]: item["path"] for item in config_map.get("items", ())} or {key: key for key in data}
        found |= {f"{mount['mountPath']}/{path}": data[key] for key, path in names.items() if key in data}
    return found


def machine(pod: Pod, objects: list[Object]) -> FakeMachine:
    """What our process sees of files and environment in this pod."""
    return FakeMachine(files(pod, objects), ENVIRONMENT)


def corefiles(process: ProcessOptions, seen: FakeMachine) -> Iterator[tuple[str, str]]:
    """Path and text of the Corefile that these flags take; nothing if it is not there."""
    for path in (process.base_corefile, process.conf):
        if seen.is_file(path):
            yield path, seen.read(path).decode()
            return


def at(value: Any, path: str) -> Any:
    """What stands at `path`, like `spec/template/spec/containers/0`; None if nothing does."""
    for step in path.split("/"):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
