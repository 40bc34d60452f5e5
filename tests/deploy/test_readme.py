"""deploy/README.md names every overlay, component and policy, and its commands name what is there."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from resolver import VERSION
from tests.deploy import kustomize
from tests.deploy.manifests import DEPLOY, FOLDERS, OVERLAYS, ROOT, of_kind

README = (DEPLOY / "README.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line
]
SAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]


@pytest.mark.parametrize(
    "path",
    [
        *OVERLAYS,
        *(f"components/{path.name}" for path in (DEPLOY / "components").iterdir()),
        *(f"network-policies/{path.name}" for path in (DEPLOY / "network-policies").iterdir()),
    ],
)
def test_everything_is_explained(path: str) -> None:
    assert f"]({path})" in README
    if path.startswith("overlays/"):
        name = path.removeprefix("overlays/").removesuffix("-hand-over")
        assert f"\n**{name}.** " in README


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_names_what_is_there(words: list[str]) -> None:
    assert words[0] == "kubectl"
    for option, what in itertools.pairwise(words):
        if option == "-k":
            assert what.removeprefix("deploy/") in FOLDERS
        if option == "--patch-file":
            assert (ROOT / what).is_file()
    named = [word.split("/")[1] for word in words if word.startswith("daemonset/")]
    assert set(named) <= {"node-resolver", "node-local-dns"}
    for word in words:
        if word.startswith("node-cache="):
            assert word == f"node-cache=node-resolver:{VERSION}"


def test_the_patch_of_the_readme_is_the_one_that_is_tested() -> None:
    """`kubectl patch` takes the same file as the overlay."""
    (kustomization,) = kustomize.documents(DEPLOY / "overlays/drop-in-hand-over/kustomization.yaml")
    assert kustomization["patches"] == [{"path": "patch.yaml"}]


def test_the_sample_of_your_own_works(tmp_path: Path) -> None:
    patch, own = SAMPLES
    ours = tmp_path / "node-resolver"
    ours.symlink_to(ROOT)
    here = tmp_path / "mine"
    here.mkdir()
    (here / "Corefile").write_text("mine")
    (here / "kustomization.yaml").write_text(yaml.safe_dump({**own, **patch}))
    objects = kustomize.render(here)
    (config,) = of_kind(objects, "ConfigMap")
    assert config["data"] == {"Corefile": "mine"}
    assert len(of_kind(objects, "ServiceMonitor")) == 1
    (pod,) = of_kind(objects, "DaemonSet")
    spec = pod["spec"]["template"]["spec"]
    assert {each["image"] for each in (*spec["containers"], *spec["initContainers"])} == {
        f"registry.example/node-resolver:{VERSION}"
    }
    (volume,) = [each for each in spec["volumes"] if each["name"] == "host-resolve"]
    assert volume["hostPath"] == {"path": "/run/NetworkManager", "type": "DirectoryOrCreate"}
