"""Frames and descriptors between two generations: whole, in order, for nobody else."""

import asyncio
import os
import socket

import pytest

from resolver.errors import HandoverFailed
from resolver.system.channel import FDS_MAX, Channel


def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    return Channel(ours), Channel(theirs)


async def test_frames_arrive_whole_and_in_order_however_large() -> None:
    one, other = pair()
    sent = [(kind, os.urandom(kind * 9_000)) for kind in range(20)]

    async def send() -> None:
        for kind, payload in sent:
            await one.send(kind, payload)
        await one.send_raw(b"raw bytes")

    sending = asyncio.create_task(send())
    assert [await other.receive() for _ in sent] == sent
    assert await other.raw(9) == b"raw bytes"
    await sending
    one.close()
    with pytest.raises(HandoverFailed, match="has ended"):
        await other.receive()
    other.close()


async def test_descriptors_are_closed_on_exec_and_with_the_channel() -> None:
    one, other = pair()
    reading, writing = os.pipe()
    await one.send(1, b"", [reading, writing])
    await other.receive()
    (taken,) = other.take_fds(1)
    assert not os.get_inheritable(taken)
    with pytest.raises(HandoverFailed, match="missing"):
        other.take_fds(2)
    for fd in (taken, reading, writing):
        os.close(fd)
    other.close()
    one.close()


async def test_more_descriptors_than_anybody_needs_are_refused() -> None:
    one, other = pair()
    reading, writing = os.pipe()
    for _ in range(FDS_MAX // 64):
        await one.send(1, b"", [reading] * 64)
        await other.receive()
    await one.send(1, b"", [reading])
    with pytest.raises(HandoverFailed, match="did not fit"):
        await other.receive()
    for fd in (reading, writing):
        os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    other.close()
    assert len(os.listdir("/proc/self/fd")) < before - FDS_MAX
    one.close()


async def test_another_users_process_is_not_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with theirs, pytest.raises(HandoverFailed, match=f"user {os.getuid()}"):
        Channel(ours)
    assert ours.fileno() < 0


async def test_who_waits_when_it_is_closed_is_told() -> None:
    one, other = pair()
    waiting = asyncio.create_task(other.receive())
    await asyncio.sleep(0)
    other.close()
    with pytest.raises(HandoverFailed):
        await waiting
    one.close()


async def test_garbage_is_no_frame() -> None:
    one, other = pair()
    await one.send_raw(b"\1\0\0\0\4\0\0\0\0abcd")
    with pytest.raises(HandoverFailed, match="checksum"):
        await other.receive()
    await one.send_raw(b"\1\xff\xff\xff\xff\0\0\0\0")
    with pytest.raises(HandoverFailed, match="at most"):
        await other.receive()
    one.close()
    other.close()
