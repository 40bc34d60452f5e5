"""deploy/network-policies: pods reach the three places that answer DNS, over UDP and TCP, and nothing else."""

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types, and we use one function of it
import pytest

from resolver.settings import flags
from tests.deploy.kustomize import Object, documents
from tests.deploy.manifests import CUSTOM, DEPLOY, arguments, rendered, resolvers
from tests.deploy.rules import CLUSTER_DNS, KUBERNETES

FILES = sorted((DEPLOY / "network-policies").glob("*.yaml"))


def policy(name: str) -> Object:
    (found,) = documents(DEPLOY / "network-policies" / f"{name}.yaml")
    return found


def local_ips() -> list[str]:
    (pod,) = resolvers(rendered("base"))
    return [f"{ip}/32" for ip in flags.parse(arguments(pod.container)).process.local_ips]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", KUBERNETES)
def test_it_follows_the_schema(path: Any, version: str) -> None:
    (found,) = documents(path)
    if found["kind"] in CUSTOM:
        with pytest.raises(kubernetes_validate.SchemaNotFoundError):
            kubernetes_validate.validate(found, version, strict=True)
    else:
        kubernetes_validate.validate(found, version, strict=True)


def test_pods_may_ask_us_and_the_clusters_dns() -> None:
    (rule,) = policy("pods")["spec"]["egress"]
    assert [to["ipBlock"]["cidr"] for to in rule["to"] if "ipBlock" in to] == local_ips()
    (selected,) = [to for to in rule["to"] if "podSelector" in to]
    (expression,) = selected["podSelector"]["matchExpressions"]
    (redirected,) = resolvers(rendered("overlays/cilium"))
    assert expression["values"] == [CLUSTER_DNS["k8s-app"], redirected.labels["k8s-app"]]
    assert rule["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def test_calicos_says_the_same() -> None:
    rules = policy("calico")["spec"]["egress"]
    assert {(rule["protocol"], *rule["destination"].get("nets", ())) for rule in rules} == {
        *[(protocol, *local_ips()) for protocol in ("UDP", "TCP")],
        *[(protocol,) for protocol in ("UDP", "TCP")],
    }
    selectors = [rule["destination"]["selector"] for rule in rules if "selector" in rule["destination"]]
    assert selectors == ['k8s-app == "kube-dns"'] * 2
    assert all(rule["destination"]["ports"] == [53] and rule["action"] == "Allow" for rule in rules)


def test_ciliums_says_the_same() -> None:
    host, kube_dns = policy("cilium")["spec"]["egress"]
    assert host["toEntities"] == ["host"]
    (labels,) = [each["matchLabels"] for each in kube_dns["toEndpoints"]]
    assert labels == {"k8s:io.kubernetes.pod.namespace": "kube-system", **CLUSTER_DNS}
    assert host["toPorts"] == kube_dns["toPorts"] == [{"ports": [{"port": "53", "protocol": "ANY"}]}]


def test_kube_dns_is_asked_by_nodes_and_by_pods() -> None:
    found = policy("kube-dns")["spec"]
    assert found["podSelector"]["matchLabels"] == CLUSTER_DNS
    (rule,) = found["ingress"]
    assert {"namespaceSelector": {}} in rule["from"], "while we are away every pod asks it"
    assert any("ipBlock" in each for each in rule["from"]), "we ask from the host's network"


def test_ours_covers_the_ports_that_we_have() -> None:
    found = policy("node-resolver")["spec"]
    (pod,) = resolvers(rendered("overlays/cilium"))
    assert found["podSelector"]["matchLabels"].items() <= pod.labels.items()
    declared = [{"port": port["containerPort"], "protocol": port["protocol"]} for port in pod.container["ports"]]
    assert found["ingress"][0]["ports"] == declared
    assert {"podSelector": {"matchLabels": CLUSTER_DNS}} in found["egress"][0]["to"]
