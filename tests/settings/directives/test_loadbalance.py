"""`loadbalance`: what it takes, and what it says about the rest."""

import pytest

from resolver.reply.options import LoadBalanceOptions
from tests.settings.directives.cases import assert_refused, bad
from tests.settings.support import block_of

#       lines, what they become
GOOD = [
    ("", None),
    ("loadbalance", LoadBalanceOptions()),
    ("loadbalance round_robin", LoadBalanceOptions()),
    ("loadbalance {\n}", LoadBalanceOptions()),
    ("loadbalance {\nprefer 10.0.0.0/8\n}", LoadBalanceOptions(("10.0.0.0/8",))),
    ("loadbalance round_robin {\nprefer 10.0.0.0/8 fd00::/8\n}", LoadBalanceOptions(("10.0.0.0/8", "fd00::/8"))),
    (
        "loadbalance {\nprefer 10.1.0.0/16\nprefer 10.0.0.0/8 10.1.0.0/16\n}",
        LoadBalanceOptions(("10.1.0.0/16", "10.0.0.0/8")),
    ),
    ("loadbalance {\nprefer 10.9.20.5/24 2001:DB8::7/32\n}", LoadBalanceOptions(("10.9.20.0/24", "2001:db8::/32"))),
    ("loadbalance {\nprefer 192.0.2.7/32 0.0.0.0/0\n}", LoadBalanceOptions(("192.0.2.7/32", "0.0.0.0/0"))),
]


@pytest.mark.parametrize(("lines", "options"), GOOD)
def test_good(lines: str, options: LoadBalanceOptions | None) -> None:
    assert block_of(lines + "\nlog").loadbalance == options


BAD = [
    bad("loadbalance weighted weights.txt", 1, "the policy weighted is not offered"),
    bad("loadbalance weighted weights.txt {\nreload 10s\n}", 1, "the policy weighted is not offered"),
    bad("loadbalance weighted", 1, "the policy weighted is not offered"),
    bad("loadbalance random", 1, '"random" is not a policy'),
    bad("loadbalance round_robin 10.0.0.0/8", 1, "one argument too many"),
    bad("loadbalance round_robin a b", 1, "one argument too many"),
    bad("loadbalance\nloadbalance", 2, "stands twice"),
    bad("loadbalance {\nreload 10s\n}", 2, 'no option "reload"'),
    bad("loadbalance {\nprefer\n}", 2, "takes at least an argument"),
    bad("loadbalance {\nprefer 10.0.0.1\n}", 2, '"10.0.0.1" is not a network'),
    bad("loadbalance {\nprefer 10.0.0.0/33\n}", 2, '"10.0.0.0/33" is not a network'),
    bad("loadbalance {\nprefer 10.0.0.0/8 eth0/8\n}", 2, '"eth0/8" is not a network'),
    bad("loadbalance {\nprefer fe80::1%eth0/64\n}", 2, "is not a network"),
    bad("loadbalance {\nprefer 10.0.0.0/8 {\nx\n}\n}", 2, "takes no block"),
    bad("loadbalance {\nprefer " + "10.0.0.0/8 " * 65 + "\n}", 2, "one argument too many"),
    bad(
        "loadbalance {\n" + "".join(f"prefer 10.{n}.0.0/16\n" for n in range(65)) + "}",
        66,
        "more than 64 networks in one loadbalance",
    ),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD)
def test_bad(text: str, line: int, problem: str) -> None:
    assert_refused(text, line, problem)
