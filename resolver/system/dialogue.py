"""What a lasting `nft -i` says: bytes in, verdicts out. Pure.

nft says nothing when a command went well. So each of our lines is followed by a probe (`notrack.probe`), which is
always answered: by the table's first line, or by an error that shows the probe again. Errors come in between.
"""

from typing import NamedTuple

LINE_MAX_BYTES = 64 * 1024
"""An error shows the whole command; ours have 200 bytes for each address."""


class Verdict(NamedTuple):
    """How one line of ours went: whether the table is there, and what was complained of, or ""."""

    table: bool
    problem: str


class Dialogue:
    """The answers of one child about one table."""

    def __init__(self, table: str, probe: str) -> None:
        self._found = f"table inet {table} {{"
        self.probe = probe
        self._part = b""
        self._problem = ""
        self.hopeless = False  # it can do nothing at all, and will not answer probes

    @property
    def problem(self) -> str:
        """What was said last that is no verdict yet: the reason, if the child ends now."""
        return self._problem

    def feed(self, data: bytes) -> list[Verdict]:
        """Take what the child said, in pieces of any size; return the verdicts that are complete."""
        *lines, rest = (self._part + data).split(b"\n")
        self._part = rest[-LINE_MAX_BYTES:]
        verdicts = []
        for line in lines:
            verdict = self._line(line.decode(errors="replace").strip())
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def _line(self, line: str) -> Verdict | None:
        if line.endswith(self._found) or (line.endswith(self.probe) and self._problem):
            verdict = Verdict(line.endswith(self._found), self._problem)
            self._problem = ""
            return verdict
        # A prompt stands in front where nft was built with another line editor.
        _, error, text = line.partition("Error: ")
        must_be_root = "not permitted (" in line  # and then it says so for every line, the probe's too
        self.hopeless = self.hopeless or must_be_root
        if not self._problem and (error or must_be_root):
            self._problem = text or line
        return None
