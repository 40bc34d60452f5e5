"""The only door to dnslib: whole messages as objects, for everything off the hot path.

dnslib is imported when it is first needed, not at start. Whatever it raises on hostile bytes (also
UnicodeDecodeError, IndexError, struct.error) leaves here as `Malformed`.
"""

from typing import Any

from resolver.errors import Malformed
from resolver.wire.header import TYPE_OPT


def parse(packet: bytes) -> Any:
    """Return `packet` as a dnslib.DNSRecord. Raises Malformed, and nothing else."""
    import dnslib

    try:
        return dnslib.DNSRecord.parse(packet)
    except Exception as problem:  # dnslib's own errors and, on mutated bytes, many others
        raise Malformed(f"not a DNS message: {type(problem).__name__}") from None


def without_opt(packet: bytes) -> bytes:
    """Return `packet` written anew without any OPT record, however its names were compressed.

    Raises Malformed, and nothing else.
    """
    message = parse(packet)
    message.ar = [record for record in message.ar if record.rtype != TYPE_OPT]
    try:
        return bytes(message.pack())
    except Exception as problem:
        raise Malformed(f"cannot be written again: {type(problem).__name__}") from None
