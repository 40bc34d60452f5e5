"""The question that this process asks itself through its own sockets, and its answer.

`status.health` asks `<nonce>.self.node-resolver.` CH TXT once a second. It is answered here, in the same loop turn
and by the same code as any client's question, from no cache and no upstream: an answer says that the socket,
the loop and the pipeline work, and nothing about upstream. The nonce is this process's own, so that an older
process that shares the address cannot answer for a stuck one.
"""

import os

from resolver.wire import names
from resolver.wire.answer import Answer
from resolver.wire.header import CLASS_CH, QR, TYPE_TXT
from resolver.wire.question import Question

NONCE = os.urandom(8).hex()
NAME = names.from_text(f"{NONCE}.self.node-resolver.")


def answer(question: Question) -> Answer | None:
    """Return the answer if `question` is this process asking itself, else None."""
    if question.qclass != CLASS_CH or question.qtype != TYPE_TXT or question.name != NAME:
        return None
    text = NONCE.encode()
    record = b"\xc0\x0c\0\x10\0\3\0\0\0\0" + (len(text) + 1).to_bytes(2, "big") + bytes((len(text),)) + text
    header = b"\0\0" + QR.to_bytes(2, "big") + b"\0\1\0\1\0\0\0\0"
    return Answer(header + question.asked + record, (), 0, "")
