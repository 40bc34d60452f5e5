"""Answers without records: an rcode, the question as it was asked, and the reason for who can read it."""

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.reply.failures import refuse
from resolver.wire.answer import Refusal
from resolver.wire.edns import EDE_NO_REACHABLE_AUTHORITY, EDE_PROHIBITED
from tests.reply.test_fit import FLAG, question_of

#       refusal, rcode, INFO-CODE for a client with EDNS
REFUSALS = [
    pytest.param(Refusal(5, EDE_PROHIBITED, "no server block"), 5, 18, id="REFUSED with a reason"),
    pytest.param(Refusal(2, EDE_NO_REACHABLE_AUTHORITY, "silence"), 2, 22, id="SERVFAIL with a reason"),
    pytest.param(Refusal(1), 1, None, id="FORMERR without one"),
    pytest.param(Refusal(2, 0, ""), 2, 0, id="INFO-CODE 0 is a code"),
    pytest.param(Refusal(16), 16, None, id="BADVERS has twelve bits"),
]


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(("refusal", "rcode", "code"), REFUSALS)
def test_with_edns_it_says_why(refusal: Refusal, rcode: int, code: int | None, do: bool) -> None:
    question = question_of("wEb.example.", edns=1232, do=do)
    answer = dns.message.from_wire(refuse(question, refusal))
    assert answer.rcode() == rcode
    assert answer.id == 0x1234
    assert str(answer.question[0]) == "wEb.example. IN A"
    assert bool(answer.ednsflags & dns.flags.DO) is do
    reasons = [(option.code, option.text) for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    assert reasons == ([] if code is None else [(code, refusal.ede_text or None)])


@pytest.mark.parametrize(("refusal", "rcode", "code"), REFUSALS)
def test_without_edns_it_is_a_header_and_the_question(refusal: Refusal, rcode: int, code: int | None) -> None:
    question = question_of()
    response = refuse(question, refusal)
    answer = dns.message.from_wire(response)
    assert answer.rcode() == rcode & 0xF
    assert answer.edns == -1
    assert len(response) == 12 + len(question.asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("RD", "QR RD RA"), ("", "QR RA"), ("RD CD", "QR RD RA CD"), ("RD AD", "QR RD RA")],
)
def test_header_bits(asked: str, expected: str) -> None:
    question = question_of(flags=sum(FLAG[bit] for bit in asked.split()))
    answer = dns.message.from_wire(refuse(question, Refusal(2)))
    assert set(dns.flags.to_text(answer.flags).split()) == set(expected.split())


@given(text=st.text(max_size=60), code=st.integers(0, 65535), rcode=st.integers(0, 4095))
def test_any_text_makes_an_answer_that_can_be_read(text: str, code: int, rcode: int) -> None:
    answer = dns.message.from_wire(refuse(question_of(edns=512), Refusal(rcode, code, text)))
    assert answer.rcode() == rcode
    assert len(answer.options) == 1
