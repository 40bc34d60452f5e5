"""What `kubectl kustomize FOLDER` prints, for the part of kustomize that our manifests keep to.

So that the tests see what a cluster would get on machines that have no kustomize. The part: `resources` (files and
folders), `components`, `patches` (strategic merge or JSON 6902, inline or a file), `configMapGenerator` (files and
literals; behavior create, merge or replace; names without a hash), `images`. Any other key, operation or form
raises `Unsupported`: a manifest that needs more is a reason to extend this, not to be guessed at. Where kubectl is
installed, `test_kustomize.py` compares the two, folder by folder.

`render` reads files below one root, as kustomize does, and has no other effect. Its order is the order of the
files; kustomize sorts by kind.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

KEYS = {
    "apiVersion",
    "kind",
    "resources",
    "components",
    "patches",
    "configMapGenerator",
    "generatorOptions",
    "images",
}

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose items a strategic merge matches by a key (x-kubernetes-patch-merge-key); others are replaced."""


class Unsupported(Exception):
    """A manifest uses what this renderer does not know."""


def documents(path: Path) -> list[Object]:
    """The objects of one YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def render(folder: Path) -> list[Object]:
    """Return the objects of the kustomization in `folder`. Raises Unsupported, or OSError for what is not there."""
    return _accumulate(folder, [], "Kustomization")


def _accumulate(folder: Path, objects: list[Object], kind: str) -> list[Object]:
    """Return `objects` and those of this folder, with its components, generators and transformers applied."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    if kustomization.get("kind") != kind or set(kustomization) - KEYS:
        raise Unsupported(f"{folder}: {kustomization.get('kind')} with {sorted(set(kustomization) - KEYS)}")
    for name in kustomization.get("resources", ()):
        path = folder / name
        for found in render(path) if path.is_dir() else documents(_below(folder, name)):
            if any(_identity(found) == _identity(other) for other in objects):
                raise Unsupported(f"{path}: {_identity(found)} is there already")
            objects.append(found)
    for name in kustomization.get("components", ()):
        objects = _accumulate(folder / name, objects, "Component")
    options = kustomization.get("generatorOptions", {})
    for generator in kustomization.get("configMapGenerator", ()):
        _generate(folder, generator, options, objects)
    for entry in kustomization.get("patches", ()):
        objects = _patched(folder, entry, objects)
    for image in kustomization.get("images", ()):
        _retag(image, objects)
    return objects


