"""The end of the real process when nobody follows, and the start of one when nobody is there any more."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.succession import generations
from tests.succession.generations import Place, until
from tests.succession.load import Load, TcpLoad, asking
from tests.succession.test_update import KNOWN, PER_S, address, wait, warm
from tests.support.client import records
from tests.support.process import Server
from tests.support.surroundings import ask


@pytest.fixture
def place() -> Iterator[Place]:
    with generations.place("cache 300") as made:
        yield made


@pytest.mark.parametrize("directory", [True, False], ids=["with a hand-over directory", "without"])
def test_sigterm_under_load_loses_nothing_though_nobody_follows(place: Place, directory: bool) -> None:
    """Whoever was not answered was told so at once: the port was closed, and clients go elsewhere without waiting.

    Slow questions are on their way meanwhile, so that the process has to stay for them.
    """
    generation = place.start(directory=directory)
    warm(place)
    release = place.upstream.hold("s")
    udp = Load(address(place), KNOWN, 4_000, clients=32)
    slow = Load(address(place), [f"s{number}.example." for number in range(50)], 50, clients=4)
    kept, fresh = TcpLoad(address(place), KNOWN, 200), TcpLoad(address(place), KNOWN, 200, fresh=True)
    with asking(udp, slow, kept, fresh):
        until(lambda: place.upstream.held >= 4, 10.0)
        generation.send(signal.SIGTERM)
        wait(0.5)
        assert generation.lives
        release()
        assert generation.ended() == 0
    for load in (udp, slow):
        assert not load.tally.lost
        assert not load.tally.wrong
    assert slow.tally.answered >= 4
    for stream in (kept, fresh):
        assert all("refused" in trouble for trouble in stream.tally.troubles), stream.tally.troubles
    assert "Traceback" not in generation.output()


def test_after_a_kill_the_next_process_knows_what_was_known_and_how_old_it_is(place: Place) -> None:
    old = place.start(flags=("-snapshot-interval", "1s"))
    warm(place)
    known = place.upstream.asked["k"]
    until(lambda: "cache.snapshot" in place.files() and old.page().value("resolver_snapshots_total") >= 2, 10.0)
    assert (place.directory / "cache.snapshot").stat().st_mode & 0o777 == 0o600
    old.kill()
    killed_s = time.monotonic()
    wait(1.2)
    new = place.start()
    assert re.search(r"\[INFO\] \d+ answers from the snapshot of [1-9] s ago", new.output())
    load = Load(address(place), KNOWN, PER_S)
    with asking(load):
        wait(0.5)
    assert not load.tally.troubles
    assert place.upstream.asked["k"] == known
    (record,) = records(ask(server_at(place), KNOWN[0]))
    age_s = 300 - int(record.split()[1])
    assert time.monotonic() - killed_s - 1 <= age_s <= time.monotonic() - killed_s + 15
    assert new.page().value("resolver_inherited_answers", source="file") >= len(KNOWN)
    assert len([name for name in place.files() if name.endswith(".handover")]) == 1


def server_at(place: Place) -> Server:
    """Return what `ask` wants to know of the process that serves."""
    found = Server.__new__(Server)
    found.host, found.port = place.host, place.port
    return found


def test_at_sigterm_the_cache_is_written(place: Place) -> None:
    old = place.start()
    warm(place)
    assert old.stop() == 0
    assert place.files() == ["cache.snapshot"]
    new = place.start()
    assert f"{len(KNOWN)} answers from the snapshot of" in new.output()


def spoil_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def make_writable(path: Path) -> None:
    path.chmod(0o620)


def make_foreign(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n" * 100)


def make_another_users(path: Path) -> None:
    os.chown(path, 65534, 65534)


def make_later(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\0\2" + data[22:])


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


BAD = [
    pytest.param(spoil_byte, "a checksum is wrong", id="corrupt"),
    pytest.param(cut_off, "it is cut off", id="truncated"),
    pytest.param(make_writable, "its mode is 0620, others may write it", id="writable by others"),
    pytest.param(make_foreign, "it is no snapshot of ours", id="foreign"),
    pytest.param(make_another_users, "it belongs to user 65534", id="another user's"),
    pytest.param(make_later, "its format is version 2, ours is 1", id="a later version's"),
    pytest.param(make_empty, "it is cut off", id="empty"),
    pytest.param(make_a_link, "symbolic links", id="a link"),
]


@pytest.mark.parametrize(("spoil", "why"), BAD)
def test_a_snapshot_that_cannot_be_trusted_is_ignored_with_one_line(place: Place, spoil: object, why: str) -> None:
    if spoil is make_another_users and os.geteuid():
        pytest.skip("only root can give a file away")
    old = place.start()
    warm(place)
    assert old.stop() == 0
    assert callable(spoil)
    spoil(place.directory / "cache.snapshot")
    new = place.start()
    lines = [line for line in new.output().splitlines() if "snapshot" in line]
    assert len(lines) == 1
    assert re.search(rf"\[WARNING\] the snapshot in \S+ is ignored: .*{why}", lines[0]), lines
    assert "answers" not in lines[0]
    assert new.stop() == 0


DIRECTORIES = [
    pytest.param(0o755, None, r"it must be user \d+'s with mode 0700; run `chown \d+ ", id="others may look"),
    pytest.param(0o700, 65534, "belongs to user 65534", id="another user's"),
]


@pytest.mark.parametrize(("mode", "owner", "why"), DIRECTORIES)
def test_a_directory_that_is_not_ours_alone_is_an_error_with_the_remedy(
    place: Place, mode: int, owner: int | None, why: str
) -> None:
    if owner is not None and os.geteuid():
        pytest.skip("only root can give a directory away")
    place.directory.mkdir(mode=mode)
    place.directory.chmod(mode)
    if owner is not None:
        os.chown(place.directory, owner, owner)
    generation = place.start()
    assert re.search(rf"\[ERROR\] no hand-over: {place.directory} .*{why}.*; serving goes on", generation.output())
    warm(place)
    assert generation.stop() == 0
    assert place.files() == []


def test_a_directory_that_cannot_be_made(place: Place) -> None:
    place.directory = place.directory / "below" / "nothing"
    generation = place.start()
    assert "[ERROR] no hand-over: " in generation.output()
    assert (
        "No such file or directory; name a directory with -handover-dir whose parent exists" in generation.output()
    )
    warm(place)
    assert generation.stop() == 0


def test_a_full_disk_is_one_line_and_the_snapshot_of_before_stays(place: Place) -> None:
    """A file size limit of the process stands in for the disk."""
    first = place.start()
    warm(place)
    assert first.stop() == 0
    before = (place.directory / "cache.snapshot").read_bytes()
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    )
    second = place.start(before=limited, flags=("-snapshot-interval", "1s"))
    second.said("no snapshot of the cache in")
    until(lambda: second.page().value("resolver_snapshots_total", result="failed") >= 2, 10.0)
    assert second.output().count("no snapshot of the cache in") == 1
    assert (place.directory / "cache.snapshot").read_bytes() == before
    assert place.files() == [name for name in place.files() if not name.endswith(".new")]
    assert second.stop() == 0
