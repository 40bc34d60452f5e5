"""Who has which address in the lab, and how an answer tells who gave it.

Every server answers every name below `lab.` with an address of its own, so each answer says who gave it:
kube-dns replica N says 10.99.0.N and fd00:99::N; the world outside, which only our resolver asks, 10.99.1.1 and
fd00:99:1::1. kube-dns serves `cluster.local.` too; our resolver asks it there, so those names have no author.
"""

LOCAL_4, LOCAL_6 = "169.254.20.10", "fd00:20::10"
CLUSTER_4, CLUSTER_6 = "10.96.0.10", "fd00:10:96::a"
UPSTREAM_4 = "10.96.0.11"
OUTSIDE_4, OUTSIDE_6 = "203.0.113.53", "2001:db8:53::53"
NODE_4, NODE_6 = "10.244.0.1", "fd00:10:244::1"  # as its pods see it
NODE_FAR_4 = "192.168.77.1"  # as everybody else does
LOCAL_IPS = (LOCAL_4, CLUSTER_4, LOCAL_6, CLUSTER_6)

OURS = "us"
OTHER = "?"


def pod_4(number: int) -> str:
    """The address of pod `number`, from 2."""
    return f"10.244.0.{number}"


def pod_6(number: int) -> str:
    return f"fd00:10:244::{number}"


def replica_4(number: int) -> str:
    """The address of kube-dns replica `number`, from 1; it stands on another node."""
    return f"10.244.1.{number + 1}"


def replica_6(number: int) -> str:
    return f"fd00:10:244:1::{number + 1}"


def said_by(number: int) -> tuple[str, str]:
    """What replica `number` answers for names below `lab.`; 0 is the world outside."""
    return (f"10.99.0.{number}", f"fd00:99::{number}") if number else ("10.99.1.1", "fd00:99:1::1")


def author(address: str) -> str:
    """Who gave this answer: "us", "kube-dns-N" or "?"."""
    if address in said_by(0):
        return OURS
    for prefix in ("10.99.0.", "fd00:99::"):
        if address.startswith(prefix):
            return f"kube-dns-{address.removeprefix(prefix)}"
    return OTHER
