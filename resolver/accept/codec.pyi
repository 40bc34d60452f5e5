"""Types of the compiled codec (`codec.pyx`)."""

from resolver.accept.decode import Rejection
from resolver.wire.question import Question
from resolver.wire.ttls import Scan

def decode(query: bytes) -> Question | Rejection | None:
    """As `accept.decode.decode`."""

def scan(packet: bytes, question_end: int = 0) -> Scan:
    """As `wire.ttls.scan`."""

def fit(
    question: Question,
    packet: bytes,
    ttl_offsets: tuple[int, ...],
    elapsed_s: int,
    floor_s: int,
    max_bytes: int,
    authoritative: int = 0,
    opt: bytes | None = None,
) -> bytes:
    """As `reply.fit.fit`."""
