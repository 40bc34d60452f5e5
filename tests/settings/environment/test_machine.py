"""This machine: bounded reads, and the kernel's list of addresses."""

import io
import socket
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import ConfigError
from resolver.settings.environment.interfaces import parse_addresses, read_addresses
from resolver.settings.environment.machine import FILE_MAX_BYTES, LocalMachine, read_stdin, why


def test_a_read_is_bounded() -> None:
    with pytest.raises(OSError, match="larger than") as caught:
        LocalMachine().read("/dev/zero")
    assert why(caught.value) == f"larger than {FILE_MAX_BYTES} bytes"


def test_files_directories_and_patterns(tmp_path: Path) -> None:
    machine = LocalMachine()
    for name in ("b.conf", "a.conf", ".c.conf", "d.txt"):
        (tmp_path / name).write_text(name)
    assert machine.matches(f"{tmp_path}/*.conf") == [f"{tmp_path}/a.conf", f"{tmp_path}/b.conf"]
    assert machine.is_file(f"{tmp_path}/a.conf")
    assert not machine.is_file(str(tmp_path))
    assert machine.is_directory(str(tmp_path))
    assert not machine.is_file("\0")
    assert machine.read(f"{tmp_path}/a.conf") == b"a.conf"
    with pytest.raises(OSError, match="No such file"):
        machine.read(f"{tmp_path}/x")


def test_standard_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b". {\n}")))
    assert read_stdin() == b". {\n}"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"x" * (FILE_MAX_BYTES + 1))))
    with pytest.raises(ConfigError, match="stdin: larger than"):
        read_stdin()


def test_this_machine_has_a_loopback_interface() -> None:
    assert "127.0.0.1" in read_addresses()["lo"]


def message(kind: int, body: bytes) -> bytes:
    raw = struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body
    return raw + bytes(-len(raw) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + bytes(-len(raw) % 4)


def address(family: int, index: int, *attributes: bytes) -> bytes:
    return message(20, struct.pack("=BBBBI", family, 24, 0, 0, index) + b"".join(attributes))


V4, V6 = socket.inet_aton("10.0.0.1"), socket.inet_pton(socket.AF_INET6, "fe80::1")
DONE = message(3, bytes(4))

#        the kernel's answer, what it says
ANSWERS = [
    pytest.param(b"", [], id="nothing"),
    pytest.param(address(socket.AF_INET, 2, attribute(1, V4)) + DONE, [(2, "10.0.0.1")], id="IPv4"),
    pytest.param(address(socket.AF_INET6, 3, attribute(1, V6)) + DONE, [(3, "fe80::1")], id="IPv6"),
    pytest.param(
        address(socket.AF_INET, 2, attribute(3, b"eth0\0"), attribute(1, b"\1\1\1\1"), attribute(2, V4)) + DONE,
        [(2, "10.0.0.1")],
        id="the local end of a point-to-point link",
    ),
    pytest.param(DONE + address(socket.AF_INET, 2, attribute(1, V4)), [], id="nothing behind the end"),
    pytest.param(address(socket.AF_INET, 2, attribute(1, V6)) + DONE, [], id="an address of the wrong size"),
    pytest.param(address(socket.AF_INET, 2) + DONE, [], id="no address"),
    pytest.param(message(16, b"link") + DONE, [], id="another kind of message"),
]


@pytest.mark.parametrize(("answer", "found"), ANSWERS)
def test_the_kernels_answer(answer: bytes, found: list[tuple[int, str]]) -> None:
    assert list(parse_addresses(answer)) == found


@pytest.mark.parametrize(
    ("answer", "problem"), [(message(2, bytes(20)), "refused"), (address(2, 1, attribute(1, V4))[:-1], "cut short")]
)
def test_the_kernels_refusal(answer: bytes, problem: str) -> None:
    with pytest.raises(OSError, match=problem):
        list(parse_addresses(answer))


@given(answer=st.binary(max_size=200))
def test_any_answer_is_addresses_or_an_os_error(answer: bytes) -> None:
    try:
        list(parse_addresses(address(socket.AF_INET, 1, answer)))
        list(parse_addresses(answer))
    except OSError:
        pass
