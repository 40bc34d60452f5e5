"""The collector is off while we serve (its pauses would be seen), so nothing may need it."""

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from types import FrameType, FunctionType

import dns.edns
import pytest

from resolver.errors import UpstreamError
from tests.support import node, scripted
from tests.support.addresses import free_port, loopback
from tests.support.client import Tcp, Udp, query
from tests.support.scripted import Reply

QUESTIONS = 1_000
AT_ONCE = 50


async def ask_many(server: node.Node, wires: list[bytes], *, tcp: bool) -> None:
    """Ask all of `wires`, AT_ONCE at a time, over one socket."""
    if tcp:
        async with await Tcp.open(server.host, server.port) as stream:
            for start in range(0, len(wires), AT_ONCE):
                batch = wires[start : start + AT_ONCE]
                for wire in batch:
                    stream.send(wire)
                for _ in batch:
                    await stream.receive()
        return
    async with await Udp.open(server.host, server.port) as socket:
        for start in range(0, len(wires), AT_ONCE):
            batch = wires[start : start + AT_ONCE]
            for wire in batch:
                socket.send(wire)
            for _ in batch:
                await socket.receive()


def is_ours(thing: object) -> bool:
    """Tell whether `thing` is made by the package: an instance, a function or a frame of it."""
    frame = thing if isinstance(thing, FrameType) else getattr(thing, "cr_frame", None)
    if isinstance(frame, FrameType):
        return "/resolver/" in frame.f_code.co_filename
    module = thing.__module__ if isinstance(thing, FunctionType) else type(thing).__module__
    return str(module).startswith("resolver.")


def test_the_check_sees_a_cycle_of_ours() -> None:
    gc.collect()
    error = UpstreamError("a")
    error.__cause__ = UpstreamError("b")
    error.__cause__.__cause__ = error
    del error
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        assert sum(is_ours(thing) for thing in gc.garbage) == 2
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def wires_of(kind: str) -> list[bytes]:
    cookie = dns.edns.CookieOption(b"12345678", b"")
    if kind == "hits":
        return [query("web.example.", "A").to_wire()] * QUESTIONS
    if kind == "stored":
        return [query("WEB.example.", "A", edns=True, options=[cookie]).to_wire()] * QUESTIONS
    if kind == "refused":
        return [query("web.example.", "AXFR").to_wire()] * QUESTIONS
    if kind == "garbage":
        return [query("web.example.", "A").to_wire()[:14] for _ in range(QUESTIONS)]
    return [query(f"{kind}{number}.example.", "A").to_wire() for number in range(QUESTIONS)]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("kind", ["hits", "stored", "misses", "truncated", "servfail", "refused", "garbage"])
async def test_nothing_is_left_for_the_collector(kind: str, tcp: bool) -> None:
    async with (
        scripted.running() as upstream,
        node.serving(f"cache 30\nerrors\nforward . {upstream.host}:{upstream.port} {{\nprefer_udp\n}}") as server,
    ):
        address = "example. 300 IN A 192.0.2.7"
        upstream.answer("web.example.", "A", f"web.{address}")
        upstream.default = Reply(rcode="SERVFAIL") if kind == "servfail" else Reply(rcode="NXDOMAIN")
        if kind == "truncated":
            upstream.default = Reply(rcode="NXDOMAIN", truncate=True)
        wires = wires_of(kind)
        await ask_many(server, wires[:AT_ONCE], tcp=tcp)
        await asyncio.sleep(0)
        gc.collect()
        gc.disable()
        try:
            await ask_many(server, wires, tcp=tcp)
            gc.set_debug(gc.DEBUG_SAVEALL)
            found = gc.collect()
            ours = [thing for thing in gc.garbage if is_ours(thing)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    # The test's own client and scripted upstream make cycles too; ours are recognised by their classes.
    assert not ours, (found, ours[:3])


SERVE = """
import asyncio, gc, os, signal, sys
from resolver import daemon
from resolver.settings.loading import load
from resolver.settings.model import ProcessOptions

settings = load(ProcessOptions(conf=sys.argv[1]))
prepare = daemon.Daemon.prepare

async def prepare_and_end(self):
    await prepare(self)
    os.kill(os.getpid(), signal.SIGTERM)

daemon.Daemon.prepare = prepare_and_end
runs = []
gc.callbacks.append(lambda phase, info: runs.append((phase, info)))
code = daemon.run(settings)
print(runs, code, file=sys.stderr)
"""


def test_the_collector_does_not_run_from_the_start_on(tmp_path: Path) -> None:
    """One run takes 15 ms, and it would come when the listeners are open already."""
    host = loopback()
    corefile = tmp_path / "Corefile"
    corefile.write_text(f".:{free_port(host)} {{\n bind {host}\n prometheus {host}:0\n}}\n")
    run = subprocess.run(
        [sys.executable, "-c", SERVE, corefile], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == "[] 0\n"
