"""What stories may say, and how mistakes in them are shown."""

import re

import pytest

from tests.scenarios.language import FORMS, parse
from tests.scenarios.story import Answers, Asks, Gets, Question, Reload, Step, StoryError, Turns, WasAsked

HEAD = "# Why.\n\nCorefile:\n    cache\n\n"
FIRST_LINE = 1 + HEAD.count("\n")


def steps(*lines: str) -> tuple[Step, ...]:
    return parse(HEAD + "\n".join(lines), "story.txt").steps


def test_a_whole_story() -> None:
    story = parse(
        "# First reason,\n# second.\n\nCorefile:\n    cache 30\n    forward . <one>\n\n"
        "at 0s    upstream one answers  web.example. 30 IN A 192.0.2.7   # why not\n"
        "         client asks    web.example. A\n",
        "story.txt",
    )
    assert story.why == "First reason, second."
    assert story.corefile == "    cache 30\n    forward . <one>"
    assert [(step.line, step.at_s) for step in story.steps] == [(8, 0.0), (9, 0.0)]


def test_time_goes_on_until_it_is_set_again() -> None:
    taken = steps("at 500ms client asks  a. A", "client leaves", "by 2m  client asks  a. A")
    assert [(step.at_s, step.slowly) for step in taken] == [(0.5, False), (0.5, False), (120.0, True)]


def test_an_upstream_says_what_the_lines_below_it_say() -> None:
    (step,) = steps(
        "upstream one says NXDOMAIN, aa to  gone.example. *",
        "    authority  example. 60 IN SOA ns. h. 1 2 3 4 5",
        "    additional  ns. 60 IN A 192.0.2.1",
    )
    assert isinstance(step.action, Answers)
    assert step.action.question == Question("gone.example.", "*")
    assert step.action.message.words == {"aa"}
    assert len(step.action.message.authority) == len(step.action.message.additional) == 1


def test_stale_is_the_extended_error_for_it() -> None:
    taken = steps("client gets NOERROR, stale", "client gets NXDOMAIN, stale", "client b gets SERVFAIL, error 22")
    errors = [step.action.message.error for step in taken if isinstance(step.action, Gets)]
    assert errors == [3, 19, 22]  # RFC 8914 section 4


def test_how_a_client_asks() -> None:
    (step,) = steps("client a asks  web.example. A CH, EDNS 4096, no RD, over TCP, opcode 2")
    question = Question("web.example.", "A", "CH")
    assert step.action == Asks("a", question, frozenset({"EDNS", "no RD", "over TCP"}), 4096, 2)


def test_how_often_an_upstream_was_asked() -> None:
    taken = steps(
        "upstream one was never asked  a. A",
        "upstream one was asked twice  a. A, over TCP",
        "upstream one was asked 7 times  a. A",
    )
    claims = [(step.action.times, step.action.proto) for step in taken if isinstance(step.action, WasAsked)]
    assert claims == [(0, None), (2, "tcp"), (7, None)]


def test_a_block_goes_on_to_the_empty_line() -> None:
    taken = steps("reload fails:", "    cache 5", "    forward . <two>", "", "upstream one is gone")
    assert [step.action for step in taken] == [
        Reload("    cache 5\n    forward . <two>", False),
        Turns("one", "is gone", None),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("client sings", "'client sings' is nothing that happens"),
        ("client asks  web.example A", "'web.example A' is no question"),
        ("client asks  web.example. ADDRESS", "'web.example. ADDRESS' is no question"),
        ("client asks  web.example. *", "'web.example. *' is no question"),
        ("client asks  web.example. A, loudly", "'loudly' is no way to ask"),
        ("client gets NOTGOOD", "'NOTGOOD' is no rcode"),
        ("client gets NOERROR, fresh", "'fresh' is nothing that a message is"),
        ("client gets NOERROR  web.example. A 192.0.2.7", "'web.example. A 192.0.2.7' is no record"),
        ("upstream one answers  web.example. 30 IN A 192.0.2.256", "is no record"),
        ("upstream one was asked once  a. A, over SCTP", "is no protocol"),
        ("client asks  a. A  and more", "3 columns"),
        ("reload:", "an empty block"),
    ],
)
def test_mistakes_are_shown_where_they_are(line: str, problem: str) -> None:
    with pytest.raises(StoryError, match=rf"^story\.txt:{FIRST_LINE}: .*{re.escape(problem)}.*, accepted: \S"):
        steps(line)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("Corefile:\n    cache\n", 1, "begins with prose"),
        ("# Why.\nclient asks  a. A\n", 2, "the first thing is the configuration"),
        ("# Why.\nCorefile:\n    cache\n", 2, "nothing happens"),
        (HEAD + "at 2s client asks  a. A\nat 1s client leaves\n", FIRST_LINE + 1, "1s is before 2s"),
        (HEAD + "client gets NOERROR\n    answer  nothing\n", FIRST_LINE + 1, "'nothing' is no record"),
    ],
)
def test_mistakes_of_the_whole(text: str, line: int, problem: str) -> None:
    with pytest.raises(StoryError, match=rf"^story\.txt:{line}: .*{problem}"):
        parse(text, "story.txt")


def test_the_manual_has_every_form() -> None:
    from tests.scenarios.test_stories import HERE

    manual = (HERE / "README.md").read_text().replace("\\|", "|")
    missing = [form for form in FORMS if f"`{form}`" not in manual]
    assert not missing
