"""Every folder under deploy/ that can be applied holds to every rule, and each rule finds what it is there for."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy import kustomize, rules
from tests.deploy.kustomize import Object
from tests.deploy.manifests import DEPLOY, FOLDERS, INCUMBENT, OVERLAYS, at, combined, rendered
from tests.deploy.rules import RULES, Rule

OTHERS_CHOICE: dict[str, set[Rule]] = {
    # node-local-dns's manifest as it is. What it lacks is why the patch below and the base exist.
    INCUMBENT: {
        rules.is_probed,
        rules.takes_over_from_the_one_before,
        rules.goes_on_while_it_is_replaced,
        rules.has_no_more_rights_than_it_uses,
        rules.keeps_within_its_memory,
    },
    # The patch is for updates; rights are left as the cluster has them.
    "overlays/drop-in-hand-over": {rules.has_no_more_rights_than_it_uses},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_to_the_rule(folder: str, rule: Rule) -> None:
    problems = list(rule(rendered(folder)))
    assert bool(problems) == (rule in OTHERS_CHOICE.get(folder, ())), problems


COMPONENTS = tuple(sorted(path.name for path in (DEPLOY / "components").iterdir()))
MET = [
    (folder, component)
    for folder in ("base", *OVERLAYS)
    for component in COMPONENTS
    # The names that these patch are ours.
    if folder not in OTHERS_CHOICE or component == "selinux"
]


@pytest.mark.parametrize(("folder", "component"), MET)
def test_a_component_breaks_nothing(folder: str, component: str, tmp_path: Path) -> None:
    """Except what asks for the link-local address where there is none: that is said in one line at the start."""
    objects = kustomize.render(combined(tmp_path, folder, component))
    problems = {rule: list(rule(objects)) for rule in RULES if rule not in OTHERS_CHOICE.get(folder, ())}
    if (folder, component) == ("overlays/cilium", "standing-nat"):
        assert "with -localip" in problems.pop(rules.starts_with_its_arguments)[0]
    assert not any(problems.values()), problems


GONE = object()


def broken(folder: str, name: str, path: str, value: Any) -> list[Object]:
    """What `folder` renders to, with `value` at `path` of the object `name`; GONE takes away what stands there."""
    objects = rendered(folder)
    found = [each for each in objects if f"{each['kind']} {each['metadata']['name']}" == name]
    assert len(found) == 1, name
    *parents, last = path.split("/")
    last = last.replace("~1", "/")
    parent = at(found[0], "/".join(parents)) if parents else found[0]
    assert parent is not None, path
    where: Any = int(last) if isinstance(parent, list) else last
    if value is GONE:
        del parent[where]
    elif isinstance(parent, list) and where == len(parent):
        parent.append(value)
    else:
        parent[where] = value
    return objects


COREFILE = (DEPLOY / "base" / "Corefile").read_text()


def corefile(old: str, new: str) -> str:
    """The base's Corefile with a mistake in it."""
    assert old in COREFILE
    return COREFILE.replace(old, new)


CILIUM = "overlays/cilium"
OURS, THEIRS, CONFIG = "DaemonSet node-resolver", "DaemonSet node-local-dns", "ConfigMap node-resolver"
UPSTREAM, DIRECT, METRICS = "Service kube-dns-upstream", "Service kube-dns-direct", "Service node-resolver"
BUDGET, REDIRECT = "PodDisruptionBudget kube-dns", "CiliumLocalRedirectPolicy node-resolver"
POD = "spec/template/spec"
US, RIGHTS = f"{POD}/containers/0", f"{POD}/containers/0/securityContext"

