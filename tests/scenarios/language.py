"""The language that stories are written in (README.md): text in, steps out. Pure.

What callers may rely on: `parse` returns a `Story` or raises `StoryError`, whose text begins with `file:line:`.
Records are checked and normalised here, so that a slip of the pen is found before anything is started.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import dns.exception
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.scenarios.story import (
    SECTIONS,
    Action,
    Answers,
    Asks,
    AsksAgain,
    File,
    Gets,
    HearsNothing,
    Holds,
    Leaves,
    Message,
    Question,
    Reload,
    Section,
    Step,
    Story,
    StoryError,
    Turns,
    WasAsked,
)

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
NUMBERS = {"never": 0, "once": 1, "twice": 2}
MESSAGE_WORDS = {"aa", "ad", "cd", "tc", "stale", "truncated", "no edns"}
WORDS_TEXT = ", ".join(sorted(MESSAGE_WORDS))
OPTIONS = {"EDNS", "DO", "CD", "AD", "no RD", "over TCP"}


class _Line(NamedTuple):
    number: int
    text: str

    def columns(self) -> list[str]:
        return re.split(r"\s{2,}", self.text.strip())


def parse(text: str, file: str) -> Story:
    """Return the story that `text` tells. Raises StoryError."""
    return _Parser(text, file).story()


class _Parser:
    """Walks the lines once."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = [_Line(number, line.rstrip()) for number, line in enumerate(text.splitlines(), 1)]
        self._next = 0
        self._here = 1

    def story(self) -> Story:
        why = []
        while self._next < len(self._lines) and self._lines[self._next].text.startswith("#"):
            why.append(self._lines[self._next].text.lstrip("# "))
            self._next += 1
        if not why:
            raise self._wrong("a story begins with prose that says why it is told", "lines that begin with #")
        corefile: str | None = None
        steps: list[Step] = []
        at_s, slowly = 0.0, False
        for line in self._content():
            columns = line.columns()
            if re.fullmatch(r"upstreams listen on port \d+", line.text):
                continue  # the stage needs it before there is anything to parse
            if columns == ["Corefile:"]:
                corefile = self._block()
                continue
            if corefile is None:
                raise self._wrong("the first thing is the configuration", "Corefile: and its lines")
            if found := re.match(r"(at|by) (\d+(?:\.\d+)?)(ms|s|m|h)\s+", line.text):
                at_s, before_s = float(found[2]) * UNITS_S[found[3]], at_s
                slowly = found[1] == "by"
                if at_s < before_s:
                    raise self._wrong(f"{at_s:g}s is before {before_s:g}s", "times that go on")
                columns = line._replace(text=line.text[found.end() :]).columns()
            if len(columns) > 2:
                raise self._wrong(f"{len(columns)} columns", "what happens and its object, two spaces apart")
            action = self._action(columns[0], columns[1] if len(columns) == 2 else "")
            steps.append(Step(line.number, at_s, slowly, action))
        if corefile is None or not steps:
            raise self._wrong("nothing happens", "Corefile: and steps")
        return Story(self._file, " ".join(why), corefile, tuple(steps))

    def _content(self) -> Iterator[_Line]:
        """Yield the lines that say something, comments cut off."""
        while self._next < len(self._lines):
            number, text = self._lines[self._next]
            self._next += 1
            self._here = number
            text = re.sub(r"(^|\s{2,})#.*", "", text)
            if text.strip():
                yield _Line(number, text)

    def _block(self) -> str:
        """Return the lines up to the next empty one."""
        lines = []
        while self._next < len(self._lines) and self._lines[self._next].text:
            lines.append(self._lines[self._next].text)
            self._next += 1
        if not lines:
            raise self._wrong("an empty block", "lines, up to the next empty one")
        return "\n".join(lines)

    def _action(self, phrase: str, operand: str) -> Action:
        for pattern, read in FORMS.values():
            if found := re.fullmatch(pattern, phrase):
                return read(self, found, operand)
        raise self._wrong(f"{phrase!r} is nothing that happens", "; ".join(FORMS))

    def _wrong(self, problem: str, accepted: str) -> StoryError:
        return StoryError(f"{self._file}:{self._here}: {problem}, accepted: {accepted}")

    # The parts of a step

    def _question(self, text: str, any_type: bool = False) -> Question:
        words = text.split()
        try:
            if len(words) not in {2, 3} or not words[0].endswith("."):
                raise ValueError
            if not (any_type and words[1] == "*"):
                dns.rdatatype.from_text(words[1])
            if len(words) == 3:
                dns.rdataclass.from_text(words[2])
        except (ValueError, dns.exception.DNSException):
            raise self._wrong(f"{text!r} is no question", "NAME. TYPE [CLASS]") from None
        return Question(*words)

    def _record(self, text: str) -> str:
        words = text.split(None, 4)
        try:
            if len(words) < 5 or not words[0].endswith(".") or words[2] != "IN":
                raise ValueError
            rrset = dns.rrset.from_text(words[0], int(words[1]), words[2], words[3], words[4])
        except (ValueError, dns.exception.DNSException):
            raise self._wrong(f"{text!r} is no record", "NAME. TTL IN TYPE DATA") from None
        return str(rrset.to_text())

    def _message(self, rcode: str, words: str, first: str) -> Message:
        """Return a message: `words` as in `, aa, error 22`, its first answer record and the section lines below."""
        try:
            dns.rcode.from_text(rcode)
        except dns.exception.DNSException:
            raise self._wrong(f"{rcode!r} is no rcode", "NOERROR, NXDOMAIN, SERVFAIL, REFUSED ...") from None
        said = [word.strip() for word in words.split(",")[1:]]
        error = None
        for word in list(said):
            if found := re.fullmatch(r"error (\d+)", word):
                error = int(found[1])
                said.remove(word)
            elif word not in MESSAGE_WORDS:
                raise self._wrong(f"{word!r} is nothing that a message is", f"{WORDS_TEXT}, error NUMBER")
        if "stale" in said:
            error = 19 if rcode == "NXDOMAIN" else 3  # RFC 8914 section 4.4 and 4.20
        records: dict[Section, list[str]] = {section: [] for section in SECTIONS}
        if first:
            records["answer"].append(self._record(first))
        while self._next < len(self._lines):
            columns = _Line(0, re.sub(r"\s{2,}#.*", "", self._lines[self._next].text)).columns()
            section = next((section for section in SECTIONS if section == columns[0]), None)
            if section is None:
                break
            self._here = self._lines[self._next].number
            records[section].append(self._record(columns[1] if len(columns) == 2 else ""))
            self._next += 1
        return Message(rcode, frozenset(said), error, *(tuple(records[section]) for section in SECTIONS))

    # One method for each form

    def answers(self, found: re.Match[str], operand: str) -> Action:
        name, _, _, rdtype, *_ = (*operand.split(), "", "", "", "")
        message = self._message("NOERROR", found["words"], operand)
        return Answers(found["who"], Question(name, rdtype), message)

    def says(self, found: re.Match[str], operand: str) -> Action:
        question = self._question(operand, any_type=True)
        return Answers(found["who"], question, self._message(found["rcode"], found["words"], ""))

    def turns(self, found: re.Match[str], operand: str) -> Action:
        return Turns(found["who"], found["state"])

    def silent_to(self, found: re.Match[str], operand: str) -> Action:
        return Turns(found["who"], "is silent", self._question(operand, any_type=True))

    def holds(self, found: re.Match[str], operand: str) -> Action:
        return Holds(found["who"], self._question(operand), found["verb"] == "holds")

    def was_asked(self, found: re.Match[str], operand: str) -> Action:
        times = NUMBERS.get(found["times"])
        question, *how = [part.strip() for part in operand.split(",")]
        if how not in ([], ["over TCP"], ["over UDP"]):
            raise self._wrong(f"{how} is no protocol", "QUESTION, over TCP or over UDP")
        proto: Literal["udp", "tcp"] | None = None
        if how:
            proto = "tcp" if how == ["over TCP"] else "udp"
        number = times if times is not None else int(found["times"].split()[0])
        return WasAsked(found["who"], number, self._question(question), proto)

    def asks(self, found: re.Match[str], operand: str) -> Action:
        question, *how = [part.strip() for part in operand.split(",")]
        options = set()
        edns_size = opcode = 0
        for word in how:
            if size := re.fullmatch(r"EDNS (\d+)", word):
                edns_size = int(size[1])
                options.add("EDNS")
            elif number := re.fullmatch(r"opcode (\d+)", word):
                opcode = int(number[1])
            elif word in OPTIONS:
                options.add(word)
            else:
                raise self._wrong(f"{word!r} is no way to ask", f"{sorted(OPTIONS)}, EDNS SIZE, opcode NUMBER")
        return Asks(_who(found), self._question(question), frozenset(options), edns_size or 1232, opcode)

    def asks_again(self, found: re.Match[str], operand: str) -> Action:
        return AsksAgain(_who(found))

    def gets(self, found: re.Match[str], operand: str) -> Action:
        return Gets(_who(found), self._message(found["rcode"], found["words"], operand))

    def hears_nothing(self, found: re.Match[str], operand: str) -> Action:
        return HearsNothing(_who(found))

    def leaves(self, found: re.Match[str], operand: str) -> Action:
        return Leaves(_who(found))

    def reload(self, found: re.Match[str], operand: str) -> Action:
        return Reload(self._block(), found["how"] == "reload:")

    def file(self, found: re.Match[str], operand: str) -> Action:
        return File(found["name"], self._block() + "\n")


