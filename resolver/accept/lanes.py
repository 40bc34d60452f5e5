"""Which code answers: what was compiled where it was built, else Python, or the one that was asked for.

The *lane* of a UDP socket is its packet cache and batch loop; the *codec* reads queries and upstream's answers and
writes ours, and has the ordinary visit of a TCP client. Both are there twice, with one contract.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from resolver.accept.decode import Rejection, decode
from resolver.accept.tcp import VisitsClass
from resolver.accept.udp import UdpListener
from resolver.errors import ResolverError
from resolver.reply.fit import Fit, fit
from resolver.wire.question import Question
from resolver.wire.ttls import Scan, scan


class Codec(NamedTuple):
    """From bytes to what they say and back; each field says its contract in its Python module."""

    decode: Callable[[bytes], Question | Rejection | None]
    scan: Callable[[bytes, int], Scan]
    fit: Fit
    visits: VisitsClass | None  # None: what `TcpServer` and `Desk` have


IN_PYTHON = Codec(decode, scan, fit, None)

try:
    from resolver.accept import codec as _codec
    from resolver.accept.compiled import CompiledUdpListener
    from resolver.accept.lane import one_heap as _one_heap
    from resolver.accept.visits import Visits
except ImportError:  # no C compiler when the package was installed
    _COMPILED: tuple[type[UdpListener], Codec] | None = None
else:
    _COMPILED = CompiledUdpListener, Codec(_codec.decode, _codec.scan, _codec.fit, Visits)

Lane = Literal["auto", "python", "compiled"]


def is_built() -> bool:
    """Tell whether this installation has the compiled lane."""
    return _COMPILED is not None


def one_heap() -> None:
    """Have threads allocate from one heap: glibc gives each its own, and ours need half a MiB for that.

    To be called before there are any. Nothing where nothing was compiled.
    """
    if _COMPILED is not None:
        _one_heap()


def chosen(lane: Lane) -> tuple[type[UdpListener], Codec]:
    """Return the class of UDP listeners and the codec.

    Raises ResolverError if `compiled` is asked for and was not built.
    """
    if lane != "python" and _COMPILED is not None:
        return _COMPILED
    if lane == "compiled":
        raise ResolverError(
            "-lane compiled: this installation has no compiled lane; install a C compiler and the package again, "
            "or leave -lane out"
        )
    return UdpListener, IN_PYTHON


def lane_of(listener: UdpListener) -> Literal["python", "compiled"]:
    """Return the name of the lane that `listener` is."""
    return "python" if type(listener) is UdpListener else "compiled"
