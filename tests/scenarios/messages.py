"""From a story's words to messages, and whether an answer is the one that a story wants. Pure."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.scenarios.story import SECTIONS, Asks, Message
from tests.support import scripted
from tests.support.client import parse as parse_answer
from tests.support.client import query


def reply_of(message: Message) -> scripted.Reply:
    """Return what an upstream does that says `message`."""
    return scripted.Reply(
        records=message.answer,
        authority=message.authority,
        additional=message.additional,
        rcode=message.rcode,
        aa="aa" in message.words,
        ad="ad" in message.words,
        truncate="truncated" in message.words,
        edns_size=0 if "no edns" in message.words else 1232,
    )


def query_of(asks: Asks) -> bytes:
    """Return a client's query, with an ID of its own."""
    options = asks.options
    message = query(
        asks.question.name,
        asks.question.rdtype,
        rdclass=asks.question.rdclass,
        edns="EDNS" in options,
        do="DO" in options,
        cd="CD" in options,
        ad="AD" in options,
        rd="no RD" not in options,
        size=asks.edns_size,
    )
    wire = bytearray(message.to_wire())
    wire[2] |= asks.opcode << 3
    return bytes(wire)


def compare(wire: bytes, asked: bytes, wanted: Message) -> None:
    """Assert that `wire` answers `asked`, letter for letter, with what is wanted and nothing more."""
    question = dns.message.from_wire(asked, question_only=True)
    answer = parse_answer(wire, to=asked)
    if answer.question:
        end = 12 + len(question.question[0].name.to_wire() or b"") + 4
        assert wire[12:end] == asked[12:end], f"letter case: {answer.question[0]}, asked {question.question[0]}"
    errors = [int(option.code) for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    flags = {word for word in ("aa", "ad", "cd", "tc") if answer.flags & dns.flags.from_text(word.upper())}
    assert answer.flags & dns.flags.RA, "RA is not set"
    assert (answer.flags ^ question.flags) & dns.flags.RD == 0, "RD is not the query's"
    edns = dns.message.from_wire(asked).edns >= 0
    assert (answer.edns >= 0) == edns, f"an OPT record: {answer.edns >= 0}, in the query: {edns}"
    said = Message(
        dns.rcode.to_text(answer.rcode()),
        frozenset(flags),
        errors[0] if errors else None,
        *(tuple(sorted(_lines(getattr(answer, section)))) for section in SECTIONS),
    )
    expected = Message(
        wanted.rcode,
        wanted.words & {"aa", "ad", "cd", "tc"},
        wanted.error,
        *(tuple(sorted(map(_lower_owner, getattr(wanted, section)))) for section in SECTIONS),
    )
    assert said == expected, f"got {_text(said)}\nnot {_text(expected)}"


def _lines(section: list[dns.rrset.RRset]) -> list[str]:
    return [_lower_owner(line) for rrset in section for line in rrset.to_text().splitlines()]


def _lower_owner(line: str) -> str:
    """Owners are compressed to the question's name, so they have the asker's letter case."""
    name, rest = line.split(" ", 1)
    return f"{name.lower()} {rest}"


def _text(message: Message) -> str:
    words = [message.rcode, *sorted(message.words)]
    if message.error is not None:
        words.append(f"error {message.error}")
    records = [f"\n    {section} {line}" for section in SECTIONS for line in getattr(message, section)]
    return ", ".join(words) + "".join(records)