def _who(found: re.Match[str]) -> str:
    return (found["who"] or "").strip()


_UPSTREAM = r"upstream (?P<who>\w+) "
_CLIENT = r"client(?P<who> \w+)? "
_MESSAGE = r"(?P<rcode>[A-Z]+)(?P<words>(, [a-z0-9 ]+?)*)"

FORMS: dict[str, tuple[str, Callable[[_Parser, re.Match[str], str], Action]]] = {
    "upstream U answers  RECORD": (_UPSTREAM + r"answers(?P<words>(, [a-z0-9 ]+)*)", _Parser.answers),
    "upstream U says MESSAGE to  QUESTION": (_UPSTREAM + "says " + _MESSAGE + " to", _Parser.says),
    "upstream U is silent": (_UPSTREAM + "(?P<state>is silent)", _Parser.turns),
    "upstream U is silent to  QUESTION": (_UPSTREAM + "is silent to", _Parser.silent_to),
    "upstream U is gone": (_UPSTREAM + "(?P<state>is gone)", _Parser.turns),
    "upstream U is back": (_UPSTREAM + "(?P<state>is back)", _Parser.turns),
    "upstream U hangs up": (_UPSTREAM + "(?P<state>hangs up)", _Parser.turns),
    "upstream U leads back to us": (_UPSTREAM + "(?P<state>leads back to us)", _Parser.turns),
    "upstream U holds  QUESTION": (_UPSTREAM + "(?P<verb>holds)", _Parser.holds),
    "upstream U releases  QUESTION": (_UPSTREAM + "(?P<verb>releases)", _Parser.holds),
    "upstream U was asked once|twice|N times  QUESTION": (
        _UPSTREAM + r"was asked (?P<times>once|twice|\d+ times)",
        _Parser.was_asked,
    ),
    "upstream U was never asked  QUESTION": (_UPSTREAM + "was (?P<times>never) asked", _Parser.was_asked),
    "client C asks  QUESTION, OPTION, ...": (_CLIENT + "asks", _Parser.asks),
    "client C asks again": (_CLIENT + "asks again", _Parser.asks_again),
    "client C gets MESSAGE  RECORD": (_CLIENT + "gets " + _MESSAGE, _Parser.gets),
    "client C hears nothing": (_CLIENT + "hears nothing", _Parser.hears_nothing),
    "client C leaves": (_CLIENT + "leaves", _Parser.leaves),
    "reload:": ("(?P<how>reload:)", _Parser.reload),
    "reload fails:": ("(?P<how>reload fails:)", _Parser.reload),
    "file NAME:": (r"file (?P<name>[\w.]+):", _Parser.file),
}
"""What can happen: as README.md writes it, as a pattern of the first column, and who reads the rest."""
