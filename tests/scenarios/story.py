"""What a story is made of: plain values, made by `language` and acted out by `stage`."""

from typing import Literal, NamedTuple

Section = Literal["answer", "authority", "additional"]
SECTIONS: tuple[Section, ...] = ("answer", "authority", "additional")


class StoryError(Exception):
    """A story that cannot be told: `file:line: what is wrong, what is accepted`."""


class Question(NamedTuple):
    """Name as written, type and class as words."""

    name: str
    rdtype: str
    rdclass: str = "IN"


class Message(NamedTuple):
    """An answer: rcode, words (`aa`, `stale` ...), the extended error, records by section."""

    rcode: str
    words: frozenset[str] = frozenset()
    error: int | None = None
    answer: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()


class Answers(NamedTuple):
    """`upstream WHO answers` or `says`: what it says to this question from now on."""

    who: str
    question: Question
    message: Message


class Turns(NamedTuple):
    """`upstream WHO is silent`, `is gone`, `is back`, `hangs up`, `leads back to us`; or silent to one question."""

    who: str
    state: str
    question: Question | None = None


class Holds(NamedTuple):
    """`upstream WHO holds` (its answers wait) or `releases` them."""

    who: str
    question: Question
    held: bool


class WasAsked(NamedTuple):
    """`upstream WHO was asked 2 times`: so often since the story began, over this protocol or any."""

    who: str
    times: int
    question: Question
    proto: Literal["udp", "tcp"] | None


class Asks(NamedTuple):
    """`client WHO asks`."""

    who: str
    question: Question
    options: frozenset[str]
    edns_size: int
    opcode: int


class AsksAgain(NamedTuple):
    """`client WHO asks again`: the same bytes from the same port."""

    who: str


class Gets(NamedTuple):
    """`client WHO gets`: the next answer that arrives is this one."""

    who: str
    message: Message


class HearsNothing(NamedTuple):
    """`client WHO hears nothing`: no answer has come."""

    who: str


class Leaves(NamedTuple):
    """`client WHO leaves`: it closes its socket, with whatever it waits for."""

    who: str


class Reload(NamedTuple):
    """`reload:` or `reload fails:` with the new Corefile."""

    text: str
    works: bool


class File(NamedTuple):
    """`file NAME:` with what stands in it from now on."""

    name: str
    text: str


Action = Answers | Turns | Holds | WasAsked | Asks | AsksAgain | Gets | HearsNothing | Leaves | Reload | File


class Step(NamedTuple):
    """One action, when it is taken and where it is written. `slowly`: time passes in small steps until then."""

    line: int
    at_s: float
    slowly: bool
    action: Action


class Story(NamedTuple):
    """A whole file. `why` is the prose on top."""

    file: str
    why: str
    corefile: str
    steps: tuple[Step, ...]
