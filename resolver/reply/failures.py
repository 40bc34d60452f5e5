"""Answers without records: an rcode and, for a client that sent EDNS, the reason (RFC 8914)."""

from resolver.wire.answer import Refusal
from resolver.wire.edns import opt_record
from resolver.wire.header import CD, QR, RA, RCODE_MASK, RD
from resolver.wire.question import Question


def refuse(question: Question, refusal: Refusal) -> bytes:
    """Return the whole answer that says `refusal` to whoever asked `question`."""
    flags = QR | RA | question.flags & (RD | CD) | refusal.rcode & RCODE_MASK
    opt = b""
    if question.edns_size:
        opt = opt_record(
            do=question.do,
            extended_rcode=refusal.rcode >> 4,
            ede_code=refusal.ede_code,
            ede_text=refusal.ede_text,
        )
    counts = b"\0\1\0\0\0\0\0\1" if opt else b"\0\1\0\0\0\0\0\0"
    return question.query_id + flags.to_bytes(2, "big") + counts + question.asked + opt
