"""The sidecar and the systemd unit: each is started as its manifest says, where it would be, and asked."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from resolver.settings import flags
from tests.deploy import kustomize
from tests.deploy.containerfile import ROOT
from tests.deploy.standing_in import ANSWERED, stand_in

SIDECAR = ROOT / "deploy/sidecar"
UNIT = ROOT / "deploy/systemd/node-resolver.service"


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    """The pod of the example: a Deployment that knows nothing of its resolver, with the component applied."""
    (deployment,) = [found for found in kustomize.render(SIDECAR / "example") if found["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_the_sidecar_asks_for_no_privilege(pod: dict[str, Any]) -> None:
    (sidecar,) = pod["initContainers"]
    rights = sidecar["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["runAsNonRoot"] is rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {tuple(volume)[1] for volume in pod["volumes"]} == {"configMap", "emptyDir"}
    assert pod["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]


def test_the_sidecar_is_first_asked_and_outlives_the_others(pod: dict[str, Any]) -> None:
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert pod["dnsPolicy"] == "None"
    assert pod["dnsConfig"]["nameservers"][0] == "127.0.0.1"
    assert len(pod["dnsConfig"]["nameservers"]) == 2, "our upstream, and who is asked without us"
    assert [container["name"] for container in pod["containers"]] == ["web"], "the workload is left as it was"


def test_the_sidecar_sets_up_no_node(pod: dict[str, Any]) -> None:
    process = flags.parse(pod["initContainers"][0]["args"]).process
    assert (process.local_ips, process.setup_interface, process.setup_iptables) == ((), False, False)


def test_the_sidecar_answers_in_its_pod(pod: dict[str, Any]) -> None:
    (sidecar,) = pod["initContainers"]
    (config,) = [mount["mountPath"] for mount in sidecar["volumeMounts"] if "sidecar" in mount["name"]]
    arguments = [word.replace(config, "/mnt") for word in sidecar["args"]]
    for probe in ("startupProbe", "livenessProbe"):
        assert sidecar[probe]["exec"]["command"] == ["probe", "health", "/run/resolver/probe"]
    told = stand_in(SIDECAR / "component", arguments)
    assert told == [*ANSWERED, "health", "OK", "ready", "OK", "exit", "0"]


def unit() -> dict[str, list[str]]:
    """The [Service] section: each key with all of its values."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys keep their case
    parser.read(UNIT)
    return {key: value.split() for key, value in parser["Service"].items()}


def test_the_unit_gives_up_all_but_the_port() -> None:
    service = unit()
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert service["DynamicUser"] == ["yes"]
    assert service["Restart"] == ["always"]
    assert service["Type"] == ["exec"], "`notify` would be a lie: nothing here speaks to systemd"
    assert not {"WatchdogSec", "NotifyAccess"} & set(service)


def test_the_unit_answers_on_its_machine() -> None:
    program, *arguments = shlex.split(" ".join(unit()["ExecStart"]))
    assert program == "/opt/node-resolver/bin/resolver"
    process = flags.parse(arguments).process
    assert process.local_ips == ()
    (state,) = unit()["StateDirectory"]
    assert Path(process.handover_dir).parent == Path("/var/lib") / state, (
        "it must be there before we make ours in it"
    )
    told = stand_in(UNIT.parent, [word.replace("/etc/node-resolver", "/mnt") for word in arguments])
    assert told == [*ANSWERED, "exit", "0", "snapshot", "kept"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed on this machine")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """systemd looks whether the program is there, so here it is another one."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/node-resolver/bin/resolver", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    # Exposure from 0 to 10, here times ten; a service without any of this has 9.6.
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", copy],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout
