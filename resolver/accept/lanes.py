"""Which lane answers: the compiled one where it was built, else the Python one, or the one that was asked for."""

from typing import Literal

from resolver.accept.udp import UdpListener
from resolver.errors import ResolverError

try:
    from resolver.accept.compiled import CompiledUdpListener
except ImportError:  # no C compiler when the package was installed
    _COMPILED: type[UdpListener] | None = None
else:
    _COMPILED = CompiledUdpListener

Lane = Literal["auto", "python", "compiled"]


def is_built() -> bool:
    """Tell whether this installation has the compiled lane."""
    return _COMPILED is not None


def listener_class(lane: Lane) -> type[UdpListener]:
    """Return the class of UDP listeners. Raises ResolverError if `compiled` is asked for and was not built."""
    if lane != "python" and _COMPILED is not None:
        return _COMPILED
    if lane == "compiled":
        raise ResolverError(
            "-lane compiled: this installation has no compiled lane; install a C compiler and the package again, "
            "or leave -lane out"
        )
    return UdpListener


def lane_of(listener: UdpListener) -> Literal["python", "compiled"]:
    """Return the name of the lane that `listener` is."""
    return "python" if type(listener) is UdpListener else "compiled"
