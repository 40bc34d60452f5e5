"""The hand-over directory: whose it has to be, and files that are whole or not there."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from resolver.errors import BadSnapshot, HandoverFailed
from resolver.system.directory import SNAPSHOT, UNBORN_S, Directory, Replacement


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    made = Directory(str(tmp_path / "handover"))
    yield made
    made.close()


def write(directory: Directory, data: bytes) -> None:
    replacement = Replacement.begin(directory)
    assert replacement is not None
    replacement.write(data)
    replacement.commit()


def read(directory: Directory) -> bytes:
    file = directory.open_snapshot()
    assert file is not None
    try:
        return file.read()
    finally:
        file.close()


def test_it_is_made_for_us_alone(directory: Directory) -> None:
    assert os.stat(directory.path).st_mode & 0o7777 == 0o700
    Directory(directory.path).close()


@pytest.mark.parametrize("mode", [0o701, 0o750, 0o770, 0o1777])
def test_one_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(HandoverFailed, match=f"mode {mode:04o}, .*chmod 0700"):
        Directory(str(tmp_path))


@pytest.mark.parametrize("kind", ["link", "file", "nowhere"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "handover"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to("elsewhere")
    elif kind == "file":
        path.write_text("")
    else:
        path = path / "below"
    with pytest.raises(HandoverFailed, match="-handover-dir"):
        Directory(str(path))


def test_a_file_is_replaced_as_a_whole_or_not_at_all(directory: Directory) -> None:
    assert directory.open_snapshot() is None
    write(directory, b"first")
    replacement = Replacement.begin(directory)
    assert replacement is not None
    replacement.write(b"seco")
    assert read(directory) == b"first"
    assert Replacement.begin(directory) is None  # somebody is at it
    replacement.abandon()
    write(directory, b"third")
    assert read(directory) == b"third"
    assert os.listdir(directory.fd) == [SNAPSHOT]
    assert os.stat(SNAPSHOT, dir_fd=directory.fd).st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_is_taken_over(directory: Directory) -> None:
    replacement = Replacement.begin(directory)
    assert replacement is not None
    replacement.write(b"a long text that was never finished")
    os.close(replacement._fd)  # as the kernel does it
    write(directory, b"short")
    assert read(directory) == b"short"
    assert os.listdir(directory.fd) == [SNAPSHOT]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
def test_a_snapshot_that_is_no_file_is_refused_and_not_waited_for(directory: Directory, make: object) -> None:
    assert callable(make)
    make(Path(directory.path) / SNAPSHOT)
    with pytest.raises(BadSnapshot, match="no plain file"):
        directory.open_snapshot()


def test_a_socket_appears_when_it_listens(directory: Directory) -> None:
    with directory.listen("1.x", 1), directory.listen("3.x", 1), directory.listen("2.x", 1):
        assert directory.sockets(".x") == ["3.x", "2.x", "1.x"]
        assert directory.sockets(".y") == []
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(directory.address("2.x"))
    directory.remove("1.x")
    directory.remove("1.x")
    assert directory.sockets(".x") == ["3.x", "2.x"]


def test_sockets_that_never_came_to_listen_are_removed_after_a_while(directory: Directory) -> None:
    for name in ("young.x.new", "old.x.new"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(directory.address(name))
    long_ago_s = os.stat("old.x.new", dir_fd=directory.fd).st_mtime - UNBORN_S - 1
    os.utime(Path(directory.path) / "old.x.new", (long_ago_s, long_ago_s))
    assert directory.sockets(".x") == []
    assert os.listdir(directory.fd) == ["young.x.new"]


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 50)
    directory = Directory(str(path))
    with directory.listen("1.x", 1), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(directory.address("1.x"))
    directory.close()
