"""`loadbalance [round_robin] { prefer CIDR... }`: addresses take turns (CoreDNS plugin/loadbalance).

`reply/rotate.py` does the work; `pipeline.py` asks it, and `accept/packets.py` keeps the orders of an answer.

Where we differ: the orders of one answer take turns, where CoreDNS draws one each time. `weighted` is not offered:
a weight of up to 255 to 1 cannot be told by the few orders that a packet cache can keep of an answer.
"""

import ipaddress

from resolver.reply.options import LoadBalanceOptions
from resolver.settings.arguments import Fields, Option, Where, count_arguments, read_block, value, wrong
from resolver.settings.corefile import Statement
from resolver.settings.tokens import Token
from resolver.settings.values import shown

FORM = "loadbalance [round_robin]"
_NETWORKS_MAX = 64  # in all; each is compared with each address


def _prefer(line: Statement, form: str) -> Fields:
    return {"prefer": tuple(_network(word, form) for word in count_arguments(line, 1, _NETWORKS_MAX, form))}


def _network(word: Token, form: str) -> str:
    if "/" not in word.text or "%" in word.text:  # Python takes a plain address, and one with an interface
        raise wrong(word, f"{shown(word.text)} is not a network, write one like 10.0.0.0/8", form)
    return str(value(word, _parsed, form))


def _parsed(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network, write one like 10.0.0.0/8") from None


OPTIONS = {"prefer": Option("prefer CIDR...", _prefer)}


def read(statement: Statement, where: Where) -> LoadBalanceOptions:
    """Return how the block orders addresses."""
    for word in count_arguments(statement, 0, 2, FORM)[:1]:
        if word.text == "weighted":
            raise wrong(word, "the policy weighted is not offered by this resolver", FORM)
        if word.text != "round_robin":
            raise wrong(word, f"{shown(word.text)} is not a policy", FORM)
    count_arguments(statement, 0, 1, FORM)
    read_block(statement, OPTIONS)
    # Several lines add up, as in CoreDNS.
    lines = statement.body or ()
    networks = [network for line in lines for network in _prefer(line, OPTIONS["prefer"].form)["prefer"]]
    if len(networks) > _NETWORKS_MAX:
        raise wrong(lines[-1].word, f"more than {_NETWORKS_MAX} networks in one loadbalance", "fewer, larger ones")
    return LoadBalanceOptions(prefer=tuple(dict.fromkeys(networks)))
