"""DNS messages on a byte stream: two bytes of length in front of each (RFC 1035 section 4.2.2, RFC 7766 section 8).

What callers may rely on:

- However a stream is cut into chunks, the messages are the same, and each byte is copied a fixed number of times.
- A reader holds at most one message that is not whole (65,537 bytes) and what is left of the chunk that it was
  fed last: whoever stops taking messages must stop feeding. A length that is only announced costs nothing.
- No byte sequence is an error at this level. A message of length 0, or one that is shorter than a DNS header,
  is delivered as it is; what it means is the caller's to say.
"""

MESSAGE_MAX_BYTES = 65_535


class FrameReader:
    """Feed it chunks; take whole messages.

    partial  After `next` has returned None: the first bytes of another message, empty when none has begun.
    """

    __slots__ = ("_chunk", "_position", "partial")

    def __init__(self) -> None:
        self._chunk = b""
        self._position = 0
        self.partial = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Add what the stream brought."""
        if self._position < len(self._chunk):
            chunk = self._chunk[self._position :] + chunk
        self._chunk = chunk
        self._position = 0

    def next(self) -> bytes | None:
        """Return the next message without its length, or None until more is fed."""
        if self.partial:
            return self._complete()
        chunk, position = self._chunk, self._position
        start = position + 2
        if start <= len(chunk):
            end = start + (chunk[position] << 8 | chunk[position + 1])
            if end <= len(chunk):
                self._position = end
                return chunk[start:end]
        if position < len(chunk):
            self.partial += chunk[position:] if position else chunk
        self._chunk = b""
        self._position = 0
        return None

    def _complete(self) -> bytes | None:
        """Add to the message that has begun what it lacks, and no more."""
        partial, chunk, position = self.partial, self._chunk, self._position
        if len(partial) == 1 and position < len(chunk):
            partial.append(chunk[position])
            position += 1
        if len(partial) >= 2:
            size = 2 + (partial[0] << 8 | partial[1])
            lacking = size - len(partial)
            taken = chunk[position : position + lacking]
            partial += taken
            position += len(taken)
            if len(partial) == size:
                self.partial = bytearray()
                self._position = position
                return bytes(memoryview(partial)[2:])
        self._chunk = b""
        self._position = 0
        return None


def frame(message: bytes) -> bytes:
    """Return `message` with its length in front. Raises OverflowError above MESSAGE_MAX_BYTES."""
    return len(message).to_bytes(2, "big") + message
