"""The alert rules: promtool takes them, each fires when it should and not before, and docs/alerts.md explains each.

Numbers are those of a scrape every minute, in promtool's notation: `0+2x30` begins at 0 and adds 2 thirty times.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/monitoring/alerts.yaml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs/alerts.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
METRICS = set(re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
NAME = re.compile(r"\b(?:resolver|coredns|process)_[a-z0-9_]+")

ONE = '{job="dns", instance="10.0.0.1:9253"%s}'
OURS = f"resolver_cache_budget_bytes{ONE % ''}"
"""Says that an instance is a resolver of ours."""


def of(name: str, labels: str = "") -> str:
    return name + ONE % (labels and f", {labels}")


def fleet(failed_open: int) -> dict[str, str]:
    return {
        f'resolver_fail_open{{job="dns", instance="10.0.0.{number}:9253"}}': f"{int(number < failed_open)}x30"
        for number in range(20)
    }


def table(entries: str) -> dict[str, str]:
    return {of("resolver_conntrack_entries"): entries, of("resolver_conntrack_entries_limit"): "1000x30"}


LOST = of("resolver_udp_receive_drops_total", 'server="dns://:53"')
FAILURES = of("coredns_proxy_healthcheck_failures_total", 'to="10.96.0.11:53"')
BROKEN = of("coredns_forward_healthcheck_broken_total")
STARTED = of("process_start_time_seconds")

#        what is measured, after how many minutes, which alerts fire
CASES: list[Any] = [
    pytest.param({of("resolver_fail_open"): "0x30"}, 30, [], id="well"),
    pytest.param({of("resolver_fail_open"): "0x9 1x20", **fleet(1)}, 20, ["ResolverFailOpen"], id="fail open"),
    pytest.param({of("resolver_fail_open"): "0x9 1 0x20"}, 10, [], id="fail open for a moment"),
    pytest.param(fleet(2), 10, ["ResolverFailOpen"], id="a tenth of the fleet"),
    pytest.param(fleet(3), 10, ["ResolverFailOpen", "ResolverFleetFailsOpen"], id="more than a tenth of the fleet"),
    pytest.param({of("resolver_fail_open_total", 'reason="no_answer"'): "0x9 1x20"}, 20, [], id="failed open once"),
    pytest.param(
        {
            of("resolver_fail_open_total", 'reason="no_answer"'): "0+0.1x40",
            of("resolver_fail_open_total", 'reason="rules_lost"'): "0+0.1x40",
        },
        40, ["ResolverFailOpenAgainAndAgain"], id="failed open six times, for two reasons",
    ),
    pytest.param({of("resolver_interception", 'family="1"'): "1x30"}, 30, [], id="intercepting"),
    pytest.param({of("resolver_interception", 'family="1"'): "0x3 1x30"}, 30, [], id="a start takes its time"),
    pytest.param(
        {of("resolver_interception", 'family="1"'): "1x30", of("resolver_interception", 'family="2"'): "0x30"},
        10, ["ResolverNotIntercepting"], id="one family of two",
    ),
    pytest.param({of("resolver_node_put_back_total", 'kind="address"'): "0x5 1x60"}, 60, [], id="put back once"),
    pytest.param(
        {of("resolver_node_put_back_total", 'kind="accept_rules"'): "0+1x60"},
        60, ["ResolverRulesFoughtOver"], id="put back every minute",
    ),
    pytest.param(table("790x30"), 30, [], id="79 % of the table"),
    pytest.param(table("810x30"), 4, [], id="81 %, a moment ago"),
    pytest.param(table("810x30"), 6, ["ResolverConntrackNearlyFull"], id="81 % of the table"),
    pytest.param({of("resolver_conntrack_drops_total"): "1000x30"}, 30, [], id="dropped long ago"),
    pytest.param({
        of("resolver_conntrack_drops_total"): "0+1x30", of("resolver_conntrack_early_drops_total"): "0x30",
    }, 30, [], id="one drop a minute"),
    pytest.param({
        of("resolver_conntrack_drops_total"): "0+50x30", of("resolver_conntrack_early_drops_total"): "0x30",
    }, 30, ["ResolverConntrackDrops"], id="drops"),
    pytest.param({
        of("resolver_conntrack_drops_total"): "0x30", of("resolver_conntrack_early_drops_total"): "0+50x30",
    }, 30, ["ResolverConntrackDrops"], id="entries given up early"),
    pytest.param({LOST: "7x30"}, 30, [], id="lost long ago"),
    pytest.param({LOST: "7x10 9x20"}, 12, ["ResolverSocketDrops"], id="questions lost"),
    pytest.param(
        {of("resolver_tcp_accept_drops_total", 'server="dns://:53"'): "0x10 1x20"},
        12, ["ResolverSocketDrops"], id="connections lost",
    ),
    pytest.param({FAILURES: "0+40x30", OURS: "1x30"}, 9, ["ResolverUpstreamUnhealthy"], id="upstream is silent"),
    pytest.param({FAILURES: "0x5 3x25", OURS: "1x30"}, 8, [], id="an upstream missed three checks"),
    pytest.param({FAILURES: "0+40x30"}, 10, [], id="an upstream of somebody else's CoreDNS"),
    pytest.param({BROKEN: "0x5 3x25", OURS: "1x30"}, 7, ["ResolverNoUpstream"], id="every upstream is down"),
    pytest.param({BROKEN: "3x30", OURS: "1x30"}, 30, [], id="every upstream was down once"),
    pytest.param({BROKEN: "0+3x30"}, 30, [], id="somebody else's CoreDNS has none"),
    pytest.param({of("resolver_loop_stalls_total"): "0x5 2x25"}, 10, [], id="two stalls"),
    pytest.param({of("resolver_loop_stalls_total"): "0+1x30"}, 20, ["ResolverLoopStalls"], id="stalls go on"),
    pytest.param({STARTED: "100x10 200x10 300x20", OURS: "1x40"}, 35, [], id="two restarts"),
    pytest.param(
        {STARTED: "100x5 200x5 300x5 400x20", OURS: "1x40"},
        30, ["ResolverRestartsAgainAndAgain"], id="three restarts",
    ),
    pytest.param({STARTED: "100x5 200x5 300x5 400x20"}, 30, [], id="three restarts of something else"),
]  # fmt: skip


def promtool(*words: str | Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is in Debian's package prometheus")
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", RULES)


@pytest.mark.parametrize(("series", "minute", "firing"), CASES)
def test_what_fires(series: dict[str, str], minute: int, firing: list[str], tmp_path: Path) -> None:
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing]
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": expected,
                    }
                ],
            }
        ],
    }
    path = tmp_path / "tests.yaml"
    path.write_text(json.dumps(tests))  # JSON is YAML
    promtool("test", "rules", path)


def test_each_alert_is_seen_firing() -> None:
    assert {name for case in CASES for name in case.values[2]} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_that_there_are_and_is_explained(rule: dict[str, Any]) -> None:
    assert set(NAME.findall(rule["expr"])) <= METRICS
    assert rule["labels"]["severity"] in {"warning", "critical"}
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"
    section = SECTIONS[rule["alert"]]
    assert re.findall(r"^(\d)\. ", section, re.MULTILINE) == ["1", "2", "3"]


def test_the_page_has_no_alert_that_there_is_not_and_no_such_metric() -> None:
    assert list(SECTIONS) == [rule["alert"] for rule in ALERTS]
    assert set(NAME.findall(PAGE)) <= METRICS
