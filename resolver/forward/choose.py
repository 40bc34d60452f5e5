"""Which upstream is asked first, and in what order the others follow. Pure: state comes in, an order goes out."""

from collections.abc import Sequence
from random import random
from typing import Protocol, TypeVar

from resolver.forward.options import Policy


class Health(Protocol):
    """All that a policy may know of an upstream."""

    down: bool


U = TypeVar("U", bound=Health)


def order(upstreams: Sequence[U], policy: Policy, turn: int) -> list[U]:
    """Return all upstreams in the order to ask them for one question: those that are up first.

    turn  How many questions came before this one; `round_robin` starts there.
    """
    if policy == "sequential":
        start = 0
    elif policy == "round_robin":
        start = turn % len(upstreams) if upstreams else 0
    else:
        start = int(random() * len(upstreams))
    turned = [*upstreams[start:], *upstreams[:start]]
    turned.sort(key=lambda upstream: upstream.down)
    return turned
