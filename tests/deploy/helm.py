"""The Helm chart as Helm renders it: its own engine, from the package helm-python-sdk, in a process of its own.

In a process of its own because the engine is a Go runtime, with threads and signal handlers that our tests would
not expect in theirs. Nothing asks a cluster.
"""

import json
import platform
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.deploy.containerfile import ROOT
from tests.deploy.kustomize import Object

CHART = ROOT / "deploy/helm/node-resolver"
ASK_S = 60.0


class Refused(Exception):
    """Helm does not render the chart with these values; its words."""


def ask(values: Object) -> dict[str, Any]:
    """What Helm says of the chart with these values: `rendered` by file, `findings` of lint, or `refused`."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=ASK_S,
        check=False,
        cwd=ROOT,
    )
    if "No module named 'helm_python'" in done.stderr and platform.machine() != "x86_64":
        pytest.skip("there is no Helm for this machine among the test tools")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def render(values: Object | None = None) -> list[Object]:
    """Return the objects that `helm install node-resolver --namespace kube-system` makes; raises Refused."""
    said = ask(values or {})
    if "refused" in said:
        raise Refused(said["refused"])
    texts = [text for name, text in said["rendered"].items() if name.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def main() -> None:
    """Answer one question of `ask`, on standard input and output."""
    import helm_python  # here: only this process has it loaded

    values = json.load(sys.stdin)
    chart = helm_python.Chart.load(str(CHART))
    try:
        said: dict[str, Any] = {"rendered": chart.render(values, name="node-resolver", namespace="kube-system")}
    except helm_python.HelmRenderError as error:
        said = {"refused": str(error)}
    said["findings"] = helm_python.lint(str(CHART), values, strict=True)["errors"]
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
