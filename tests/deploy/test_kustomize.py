"""Our renderer of kustomizations: its table of facts, what it refuses, and that kubectl renders the same."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import kustomize
from tests.deploy.kustomize import Object, Unsupported, merge
from tests.deploy.manifests import DEPLOY, FOLDERS, HEAD, combined


def folder(root: Path, name: str, **files: str) -> Path:
    """A folder with a kustomization and files beside it; a file's name has `_` for its dot."""
    path = root / name
    path.mkdir(parents=True)
    for file, text in files.items():
        head = HEAD if file == "kustomization_yaml" else ""
        (path / file.replace("_", ".")).write_text(head + text)
    return path


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def real(path: Path) -> list[Object]:
    """What kubectl's own kustomize makes of it; skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here to compare with")
    run = subprocess.run([kubectl, "kustomize", path], capture_output=True, text=True, timeout=60, check=False)
    if "unknown command" in run.stderr or "invalid Kustomization" in run.stderr:
        pytest.skip("this kubectl has a kustomize from before components and patches")
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


@pytest.mark.parametrize("name", [*FOLDERS, "sidecar/example"])
def test_kubectl_renders_the_same(name: str) -> None:
    assert by_name(kustomize.render(DEPLOY / name)) == by_name(real(DEPLOY / name))


def test_kubectl_puts_components_in_the_same(tmp_path: Path) -> None:
    here = combined(tmp_path, "overlays/link-local", "selinux", "service-monitor", "standing-nat")
    ours = by_name(kustomize.render(here))
    assert ("ServiceMonitor", "node-resolver") in ours
    assert ours == by_name(real(here))


#  found, patch, result
MERGES: list[Any] = [
    pytest.param({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}, id="maps merge"),
    pytest.param({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}, id="at every depth"),
    pytest.param({"a": 1, "b": 2}, {"a": None}, {"b": 2}, id="null deletes"),
    pytest.param({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}, id="also what is not there"),
    pytest.param({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}, id="a plain list is replaced"),
    pytest.param(
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}, {"name": "A", "value": "1"}]},
        id="a list with keys merges, the patch's items first",
    ),
    pytest.param(
        {"volumes": [{"name": "a"}, {"name": "b"}]},
        {"volumes": [{"name": "a", "$patch": "delete"}]},
        {"volumes": [{"name": "b"}]},
        id="$patch: delete",
    ),
    pytest.param(
        {"volumes": [{"name": "a", "hostPath": {"path": "/x"}}]},
        {"volumes": [{"name": "a", "hostPath": None, "emptyDir": {}}]},
        {"volumes": [{"name": "a", "emptyDir": {}}]},
        id="one kind of volume for another",
    ),
]


@pytest.mark.parametrize(("found", "patch", "result"), MERGES)
def test_a_strategic_merge(found: Object, patch: Object, result: Object) -> None:
    assert merge(found, patch) == result


BASE = {
    "kustomization_yaml": "resources: [map.yaml]\n",
    "map_yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {a: '1', b: '2'}\n",
}
GENERATED = "generatorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator:\n"


def patched(kind: str, **operation: str) -> str:
    """A kustomization's patch of one operation (RFC 6902) for all objects of a kind."""
    return "patches: " + json.dumps([{"target": {"kind": kind}, "patch": json.dumps([operation])}])


#  the kustomization on top of BASE, the data of the ConfigMap `map` afterwards
STEPS = [
    (patched("ConfigMap", op="remove", path="/data/a"), {"b": "2"}),
    (patched("ConfigMap", op="replace", path="/data/a", value="x"), {"a": "x", "b": "2"}),
    (patched("ConfigMap", op="add", path="/data/x~0y", value="z"), {"a": "1", "b": "2", "x~y": "z"}),
    (f"{GENERATED}- {{name: map, behavior: merge, literals: [b=x=y]}}", {"a": "1", "b": "x=y"}),
    (f"{GENERATED}- {{name: map, behavior: replace, files: [k=file.txt, file.txt]}}",
     {"k": "text\n", "file.txt": "text\n"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "data"), STEPS)
def test_a_step(tmp_path: Path, text: str, data: dict[str, str]) -> None:
    folder(tmp_path, "base", **BASE)
    top = folder(tmp_path, "top", kustomization_yaml=f"resources: [../base]\n{text}\n", file_txt="text\n")
    (found,) = kustomize.render(top)
    assert found["data"] == data
    assert by_name([found]) == by_name(real(top))


REFUSED: dict[str, tuple[str, type[Exception]]] = {
    "another key": ("namePrefix: x-", Unsupported),
    "a name with a hash": ("configMapGenerator: [{name: new, literals: [a=1]}]", Unsupported),
    "made twice": (f"{GENERATED}- {{name: map, literals: [a=1]}}", Unsupported),
    "merged with nothing": (f"{GENERATED}- {{name: new, behavior: merge, literals: [a=1]}}", Unsupported),
    "a file from elsewhere": (f"{GENERATED}- {{name: new, files: [../base/map.yaml]}}", Unsupported),
    "a patch from elsewhere": ("patches: [{path: ../base/map.yaml}]", Unsupported),
    "a patch for nothing": (patched("Secret", op="remove", path="/data/a"), Unsupported),
    "another way to find a target": ("patches: [{patch: '[]', target: {labelSelector: a=b}}]", Unsupported),
    "another operation": (patched("ConfigMap", op="test", path="/data/a", value="1"), Unsupported),
    "what is replaced is not there": (patched("ConfigMap", op="replace", path="/data/c", value="x"), KeyError),
    "what is removed is not there": (patched("ConfigMap", op="remove", path="/data/c"), KeyError),
    "a component that is none": ("components: [../base]", Unsupported),
    "a digest": ("images: [{name: a, digest: b}]", Unsupported),
}


@pytest.mark.parametrize(("text", "error"), REFUSED.values(), ids=REFUSED)
def test_what_it_does_not_know_is_refused(tmp_path: Path, text: str, error: type[Exception]) -> None:
    folder(tmp_path, "base", **BASE)
    top = folder(tmp_path, "top", kustomization_yaml=f"resources: [../base]\n{text}\n")
    with pytest.raises(error):
        kustomize.render(top)
