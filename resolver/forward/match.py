"""Whether a packet from an upstream is the answer to the question that we asked it.

Connected sockets settle the peer and the sender looks up the ID; what is left is QR, opcode and the question
section, letter case aside (RFC 5452 section 9.1). Anything else is counted and waited past.
"""

from resolver.wire.header import FORMERR, HEADER_BYTES, NOTIMP


def matches(packet: bytes, asked: bytes) -> bool:
    """Tell whether `packet` answers `asked`, a question section with its name in lower case.

    A server that cannot read our query may say so without repeating the question (RFC 1035 section 4.1.1):
    FORMERR and NOTIMP with QDCOUNT 0 match. Never raises.
    """
    end = HEADER_BYTES + len(asked)
    if packet[12:end] == asked and packet[4:6] == b"\0\1":
        return packet[2] & 0xF8 == 0x80
    if len(packet) < HEADER_BYTES or packet[2] & 0xF8 != 0x80:
        return False
    if packet[4:6] == b"\0\0":
        return packet[3] & 0x0F in {FORMERR, NOTIMP}
    section = packet[12:end]
    return packet[4:6] == b"\0\1" and section[:-4].lower() == asked[:-4] and section[-4:] == asked[-4:]