MISTAKES: dict[Rule, list[tuple[str, str, str, Any, str]]] = {
    # folder, object, where, what stands there, a word of the complaint
    rules.follows_the_schema: [
        ("base", OURS, f"{POD}/hostNetwork", "yes", "hostNetwork"),
        ("base", OURS, f"{POD}/tolerationz", [], "tolerationz"),
        ("base", OURS, f"{US}/livenessProbe/exec/command", "probe", "command"),
        ("kube-dns", BUDGET, "apiVersion", "policy/v1beta1", "schema"),
    ],
    rules.is_named_once: [
        ("base", DIRECT, "metadata/name", "kube-dns-upstream", "twice"),
        ("base", OURS, "metadata/namespace", "default", "namespace"),
    ],
    rules.mounts_what_is_there: [
        ("base", CONFIG, "metadata/name", "corefile", "no ConfigMap"),
        (INCUMBENT, "ConfigMap node-local-dns", "data", {"corefile": ""}, "no key"),
        ("base", OURS, f"{US}/volumeMounts/0/name", "configs", "mounted"),
        ("base", OURS, f"{US}/volumeMounts", [], "declared"),
    ],
    rules.names_accounts_that_are_there: [
        ("base", "ServiceAccount node-resolver", "metadata/name", "resolver", "no ServiceAccount"),
        ("kube-dns", "RoleBinding kube-dns-autoscaler", "roleRef/name", "kube-dns", "no Role"),
    ],
    rules.selects_its_pods: [
        ("base", OURS, "spec/template/metadata/labels/k8s-app", "resolver", "its own pods"),
        ("base", METRICS, "spec/selector/k8s-app", "resolver", "no pod"),
        ("base", DIRECT, "spec/selector", GONE, "no pod"),
        ("kube-dns", BUDGET, "spec/selector/matchLabels/k8s-app", "coredns", "no pod"),
        (CILIUM, REDIRECT, "spec/redirectBackend/localEndpointSelector/matchLabels/k8s-app", "dns", "no pod"),
        (CILIUM, OURS, f"{US}/ports/1/name", "tcp", "no container"),
    ],
    rules.starts_with_its_arguments: [
        ("base", OURS, f"{US}/args/2", "-upstreamservice=kube-dns", "unknown flag"),
        ("base", OURS, f"{US}/args/2", "-upstreamsvc=kube-dns-other", "KUBE_DNS_OTHER_SERVICE_HOST"),
        ("base", OURS, f"{US}/args/0", "-localip=$(DNS_HOST)", "-localip"),
        ("base", OURS, f"{US}/args/1", "-conf=/etc/Corefile", "no such file"),
        ("base", OURS, f"{US}/args/5", "serve", "not for serving"),
        ("base", OURS, f"{POD}/initContainers", GONE, "/run/resolver/resolv.conf"),
        ("base", CONFIG, "data/Corefile", corefile("prefer_udp", "prefer_tcp"), "prefer_tcp"),
        ("base", CONFIG, "data/Corefile", corefile("/run/resolver/resolv.conf", "10.96.0.10"), "10.96.0.10"),
    ],
    rules.asks_services_that_are_there: [
        ("base", UPSTREAM, "spec/clusterIP", "None", "ClusterIP"),
        ("base", DIRECT, "spec/clusterIP", GONE, "headless"),
    ],
    rules.is_scraped_where_it_serves: [
        ("base", METRICS, "spec/ports/0/targetPort", 9153, "9253"),
        ("base", METRICS, "metadata/annotations/prometheus.io~1port", "9353", "9253"),
    ],
    rules.is_probed: [("base", OURS, f"{US}/readinessProbe", GONE, "readinessProbe")],
    rules.is_probed_where_it_answers: [
        ("base", OURS, f"{US}/readinessProbe/exec/command/1", "health", "readinessProbe"),
        ("base", OURS, f"{US}/livenessProbe/exec/command/2", "/run/probe", "livenessProbe"),
        ("base", OURS, f"{US}/livenessProbe/timeoutSeconds", 1, "gives up"),
        ("base", OURS, f"{US}/args/3", "-probe-socket=/run/xtables.lock/probe", "the pod's own"),
        (INCUMBENT, THEIRS, f"{US}/livenessProbe/httpGet/port", 8181, "nobody answers"),
    ],
    rules.writes_where_it_may: [
        ("base", OURS, f"{US}/args/3", "-probe-socket=/tmp/probe", "cannot be written"),
        ("base", OURS, f"{US}/args/3", "-pidfile=/etc/node-resolver/pid", "cannot be written"),
    ],
    rules.takes_over_from_the_one_before: [
        ("base", OURS, f"{US}/args/4", "-cache-memory=10Mi", "not below"),
        ("base", OURS, f"{US}/args/4", "-handover-dir=/run/resolver/handover", "not below"),
        ("base", OURS, f"{US}/args/4", "-handover-dir=/var/lib/node-resolver", "0755"),
        ("base", OURS, f"{US}/volumeMounts/3/readOnly", True, "not below"),
    ],
    rules.has_time_to_end: [
        ("base", OURS, f"{POD}/terminationGracePeriodSeconds", 10, "10 s of grace"),
        ("base", CONFIG, "data/Corefile", corefile("lameduck 5s", "lameduck 30s"), "30 s of grace"),
    ],
    rules.goes_on_while_it_is_replaced: [
        ("base", OURS, "spec/updateStrategy/rollingUpdate", {"maxUnavailable": 1}, "a gap"),
        ("base", OURS, "spec/minReadySeconds", 0, "ready once"),
        ("base", OURS, f"{US}/ports", [{"containerPort": 53}], "host port"),
        (CILIUM, OURS, f"{US}/ports/0/hostPort", 53, "host port"),
        (CILIUM, OURS, f"{POD}/hostNetwork", True, "host port"),
    ],
    rules.is_there_before_others: [
        ("base", OURS, f"{POD}/dnsPolicy", "ClusterFirst", "dnsPolicy"),
        ("base", OURS, f"{POD}/priorityClassName", "system-cluster-critical", "priorityClassName"),
        ("base", OURS, f"{POD}/tolerations/1", GONE, "tolerations"),
        ("base", OURS, f"{POD}/enableServiceLinks", False, "environment"),
    ],
    rules.has_no_more_rights_than_it_uses: [
        ("base", OURS, f"{RIGHTS}/capabilities/add/2", "SYS_ADMIN", "SYS_ADMIN"),
        ("base", OURS, f"{RIGHTS}/capabilities/drop", [], "alone"),
        (CILIUM, OURS, f"{RIGHTS}/capabilities/add/1", "NET_ADMIN", "NET_ADMIN"),
        ("base", OURS, f"{RIGHTS}/privileged", True, "privileged"),
        ("base", OURS, f"{RIGHTS}/readOnlyRootFilesystem", False, "write on its root"),
        ("base", OURS, f"{RIGHTS}/allowPrivilegeEscalation", GONE, "gain rights"),
        ("base", OURS, f"{POD}/initContainers/0/securityContext", GONE, "resolv-conf"),
        ("base", OURS, f"{POD}/securityContext", GONE, "seccomp"),
        ("base", OURS, f"{POD}/automountServiceAccountToken", GONE, "token"),
        ("base", OURS, f"{POD}/hostPID", True, "shares"),
        ("kube-dns", "Deployment kube-dns-autoscaler", f"{RIGHTS}/capabilities/add", ["NET_RAW"], "NET_RAW"),
    ],
    rules.mounts_little_of_the_host: [
        ("base", OURS, f"{POD}/volumes/4/hostPath/path", "/etc", "mounts /etc"),
        ("base", OURS, f"{POD}/volumes/4/hostPath/type", GONE, "anything"),
    ],
    rules.keeps_within_its_memory: [
        ("base", OURS, f"{US}/resources/limits/memory", "48Mi", "more memory"),
        ("base", OURS, f"{US}/resources/limits/memory", "50Mi", "do not fit"),
        ("base", OURS, f"{US}/args/3", "-cache-memory=100Mi", "do not fit"),
        ("base", OURS, f"{US}/resources/limits/cpu", "100m", "throttled"),
        ("base", OURS, f"{US}/resources/requests", GONE, "requests nothing"),
    ],
    rules.runs_this_version: [
        ("base", OURS, f"{US}/image", "node-resolver:latest", "latest"),
        ("kube-dns", "Deployment kube-dns-autoscaler", f"{US}/image", "autoscaler", "autoscaler"),
    ],
    rules.cannot_stop_the_cluster: [("base", OURS, "kind", "ValidatingWebhookConfiguration", "keep others")],
}


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        pytest.param(rule, mistake, id=f"{rule.__name__}-{index}")
        for rule in RULES
        for index, mistake in enumerate(MISTAKES[rule])
    ],
)
def test_a_mistake_is_found(rule: Rule, mistake: tuple[str, str, str, Any, str]) -> None:
    folder, name, path, value, word = mistake
    assert not [problem for problem in rule(rendered(folder)) if word in problem]
    assert [problem for problem in rule(broken(folder, name, path, value)) if word in problem]
