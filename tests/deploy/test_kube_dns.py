"""deploy/kube-dns: what the post-mortems ask of the cluster's own DNS (two replicas, apart, told in time to go)."""

import json
import re

import kubernetes_validate  # type: ignore[import-untyped] # it has no types, and we use one function of it
import pytest
import yaml

from resolver.forward import discover
from tests.deploy import kustomize
from tests.deploy.manifests import DEPLOY, of_kind, rendered
from tests.deploy.rules import CLUSTER_DNS, KUBERNETES

PATCH = yaml.safe_load((DEPLOY / "kube-dns" / "deployment-patch.yaml").read_text())
SNIPPET = (DEPLOY / "kube-dns" / "Corefile-snippet").read_text()

COREDNS = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "coredns", "namespace": "kube-system"},
    "spec": {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "selector": {"matchLabels": CLUSTER_DNS},
        "template": {
            "metadata": {"labels": CLUSTER_DNS},
            "spec": {"containers": [{"name": "coredns", "image": "coredns:1.14.7"}]},
        },
    },
}
"""What kubeadm makes, as far as the patch meets it."""


def test_the_autoscaler_never_goes_below_two() -> None:
    (config,) = of_kind(rendered("kube-dns"), "ConfigMap")
    linear = json.loads(config["data"]["linear"])
    assert linear["min"] >= 2
    assert linear["preventSinglePointFailure"] is True
    assert linear["includeUnschedulableNodes"] is True, "cordoned nodes still run pods that ask"


def test_the_autoscaler_may_scale_one_deployment_and_nothing_else() -> None:
    objects = rendered("kube-dns")
    (deployment,) = of_kind(objects, "Deployment")
    command = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    (config,) = of_kind(objects, "ConfigMap")
    assert f"--configmap={config['metadata']['name']}" in command
    assert "--target=deployment/coredns" in command
    (role,) = of_kind(objects, "Role")
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["deployments/scale"], ["coredns"], ["get", "update"]),
        (["configmaps"], [config["metadata"]["name"]], ["get"]),
    ]
    (everywhere,) = of_kind(objects, "ClusterRole")
    assert [(rule["resources"], rule["verbs"]) for rule in everywhere["rules"]] == [(["nodes"], ["list", "watch"])]


def test_one_pod_at_a_time_may_be_evicted() -> None:
    (budget,) = of_kind(rendered("kube-dns"), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == CLUSTER_DNS


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_patch_fits_the_deployment(version: str) -> None:
    kubernetes_validate.validate(kustomize.merge(COREDNS, PATCH), version, strict=True)


def test_the_replicas_are_on_different_nodes() -> None:
    spec = kustomize.merge(COREDNS, PATCH)["spec"]["template"]["spec"]
    by_key = {each["topologyKey"]: each for each in spec["topologySpreadConstraints"]}
    hosts = by_key["kubernetes.io/hostname"]
    assert (hosts["maxSkew"], hosts["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    for each in by_key.values():
        assert each["labelSelector"]["matchLabels"] == CLUSTER_DNS
        assert each["matchLabelKeys"] == ["pod-template-hash"], "else the surge of a roll-out has nowhere to go"


def test_it_answers_for_longer_than_its_address_is_remembered() -> None:
    """We ask the pods that the headless Service names, and look again when the TTL of that answer is over."""
    lame_duck_s, ttl_s = (int(each) for each in re.findall(r"^ +(?:lameduck|ttl) (\d+)s?$", SNIPPET, re.MULTILINE))
    assert lame_duck_s >= min(ttl_s, discover.NAME_TTL_MAX_S) + discover.NAME_TIMEOUT_S
    spec = kustomize.merge(COREDNS, PATCH)["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= lame_duck_s + 5, "CoreDNS gives connections 5 s to end"
