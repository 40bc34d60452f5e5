"""The OPT record: what a sender can take, and why an answer is what it is (RFC 6891, RFC 8914)."""

import struct

from resolver.wire.header import TYPE_OPT

OUR_SIZE_BYTES = 1232
"""The UDP payload that we announce and never exceed (RFC 9715 section 3.1; fits IPv6's least MTU)."""

DO = 0x8000
OPTION_EDE = 15

EDE_STALE = 3
EDE_CACHED_ERROR = 13
EDE_NOT_READY = 14
EDE_PROHIBITED = 18
EDE_STALE_NXDOMAIN = 19
EDE_NOT_AUTHORITATIVE = 20
EDE_NOT_SUPPORTED = 21
EDE_NO_REACHABLE_AUTHORITY = 22
EDE_NETWORK_ERROR = 23

_OPT = struct.Struct(">BHHIH")
_OPTION = struct.Struct(">HHH")


def opt_record(*, do: bool, extended_rcode: int = 0, ede_code: int | None = None, ede_text: str = "") -> bytes:
    """Return our OPT record; with `ede_code`, one extended error in it."""
    options = b""
    if ede_code is not None:
        text = ede_text.encode("ascii", "replace")
        options = _OPTION.pack(OPTION_EDE, 2 + len(text), ede_code) + text
    flags = extended_rcode << 24 | (DO if do else 0)
    return _OPT.pack(0, TYPE_OPT, OUR_SIZE_BYTES, flags, len(options)) + options


PLAIN = (opt_record(do=False), opt_record(do=True))
"""Our OPT record without options, by the DO bit."""
