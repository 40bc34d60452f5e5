"""docs/install.md: what it names is there: flags, files, overlays, values, metrics, objects, words of the log."""

import re
from typing import Any

import pytest
import yaml

from resolver.settings import flags
from tests.deploy.containerfile import ROOT
from tests.deploy.helm import CHART
from tests.deploy.kustomize import Object
from tests.deploy.manifests import OVERLAYS, at, rendered

PAGE = (ROOT / "docs/install.md").read_text()
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
"""What stands in back-ticks, outside blocks."""

BLOCKS = "\n".join(re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL))
SOURCES = "\n".join(path.read_text() for path in (ROOT / "resolver").rglob("*.py"))
OBJECTS: list[Object] = [found for folder in ("base", "overlays/drop-in") for found in rendered(folder)]
FLAGS = {flag.name for flag in flags.FLAGS}
OF_HELM = {"f"}


@pytest.mark.parametrize("words", [words for words in CODE if words.startswith("-")])
def test_a_flag_is_one_of_ours(words: str) -> None:
    name, equals, _ = words.removeprefix("-").partition("=")
    assert name in FLAGS | OF_HELM
    if equals:
        flags.parse([words, "-localip=192.0.2.1"])


def named_files() -> list[str]:
    found = set(re.findall(r"(?<![\w/.])((?:deploy|docs|tests)/[\w./-]+)", PAGE))
    return sorted(name.rstrip(".") for name in found)


@pytest.mark.parametrize("name", named_files())
def test_a_file_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_overlay_and_preset_is_on_it() -> None:
    for overlay in OVERLAYS:
        assert overlay == "overlays/drop-in" or f"deploy/{overlay}" in PAGE, overlay
    table = PAGE.partition("## Which network")[2].partition("\n## ")[0]
    for preset in (CHART / "presets").iterdir():
        assert f"`{preset.name}`" in table or preset.stem == "service-monitor"
    for name in re.findall(r"`([\w-]+\.yaml)`", table):
        assert (CHART / "presets" / name).exists(), name


def test_every_metric_is_documented() -> None:
    known = (ROOT / "docs/metrics.md").read_text()
    named = set(re.findall(r"\b((?:resolver|coredns)_[a-z_]+[a-z])\b", PAGE)) - {"resolver_"}
    assert len(named) > 10
    for name in named:
        base = re.sub(r"_(sum|count|bucket)$", "", name)
        assert f"`{base}`" in known or f"`{name}`" in known, name


def test_the_chart_has_the_values_that_are_set() -> None:
    values: Any = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(r"--set ([\w.]+)=", PAGE)
    assert named
    for name in named:
        assert at(values, name.replace(".", "/")) is not None, name


def test_objects_and_containers_have_the_names_that_commands_use() -> None:
    names = {found["metadata"]["name"] for found in OBJECTS}
    pods = [found["spec"]["template"]["spec"] for found in OBJECTS if found["kind"] == "DaemonSet"]
    containers = {each["name"] for pod in pods for each in (*pod["containers"], *pod.get("initContainers", ()))}
    commands = BLOCKS + "\n".join(CODE)
    for name in re.findall(r"\bdaemonset[ /]([\w-]+)", commands):
        assert name in names, name
    for container in [
        *re.findall(r" -c ([\w-]+)", commands),
        *re.findall(r" ([\w-]+)=registry\.example", commands),
    ]:
        assert container in containers, container
    labels = [found["metadata"].get("labels", {}) for found in OBJECTS]
    for key, value in re.findall(r"-l ([\w./-]+)=([\w-]+)", commands):
        assert {key: value}.items() <= {"kubernetes.io/service-name": "kube-dns"}.items() or any(
            each.get(key) == value for each in labels
        ), (key, value)


SAID = (
    "is in use",
    "no block answers on",
    "interception on for ",
    "rules that node-local-dns left behind",
    "pods stay at the cluster's DNS",
)


@pytest.mark.parametrize("words", SAID)
def test_the_log_says_what_the_page_quotes(words: str) -> None:
    assert words in PAGE
    assert words in SOURCES


def test_the_arithmetic_is_right() -> None:
    nodes, questions, hits, cluster = 100, 200, 0.9, 0.7
    well = nodes * questions * cluster * (1 - hits)
    one = well + questions - questions * cluster * (1 - hits)
    for number in (well, one, nodes * questions):
        assert f"| {round(number):,} |" in PAGE
    per_cpu = 860 / 0.05
    assert f"{per_cpu:,.0f}" in PAGE
    assert f"{nodes * questions / per_cpu:.1f} CPUs" in PAGE
    assert f"{nodes * questions * (1 - cluster):,.0f} a second in the example" in PAGE
    assert f"{questions * 30:,} entries" in PAGE


def test_it_is_found_from_the_readme_and_the_list_of_documents() -> None:
    assert "(docs/install.md)" in (ROOT / "README.md").read_text()
    assert "(install.md)" in (ROOT / "docs/README.md").read_text()
