"""The wires: a node with a bridge for its pods, and veth pairs to what stands on other machines.

    pod ── veth ── cbr0 ── node ── veth ── kube-dns replicas, the world outside

The node forwards and tracks connections; nothing in it has a way to a real network. IPv6 addresses skip duplicate
address detection: two seconds in which they could not be used.
"""

import json

from tests.lab.addresses import NODE_4, NODE_6, NODE_FAR_4, OUTSIDE_4, OUTSIDE_6, pod_4, pod_6, replica_4, replica_6
from tests.lab.spaces import Space, wait_for

BRIDGE, BRIDGE_MAC = "cbr0", "0a:58:0a:f4:00:01"


def set_up_node(node: Space) -> None:
    """Give the node its bridge and let it forward."""
    node.write(
        {
            "net/ipv4/ip_forward": "1",
            "net/ipv6/conf/all/forwarding": "1",
            # A veth that is up takes two seconds to find that its link-local address is unique.
            "net/ipv6/conf/default/accept_dad": "0",
            # kube-proxy sets it: without it, what comes back from a pod of the same bridge is not translated.
            "net/ipv4/conf/all/route_localnet": "1",
        }
    )
    _batch(
        node,
        # A bridge without an address of its own takes the lowest of its ports': a new pod would cut the others off
        # for as long as they remember the old one.
        f"link add {BRIDGE} address {BRIDGE_MAC} type bridge",
        f"addr add {NODE_4}/24 dev {BRIDGE}",
        f"addr add {NODE_6}/64 dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    )


def attach_pod(node: Space, pod: Space, number: int) -> None:
    """Put a pod on the bridge."""
    pod.write({"net/ipv6/conf/default/accept_dad": "0"})
    _batch(
        node,
        f"link add veth{number} type veth peer name eth0 netns {pod.name}",
        f"link set veth{number} master {BRIDGE} up",
    )
    _batch(
        pod,
        f"addr add {pod_4(number)}/24 dev eth0",
        f"addr add {pod_6(number)}/64 dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {NODE_4}",
        f"route add default via {NODE_6}",
    )
    wait_for(f"{pod.what} is on the bridge", lambda: _forwards(node, f"veth{number}"))


def _forwards(node: Space, device: str) -> bool:
    """Whether the bridge passes on what comes here; until then a pod's first question for its gateway is lost."""
    (link,) = json.loads(node.run("ip", "-json", "-details", "link", "show", device))
    return bool(link["linkinfo"]["info_slave_data"]["state"] == "forwarding")


def attach_replica(node: Space, replica: Space, number: int) -> None:
    """Connect a kube-dns replica, which stands on another node."""
    _attach_far(node, replica, f"far{number}", replica_4(number), replica_6(number))


def attach_outside(node: Space, outside: Space) -> None:
    """Connect the name server of the world outside."""
    _attach_far(node, outside, "outside", OUTSIDE_4, OUTSIDE_6)
    # Service addresses are nowhere; without a default route nothing could be sent to them, and so not translated.
    default = f"route add default via {OUTSIDE_4} onlink dev outside"
    _batch(node, default, "route add default via fe80::2 dev outside")


def _attach_far(node: Space, far: Space, device: str, address_4: str, address_6: str) -> None:
    far.write({"net/ipv6/conf/default/accept_dad": "0"})
    _batch(
        node,
        f"link add {device} type veth peer name eth0 netns {far.name}",
        f"addr add {NODE_FAR_4}/32 dev {device}",
        f"addr add fe80::1/64 dev {device} nodad",
        f"link set {device} up",
        f"route add {address_4}/32 dev {device}",
        f"route add {address_6}/128 dev {device}",
    )
    _batch(
        far,
        f"addr add {address_4}/32 dev eth0",
        f"addr add {address_6}/128 dev eth0 nodad",
        "link set eth0 up",
        f"route add {NODE_FAR_4} dev eth0",
        f"route add default via {NODE_FAR_4}",
        "route add default via fe80::1 dev eth0",
    )


def _batch(space: Space, *lines: str) -> None:
    space.run("ip", "-batch", "-", given="\n".join(lines) + "\n")