def _below(folder: Path, name: str) -> Path:
    """A file that kustomize may read: one of the folder's own (its load restrictor)."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Unsupported(f"{folder}: {name} is outside of it")
    return path


def _identity(found: Object) -> tuple[str, str, str, str]:
    metadata = found["metadata"]
    return found["apiVersion"], found["kind"], metadata.get("namespace", ""), metadata["name"]


def _generate(folder: Path, generator: Object, options: Object, objects: list[Object]) -> None:
    allowed = {"name", "namespace", "behavior", "files", "literals"}
    if set(generator) - allowed or options != {"disableNameSuffixHash": True}:
        raise Unsupported(f"{folder}: configMapGenerator {sorted(generator)} with {options}")
    data = {}
    for entry in generator.get("files", ()):
        key, _, name = entry.rpartition("=")
        data[key or Path(name).name] = _below(folder, name).read_text()
    for entry in generator.get("literals", ()):
        key, _, text = entry.partition("=")
        data[key] = text
    identity = ("v1", "ConfigMap", generator.get("namespace", ""), generator["name"])
    metadata = {key: generator[key] for key in ("name", "namespace") if key in generator}
    behavior = generator.get("behavior", "create")
    there = [found for found in objects if _identity(found) == identity]
    if (behavior == "create") == bool(there):
        raise Unsupported(f"{folder}: {behavior} of ConfigMap {generator['name']}, of which there are {len(there)}")
    if behavior == "create":
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    elif behavior in {"merge", "replace"}:
        there[0]["data"] = {**there[0]["data"], **data} if behavior == "merge" else data
    else:
        raise Unsupported(f"{folder}: behavior {behavior}")


def _patched(folder: Path, entry: Object, objects: list[Object]) -> list[Object]:
    """Return `objects` after one entry of `patches`."""
    if set(entry) - {"path", "patch", "target"} or ("path" in entry) == ("patch" in entry):
        raise Unsupported(f"{folder}: patch with {sorted(entry)}")
    text = entry["patch"] if "patch" in entry else _below(folder, entry["path"]).read_text()
    patch = yaml.safe_load(text)
    if isinstance(patch, list):
        targets = _targets(folder, entry["target"], objects)
        for found in targets:
            for operation in patch:
                _json6902(found, operation)
        return objects
    target = entry.get("target") or {"kind": patch["kind"], "name": patch["metadata"]["name"]}
    if "target" in entry:  # what the patch calls its object does not count then
        patch["metadata"].pop("name")
    result = [*objects]
    for found in _targets(folder, target, objects):
        position = next(index for index, each in enumerate(result) if each is found)
        if patch.get("$patch") == "delete":
            del result[position]
        else:
            result[position] = merge(found, patch)
    return result


def _targets(folder: Path, target: Object, objects: list[Object]) -> list[Object]:
    if set(target) - {"kind", "name"}:
        raise Unsupported(f"{folder}: target {target}")
    found = [
        each
        for each in objects
        if target.get("kind", each["kind"]) == each["kind"]
        and target.get("name", each["metadata"]["name"]) == each["metadata"]["name"]
    ]
    if not found:
        raise Unsupported(f"{folder}: a patch for {target}, which is not there")
    return found


def merge(found: Any, patch: Any) -> Any:
    """Return `found` after the strategic merge patch `patch`: null deletes, maps merge, lists are replaced.

    Items of the lists in MERGE_KEYS merge with the one of the same key; those of the patch come first, as kustomize
    writes them. `$patch: delete` deletes such an item.
    """
    if not (isinstance(found, dict) and isinstance(patch, dict)):
        return _without_nulls(patch)
    result = dict(found)
    for key, value in patch.items():
        if key == "$patch":
            raise Unsupported(f"$patch: {value} here")
        if value is None:
            result.pop(key, None)
        elif key in MERGE_KEYS and isinstance(value, list):
            result[key] = _merge_items(result.get(key, []), value, MERGE_KEYS[key])
        else:
            result[key] = merge(result.get(key), value)
    return result


def _merge_items(found: list[Object], patch: list[Object], key: str) -> list[Object]:
    patches = {item[key]: item for item in patch}
    olds = {item[key]: item for item in found}
    result = []
    for name in [*patches, *(name for name in olds if name not in patches)]:
        if patches.get(name, {}).get("$patch") == "delete":
            continue
        result.append(merge(olds.get(name, {}), patches[name]) if name in patches else olds[name])
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return copy.deepcopy(value)


def _json6902(found: Object, operation: Object) -> None:
    """Change `found` by one operation of RFC 6902: add, replace or remove."""
    *steps, last = (word.replace("~1", "/").replace("~0", "~") for word in operation["path"].split("/")[1:])
    parent: Any = found
    for step in steps:
        parent = parent[int(step)] if isinstance(parent, list) else parent[step]
    verb = operation["op"]
    if verb == "add" and isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), operation["value"])
        return
    where: Any = int(last) if isinstance(parent, list) else last
    if verb == "remove":
        del parent[where]
    elif verb == "add":
        parent[where] = operation["value"]
    elif verb == "replace":
        parent[where]  # RFC 6902 section 4.3: what is replaced must be there, else this is a KeyError
        parent[where] = operation["value"]
    else:
        raise Unsupported(f"operation {verb}")


def _retag(image: Object, objects: list[Object]) -> None:
    if set(image) - {"name", "newName", "newTag"}:
        raise Unsupported(f"images with {sorted(image)}")
    for container in _containers(objects):
        name, _, tag = container["image"].partition(":")
        if name == image["name"]:
            name, tag = image.get("newName", name), image.get("newTag", tag)
            container["image"] = f"{name}:{tag}" if tag else name


def _containers(value: Any) -> Iterator[Object]:
    """Every container of every pod template, wherever it is."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _containers(item)
    if isinstance(value, dict):
        for key in ("containers", "initContainers"):
            yield from value.get(key, ())
