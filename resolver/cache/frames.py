"""Bytes in frames that say how long they are and whether they are whole: of snapshots, in files and on their way.

A frame is its kind (one byte), the length of its payload and a CRC-32 of both with the payload. That is against
accidents, not against forgers: who may write is decided by the owner and the mode of a file or socket.
"""

import struct
from zlib import crc32

from resolver.errors import BadSnapshot

FRAME_MAX_BYTES = 256 * 1024
"""A slice of a snapshot ends at 16 KiB and one answer more, which has 64 KiB at most."""

_HEAD = struct.Struct(">BII")


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return one frame. Raises ValueError for a payload over FRAME_MAX_BYTES."""
    if len(payload) > FRAME_MAX_BYTES:
        raise ValueError(f"a frame of {len(payload)} bytes")
    return _HEAD.pack(kind, len(payload), _sum(kind, payload)) + payload


class Frames:
    """Bytes in, as they come; frames out, whole. Holds no more than one frame and what was fed last."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest_bytes(self) -> int:
        """Bytes that are no whole frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take more bytes; the caller takes the frames out before it feeds again."""
        self._buffer += data

    def raw(self, number: int) -> bytes | None:
        """Take so many bytes that are in no frame; None until they are here."""
        if len(self._buffer) < number:
            return None
        found = bytes(self._buffer[:number])
        del self._buffer[:number]
        return found

    def next(self) -> tuple[int, bytes] | None:
        """Take the next frame as (kind, payload); None until it is whole. Raises BadSnapshot for a broken one."""
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            return None
        kind, length, checksum = _HEAD.unpack_from(buffer)
        if length > FRAME_MAX_BYTES:
            raise BadSnapshot(f"a frame of {length} bytes, at most {FRAME_MAX_BYTES} are written")
        end = _HEAD.size + length
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[_HEAD.size : end])
        del buffer[:end]
        if _sum(kind, payload) != checksum:
            raise BadSnapshot("a checksum is wrong")
        return kind, payload


def _sum(kind: int, payload: bytes) -> int:
    return crc32(payload, crc32(kind.to_bytes(1, "big") + len(payload).to_bytes(4, "big")))
