"""The Corefiles of the manifests: equal where they should be, and what the init container's link leads to."""

import difflib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from resolver.settings import flags
from resolver.settings.loading import load
from tests.deploy.manifests import DEPLOY, FOLDERS, INCUMBENT, arguments, machine, rendered, resolvers


def text(*names: str) -> list[str]:
    return DEPLOY.joinpath(*names).read_text().splitlines()


def without_comments(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_drop_in_has_the_corefile_of_node_local_dns() -> None:
    assert without_comments(text("overlays/drop-in/Corefile")) == without_comments(text("corefiles/node-local-dns"))


def test_behind_cilium_only_the_addresses_differ() -> None:
    base, cilium = (without_comments(text(name, "Corefile")) for name in ("base", "overlays/cilium"))
    changed = [line for line in difflib.ndiff(base, cilium) if line[0] in "+-"]
    assert changed == [
        "-     bind __PILLAR__LOCAL__DNS__",
        "-     health __PILLAR__LOCAL__DNS__:8080 {",
        "+     health :8080 {",
        "-     bind __PILLAR__LOCAL__DNS__",
    ]


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name != "kube-dns" and INCUMBENT not in name])
def test_the_blocks_share_what_they_should(folder: str) -> None:
    """Another domain than cluster.local stands at two places, not in a third that nobody thinks of."""
    for pod in resolvers(rendered(folder)):
        settings = load(flags.parse(arguments(pod.container)).process, machine(pod, rendered(folder)))
        listen = {block.listen for block in settings.blocks}
        assert len(listen) == 1
        zones = {zone for block in settings.blocks for zone in block.zones}
        assert zones == {"cluster.local.", "in-addr.arpa.", "ip6.arpa.", "."}
        for block in settings.blocks:
            assert block.loop
            assert block.reload
            assert block.errors
            assert block.cache
            assert "." in block.zones or block.loadbalance, "a cache keeps an order for longer than kube-dns does"
            assert "." in block.zones or block.cache.success_max_ttl_s <= 30, "a Service may move at any time"


def linked(tmp_path: Path, real: str | None) -> tuple[Path, Path]:
    """Run the init container's script on a small machine; return its link and the node's list of name servers."""
    (pod,) = resolvers(rendered("base"))
    (init,) = pod.spec["initContainers"]
    shell, option, script = init["command"]
    (tmp_path / "run").mkdir()
    (tmp_path / "resolve").mkdir()
    there = tmp_path / "resolve" / "resolv.conf"
    if real is not None:
        there.write_text(real)
    for inside, outside in (("/run/resolver", tmp_path / "run"), ("/host/resolve", tmp_path / "resolve")):
        assert inside in [mount["mountPath"] for mount in init["volumeMounts"]]
        script = script.replace(inside, str(outside))
    program = shutil.which(shell)
    assert program
    for _ in range(2):  # a second run, for what a restarted pod finds
        subprocess.run([program, option, script], check=True, timeout=10)
    return tmp_path / "run" / "resolv.conf", there


def test_the_link_sees_a_list_that_is_replaced(tmp_path: Path) -> None:
    link, there = linked(tmp_path, "nameserver 10.0.0.2\n")
    assert link.read_text() == "nameserver 10.0.0.2\n"
    new = there.with_name("new")
    new.write_text("nameserver 10.0.0.3\n")
    new.rename(there)
    assert link.read_text() == "nameserver 10.0.0.3\n"


def test_without_systemd_resolved_the_link_leads_to_the_pods_own(tmp_path: Path) -> None:
    link, _ = linked(tmp_path, None)
    assert os.readlink(link) == "/etc/resolv.conf"


def test_the_link_is_where_the_corefile_looks() -> None:
    (pod,) = resolvers(rendered("base"))
    (init,) = pod.spec["initContainers"]
    assert "/run/resolver/resolv.conf" in init["command"][-1]
    assert any("forward . /run/resolver/resolv.conf" in line for line in text("base", "Corefile"))
    shared = {mount["name"]: mount["mountPath"] for mount in init["volumeMounts"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod.container["volumeMounts"]}
    assert shared.items() <= mounts.items(), "the link means the same file in both"
