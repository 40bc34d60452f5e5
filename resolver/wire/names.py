"""Domain names: presentation form for people, wire form for packets (RFC 1035 section 3.1 and 5.1).

A wire name here is always whole: labels with their lengths, the empty root label at the end, no
compression. At most 255 bytes, labels of at most 63.
"""

from resolver.errors import Malformed

MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63
ROOT = b"\0"

_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'."();@$\\')


def from_text(text: str) -> bytes:
    """Return the wire form of `text`, letter case kept; a missing trailing dot is added.

    `\\.` and `\\DDD` are escapes. Raises Malformed for an empty or overlong label or name, a bad escape,
    or a character outside ASCII.
    """
    if text in {"", "."}:
        return ROOT
    labels: list[bytearray] = [bytearray()]
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == ".":
            labels.append(bytearray())
            continue
        if character == "\\":
            digits = text[position : position + 3]
            if len(digits) == 3 and digits.isascii() and digits.isdigit():
                if int(digits) > 255:
                    raise Malformed(f"escape \\{digits} in a name is above 255")
                labels[-1].append(int(digits))
                position += 3
                continue
            if position == len(text):
                raise Malformed("a name ends in a lone backslash")
            character = text[position]
            position += 1
        if not character.isascii():
            raise Malformed("a name has a character outside ASCII")
        labels[-1].append(ord(character))
    if not labels[-1]:
        labels.pop()
    wire = bytearray()
    for label in labels:
        if not label:
            raise Malformed("a name has an empty label")
        if len(label) > MAX_LABEL_BYTES:
            raise Malformed(f"a label has {len(label)} bytes, at most {MAX_LABEL_BYTES} fit")
        wire.append(len(label))
        wire += label
    wire.append(0)
    if len(wire) > MAX_NAME_BYTES:
        raise Malformed(f"a name has {len(wire)} bytes, at most {MAX_NAME_BYTES} fit")
    return bytes(wire)


def to_text(wire: bytes) -> str:
    """Return `wire` for people: escaped so that it is plain ASCII without blanks, with the trailing dot.

    Raises Malformed if `wire` is not one whole uncompressed name.
    """
    if wire == ROOT:
        return "."
    parts: list[str] = []
    position = 0
    while True:
        if position >= len(wire):
            raise Malformed("a name has no end")
        length = wire[position]
        position += 1
        if length == 0:
            break
        label = wire[position : position + length]
        if length > MAX_LABEL_BYTES or len(label) != length:
            raise Malformed("a label runs past its name")
        position += length
        parts.append(_label_text(label))
    if position != len(wire):
        raise Malformed("bytes behind the end of a name")
    return ".".join(parts) + "."


def _label_text(label: bytes) -> str:
    if _PLAIN.issuperset(label):
        return label.decode("ascii")
    return "".join(
        chr(byte) if byte in _PLAIN else f"\\{chr(byte)}" if byte in b'."();@$\\' else f"\\{byte:03d}"
        for byte in label
    )


def is_below(name: bytes, zone: bytes) -> bool:
    """Tell whether lower-case wire `name` is `zone` or stands below it."""
    if not name.endswith(zone):
        return False
    split = len(name) - len(zone)
    position = 0
    while position < split:
        position += name[position] + 1
    return position == split
