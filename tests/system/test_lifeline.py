"""The kernel knows who is the last holder of the sockets."""

import os

from resolver.system.lifeline import Lifeline


def copied(lifeline: Lifeline) -> Lifeline:
    """As SCM_RIGHTS does it."""
    reading, writing = lifeline.ends
    return Lifeline((os.dup(reading), os.dup(writing)))


def test_who_is_alone_is_the_last() -> None:
    assert Lifeline().let_go()


def test_of_several_the_last_to_go_is_alone() -> None:
    first = Lifeline()
    second = copied(first)
    third = copied(second)
    assert not first.let_go()
    assert not third.let_go()
    assert second.let_go()
    assert not second.let_go()  # once is enough, and what was closed is not closed again


def test_its_ends_do_not_go_to_children() -> None:
    lifeline = Lifeline()
    assert not any(os.get_inheritable(end) for end in lifeline.ends)
    lifeline.let_go()
