"""The image: its Dockerfile is linted, and what can run without an engine is run: the build, and what it built.

hadolint looks at the instructions. Beyond that: the context has what is copied, the last stage has what a node
needs and nothing to build with, the version is the package's. The build stage's own steps, but for apt-get, are run
below a folder, and what they leave there is started on a read-only root with the DaemonSet's arguments, with its
capabilities and without any, and asked.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import kustomize
from tests.deploy.containerfile import PROJECT, ROOT, run_steps, stages
from tests.deploy.kustomize import Object
from tests.deploy.standing_in import ANSWERED, SOCKET, stand_in

BUILD, FINAL = stages()
CONSTRAINTS = dict(
    re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "deploy/image/constraints.txt").read_text(), re.MULTILINE)
)


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    assert program.exists(), "hadolint is not installed; it is among the test tools: pip install -e '.[test]'"
    done = subprocess.run(
        [program, "--no-color", "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a path out of the context: the last line that matches decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        paths = [name, *(str(parent) for parent in Path(name).parents if str(parent) != ".")]
        if "**/" in line:
            paths = [Path(path).name for path in paths]
        if line and not line.startswith("#") and any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            verdict = not line.startswith("!")
    return verdict


def test_the_context_has_what_is_copied_and_no_more() -> None:
    sources = [
        source
        for stage in (BUILD, FINAL)
        for text in stage.texts("COPY")
        if "--from=" not in text
        for source in [word for word in text.split() if not word.startswith("--")][:-1]
    ]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    for other in (
        ".git/config",
        "tests/conftest.py",
        "docs/README.md",
        "resolver/accept/lane.c",
        "resolver/accept/codec.c",
        ".venv/bin/python",
    ):
        assert ignored(other), other
    assert ignored("resolver/accept/lane.cpython-311-x86_64-linux-gnu.so"), (
        "built on this machine, for this machine"
    )


def test_the_last_stage_has_what_a_node_needs_and_nothing_to_build_with() -> None:
    assert {"python3", "nftables", "iptables", "iproute2", "ca-certificates"} <= FINAL.installed()
    assert "gcc" in BUILD.installed()
    assert not FINAL.installed() & (BUILD.installed() | {"python3-pip", "build-essential"})
    assert BUILD.base == FINAL.base, "the environment is copied, so both stages have one Python"
    for text in (*BUILD.texts("RUN"), *FINAL.texts("RUN")):
        if "apt-get" in text:
            assert "--no-install-recommends" in text
            assert "DEBIAN_FRONTEND=noninteractive" in text
            assert "rm -rf /var/lib/apt/lists/*" in text


def test_the_entry_point_and_the_version_are_the_packages() -> None:
    (entry_point,) = FINAL.texts("ENTRYPOINT")
    assert entry_point == '["resolver"]'
    assert "resolver" in PROJECT["scripts"]
    labels = FINAL.settings("LABEL")
    assert labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]["text"]
    assert labels["org.opencontainers.image.description"] == PROJECT["description"]


def test_each_dependency_has_its_version() -> None:
    wanted = {re.match(r"[\w-]+", word)[0] for word in PROJECT["dependencies"]}  # type: ignore[index] # always a name
    assert set(CONSTRAINTS) == wanted | {"Cython", "setuptools"}


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """What the build stage leaves behind, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        run_steps(BUILD, folder)
        yield folder


def test_the_environment_has_the_compiled_lane_and_no_pip(built: Path) -> None:
    inside = built / "opt/resolver"
    for name in ("lane", "codec"):
        assert len(list(inside.rglob(f"site-packages/resolver/accept/{name}.*.so"))) == 1
    assert not list(inside.rglob("site-packages/pip"))
    packages = {path.name for path in inside.rglob("site-packages/*.dist-info")}
    for name, version in CONSTRAINTS.items():
        in_it = f"{name.replace('-', '_')}-{version}.dist-info" in packages
        assert in_it is (name not in {"Cython", "setuptools"}), name


def test_each_file_is_compiled_so_that_a_read_only_root_costs_no_time(built: Path) -> None:
    sources = list((built / "opt/resolver").rglob("site-packages/**/*.py"))
    assert sources
    missing = [path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))]
    assert missing == []


WITHOUT_RIGHTS = ("-setupinterface=false", "-setupiptables=false")
SERVED = [*ANSWERED, "health", "OK", "ready", "OK"]


def daemon() -> tuple[Object, str]:
    """The container of the DaemonSet, and what its init container does."""
    (found,) = [each for each in kustomize.render(ROOT / "deploy/base") if each["kind"] == "DaemonSet"]
    pod = found["spec"]["template"]["spec"]
    (container,), (before,) = pod["containers"], pod["initContainers"]
    shell, option, script = before["command"]
    assert (shell, option) == ("sh", "-c")
    assert {"name": "host-resolve", "mountPath": "/host/resolve", "readOnly": True} in before["volumeMounts"]
    return container, script.replace("/host/resolve", "/run/systemd/resolve")


def start(built: Path, container: Object, script: str, *more: str, rights: str = "") -> list[str]:
    """Start what was built as the DaemonSet does."""
    return stand_in(
        ROOT / "deploy/base",
        [*(word.replace("/etc/node-resolver", "/mnt") for word in container["args"]), "-lane", "compiled", *more],
        RESOLVER=str(built / "opt/resolver/bin/resolver"),
        PROBE=str(built / "opt/probe"),
        INIT=script,
        CAPABILITIES=rights,
    )


def test_it_sets_up_a_node_and_answers_with_the_manifests_arguments_and_rights(built: Path) -> None:
    container, script = daemon()
    assert "command" not in container, "the image's entry point is meant"
    assert container["readinessProbe"]["exec"]["command"] == ["probe", "ready", str(SOCKET)]
    rights = ",".join(container["securityContext"]["capabilities"]["add"]).lower()
    told = start(built, container, script, rights=rights)
    assert told == [*SERVED, "interception", "on", "exit", "0", "snapshot", "kept", "device", "gone"]


def test_it_answers_without_any_capability(built: Path) -> None:
    told = start(built, *daemon(), *WITHOUT_RIGHTS)
    assert told == [*SERVED, "exit", "0", "snapshot", "kept"]


@pytest.mark.skipif(
    shutil.which("apt-cache") is None, reason="not a Debian machine: package names are not looked up"
)
def test_debian_has_the_packages() -> None:
    names = sorted(BUILD.installed() | FINAL.installed())
    done = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, timeout=60, check=True)
    known = set(done.stdout.split())
    if "python3" not in known:
        pytest.skip("the package lists of this machine are empty")
    assert set(names) <= known
