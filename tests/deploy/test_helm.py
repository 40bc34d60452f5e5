"""The Helm chart: with nothing set it is deploy/base, with a preset the overlay of its name; it holds to the rules.

Labels are the chart's own: it adds some, and has all that the base has.
"""

import copy
import re
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy import helm, rules
from tests.deploy.containerfile import PROJECT
from tests.deploy.kustomize import Object
from tests.deploy.manifests import at, rendered
from tests.deploy.rules import RULES, Rule

PRESETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((helm.CHART / "presets").iterdir())}
VALUES: Object = yaml.safe_load((helm.CHART / "values.yaml").read_text())


def labels_of(found: Object, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Every map of labels in an object, with the path of the metadata that it stands in."""
    for key, value in list(found.items()):
        if key == "labels" and path.endswith("metadata"):
            yield path, value
        elif isinstance(value, dict):
            yield from labels_of(value, f"{path}/{key}".lstrip("/"))


def plain(objects: list[Object]) -> dict[str, Object]:
    """The objects by kind and name, without labels, the Corefile without comments and empty lines."""
    found = {}
    for each in copy.deepcopy(objects):
        for path, _ in labels_of(each):
            at(each, path).pop("labels")
        if "Corefile" in each.get("data", {}):
            lines = (line.split("#")[0].rstrip() for line in each["data"]["Corefile"].splitlines())
            each["data"]["Corefile"] = "\n".join(line for line in lines if line)
        found[f"{each['kind']} {each['metadata']['name']}"] = each
    return found


def test_with_nothing_set_it_is_the_base() -> None:
    assert plain(helm.render()) == plain(rendered("base"))


def test_it_has_every_label_of_the_base() -> None:
    ours = {each["kind"] + each["metadata"]["name"]: dict(labels_of(each)) for each in helm.render()}
    for each in rendered("base"):
        for path, labels in labels_of(each):
            assert labels.items() <= ours[each["kind"] + each["metadata"]["name"]][path].items()


@pytest.mark.parametrize("name", ["calico", "cilium", "ipvs", "selinux"])
def test_a_preset_is_the_overlay_of_its_name(name: str) -> None:
    assert plain(helm.render(PRESETS[name])) == plain(rendered(f"overlays/{name}"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_it_holds_to_the_rules_of_the_manifests(preset: str, rule: Rule) -> None:
    assert list(rule(once(preset))) == []


_rendered: dict[str, list[Object]] = {}


def once(preset: str) -> list[Object]:
    """A copy of what a preset renders to; it is rendered once."""
    if preset not in _rendered:
        _rendered[preset] = helm.render(PRESETS.get(preset))
    return copy.deepcopy(_rendered[preset])


def test_helm_has_nothing_to_say() -> None:
    for values in ({}, *PRESETS.values()):
        assert helm.ask(values)["findings"] == []


CUSTOMARY = {
    "another domain": ({"config": {"dnsDomain": "corp.internal"}}, "\ncorp.internal in-addr.arpa ip6.arpa {"),
    "logging": ({"config": {"enableLogging": True}}, "\n    log\n"),
    "TCP": ({"config": {"commProtocol": "force_tcp"}}, "        force_tcp\n"),
    "TTL": ({"config": {"cacheTTL": 7}}, "    cache 7 {\n        success 9984 7\n"),
    "prefetch": ({"config": {"prefetch": {"amount": 9}}}, "        prefetch 9 30s 20%\n"),
    "stale": ({"config": {"serveStale": {"duration": "5m"}}}, "        serve_stale 5m verify 500ms\n"),
    "upstreams": ({"config": {"upstreamServers": "192.0.2.1 192.0.2.2"}}, "    forward . 192.0.2.1 192.0.2.2 {\n"),
    "upstream options": ({"config": {"upstreamForwardConfig": ["max_fails 0"]}}, "        max_fails 0\n"),
    "blocks": ({"config": {"extraServerBlocks": "a.example {\n    forward . 192.0.2.1\n}\n"}}, "\na.example {\n"),
    "a whole Corefile": ({"config": {"customConfig": ". {\n    forward . 192.0.2.1\n}\n"}}, "\n. {\n"),
    "health": ({"config": {"healthPort": 8088}}, "    health __PILLAR__LOCAL__DNS__:8088 {\n"),
    "all addresses": ({"config": {"bindIp": False}}, "ip6.arpa {\n    errors {\n"),
    "by the Service": ({"config": {"directUpstream": False}}, "    forward . __PILLAR__CLUSTER__DNS__ {\n"),
}


@pytest.mark.parametrize(("values", "line"), CUSTOMARY.values(), ids=CUSTOMARY)
def test_a_customary_value_reaches_the_corefile(values: Object, line: str) -> None:
    objects = helm.render(values)
    (config,) = [each for each in objects if each["kind"] == "ConfigMap"]
    assert line in "\n" + config["data"]["Corefile"]
    assert list(rules.starts_with_its_arguments(objects)) == []


ARGUMENTS = {
    "addresses": (
        {"config": {"localDns": "169.254.20.25", "dnsServer": "172.20.0.10"}},
        "-localip=169.254.20.25,172.20.0.10",
    ),
    "a Service": ({"config": {"customUpstreamsvc": "dns-upstream"}}, "-upstreamsvc=dns-upstream"),
    "no device": ({"config": {"setupInterface": False}}, "-setupinterface=false"),
    "no rules": ({"config": {"setupIptables": False}}, "-setupiptables=false"),
    "stay behind": ({"config": {"skipTeardown": True}}, "-skipteardown"),
    "health": ({"config": {"healthPort": 8088}}, "-health-port=8088"),
    "port": ({"config": {"port": {"number": 5353}}}, "-dns.port=5353"),
    "tracked": ({"config": {"interception": "tracked"}}, "-interception=tracked"),
    "standing nat": ({"config": {"standingNat": ["10.1.0.2", "10.1.0.3"]}}, "-standing-nat=10.1.0.2,10.1.0.3"),
    "more": ({"extraArgs": ["-log-format=json"]}, "-log-format=json"),
}


@pytest.mark.parametrize(("values", "argument"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_customary_value_reaches_the_arguments(values: Object, argument: str) -> None:
    (daemon,) = [each for each in helm.render(values) if each["kind"] == "DaemonSet"]
    assert argument in daemon["spec"]["template"]["spec"]["containers"][0]["args"]


def test_a_service_of_yours_is_not_made() -> None:
    made = plain(helm.render({"config": {"customUpstreamsvc": "dns-upstream"}}))
    assert "Service kube-dns-upstream" not in made


def test_what_this_release_cannot_do_is_refused() -> None:
    with pytest.raises(helm.Refused, match="noIPv6Lookups"):
        helm.render({"config": {"noIPv6Lookups": True}})


def test_every_value_is_used_and_every_used_value_is_there() -> None:
    texts = "".join(path.read_text() for path in (helm.CHART / "templates").iterdir())
    for key, value in VALUES.items():
        assert f".Values.{key}" in texts, key
        for inner in value if isinstance(value, dict) and key in {"config", "image", "serviceAccount"} else ():
            assert re.search(rf"\.Values\.{key}\.{inner}\b", texts), f"{key}.{inner}"
    for used in set(re.findall(r"\.Values\.([\w.]+)", texts)) - {"config.noIPv6Lookups"}:
        assert at(VALUES, used.replace(".", "/")) is not None, used


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == PROJECT["version"]
