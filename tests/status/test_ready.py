"""When /ready is true."""

import pytest

from resolver.status.options import Monitor, parse_address
from resolver.status.ready import Readiness


def test_ready_once_every_part_has_said_so() -> None:
    readiness = Readiness()
    readiness.expect(["forward", "cache"])
    assert list(readiness.reasons) == ["cache", "forward"]
    readiness.set("forward", True)
    assert list(readiness.reasons) == ["cache"]
    readiness.set("cache", True)
    assert not readiness.reasons


MONITORS: list[tuple[Monitor, tuple[str, ...]]] = [("until-ready", ()), ("continuously", ("forward",))]


@pytest.mark.parametrize(("monitor", "reasons"), MONITORS)
def test_a_part_that_fails_later(monitor: Monitor, reasons: tuple[str, ...]) -> None:
    readiness = Readiness(monitor)
    readiness.expect(["forward"])
    readiness.set("forward", True)
    readiness.set("forward", False)
    assert readiness.reasons == reasons


def test_who_starts_is_not_ready_before_it_has_started() -> None:
    readiness = Readiness(starting=True)
    assert list(readiness.reasons) == ["Starting"]
    readiness.expect(["forward"])
    assert list(readiness.reasons) == ["forward"]
    readiness.set("forward", True)
    assert list(readiness.waits_for) == []
    assert list(readiness.reasons) == ["Starting"]
    readiness.started()
    assert list(readiness.reasons) == []


def test_the_end_is_for_good() -> None:
    readiness = Readiness()
    readiness.expect(["forward"])
    readiness.stop()
    readiness.set("forward", True)
    assert readiness.reasons == ("Shutting down",)


def test_a_reload_keeps_what_is_known() -> None:
    readiness = Readiness()
    readiness.expect(["forward"])
    readiness.set("forward", True)
    readiness.expect(["forward", "hosts"])
    assert list(readiness.reasons) == ["hosts"]
    readiness.set("forward", True)
    readiness.expect(["forward"])
    assert not readiness.reasons


def test_parts_that_nobody_expects_change_nothing() -> None:
    readiness = Readiness()
    readiness.set("forward", False)
    assert readiness.reasons == ()


ADDRESSES = [
    (":8080", ("", 8080)),
    ("127.0.0.1:9153", ("127.0.0.1", 9153)),
    ("localhost:9153", ("127.0.0.1", 9153)),
    ("[::1]:8181", ("::1", 8181)),
    ("[::]:8181", ("::", 8181)),
    ("0.0.0.0:0", ("0.0.0.0", 0)),
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "8080", "::1", "::1:8080", "10.0.0.1", "10.0.0.1:http", "10.0.0.1:65536", ":-1", "host:80", ":²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"8080|must be"):
        parse_address(text)
