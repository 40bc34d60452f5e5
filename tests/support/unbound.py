"""A real unbound (Debian's) as upstream: what it answers is the truth that we are compared with.

    with unbound.running() as upstream:            # serves zones.ALL, authoritatively (AA set)
        upstream.host, upstream.port               # UDP and TCP
        await upstream.queries()                   # how many questions it has had so far
        upstream.stop()                            # from here on its port is closed

What callers may rely on: it answers when the block is entered (found by asking, not by waiting), it is the
caller's own process, on a loopback address of its own, and it is gone when the block is left, whatever
happened. Starting it blocks for some 50 ms, so do it in a (module or session) fixture rather than on a loop.

Zones are served as auth-zones: CNAMEs are followed inside a zone, DO brings RRSIG and NSEC. `local_data`
takes unbound's own lines (`local-zone: ...`, `local-data: ...`) instead; those answers follow no CNAME.
With `forward_to` it is a caching forwarder like us, for side-by-side measurements.
"""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support import zones
from tests.support.addresses import free_port, loopback
from tests.support.process import answers

START_S = 15.0
STOP_S = 5.0
START_TRIES = 3  # somebody may take the port between our look and its bind

_CONFIG = """\
server:
    interface: {host}@{port}
    access-control: 0.0.0.0/0 allow_snoop
    access-control: ::0/0 allow_snoop
    do-daemonize: no
    use-syslog: no
    log-time-ascii: no
    verbosity: 1
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    unblock-lan-zones: yes
    insecure-lan-zones: yes
    rrset-roundrobin: no
    minimal-responses: no
    statistics-cumulative: yes
    edns-buffer-size: 1232
    max-udp-size: 4096
    incoming-num-tcp: 100
    local-zone: "test." nodefault
{server_lines}
remote-control:
    control-enable: yes
    control-interface: "{folder}/control"
    control-use-cert: no
{sections}
"""

_ZONE = """\
auth-zone:
    name: "{name}"
    zonefile: "{path}"
    for-downstream: yes
    for-upstream: no
    fallback-enabled: no
"""

_FORWARD = """\
forward-zone:
    name: "."
    forward-addr: {host}@{port}
"""


class UnboundError(Exception):
    """unbound is not installed, or does not start; the text has its last lines."""


class Unbound:
    """One running unbound; made by `running()`."""

    def __init__(self, host: str, port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.port = port
        self.pid = process.pid
        self._folder = folder
        self._process = process

    async def statistics(self) -> dict[str, float]:
        """Return unbound's own counters, as `unbound-control stats_noreset` prints them."""
        reader, writer = await asyncio.open_unix_connection(str(self._folder / "control"))
        writer.write(b"UBCT1 stats_noreset\n")
        text = (await asyncio.wait_for(reader.read(-1), START_S)).decode()
        writer.close()
        await writer.wait_closed()
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
        return {name: float(value) for name, value in pairs}

    async def queries(self) -> int:
        """Return how many questions it has been asked since it started, over UDP and TCP."""
        return int((await self.statistics())["total.num.queries"])

    def stop(self) -> None:
        """End it now; its port is closed afterwards. Doing so twice is fine."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)


@contextlib.contextmanager
def running(
    *,
    served: Mapping[str, str] = zones.ALL,
    local_data: Sequence[str] = (),
    forward_to: tuple[str, int] | None = None,
    host: str | None = None,
    port: int | None = None,
    server_lines: Sequence[str] = (),
    pin_to_cpu: int | None = None,
) -> Iterator[Unbound]:
    """Run an unbound for the length of the block.

    served        Zone name to master-file text. Without `forward_to` something must cover ".": nothing
                  may be looked for on the internet.
    local_data    Lines of unbound's configuration in front of the zones, whose names they hide.
    forward_to    Forward what is in no zone to this address; `served` should be empty then.
    host, port    A loopback address of its own and a free port unless given.
    server_lines  More lines for its `server:` section.
    pin_to_cpu    The one processor that it may use.
    """
    executable = shutil.which("unbound", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if executable is None:
        raise UnboundError("unbound is not installed; `make test` as root installs it, or: apt-get install unbound")
    command = ([] if pin_to_cpu is None else ["taskset", "-c", str(pin_to_cpu)]) + [executable]
    address = host or loopback()
    with tempfile.TemporaryDirectory(prefix="unbound-") as name:
        folder = Path(name)
        sections = [_FORWARD.format(host=forward_to[0], port=forward_to[1])] if forward_to else []
        for number, (zone, text) in enumerate(served.items()):
            path = folder / f"{number}.zone"
            path.write_text(text)
            sections.append(_ZONE.format(name=zone, path=path))
        config = _CONFIG.format(
            host=address,
            port="{port}",
            folder=folder,
            server_lines="\n".join(f"    {line}" for line in (*local_data, *server_lines)),
            sections="".join(sections),
        )
        server = _start_somewhere(command, folder, config, address, port)
        try:
            yield server
        finally:
            server.stop()


def _start_somewhere(command: list[str], folder: Path, config: str, host: str, port: int | None) -> Unbound:
    """Start it on this port, or on a free one; somebody else may take that before it does, so try again then."""
    if port is not None:
        return _start(command, folder, config, host, port)
    for _ in range(START_TRIES - 1):
        with contextlib.suppress(UnboundError):
            return _start(command, folder, config, host, free_port(host))
    return _start(command, folder, config, host, free_port(host))


def _start(command: list[str], folder: Path, config: str, host: str, port: int) -> Unbound:
    """Start it and return once it answers; raises UnboundError, and leaves nothing running then."""
    (folder / "unbound.conf").write_text(config.replace("@{port}", f"@{port}"))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-d", "-c", str(folder / "unbound.conf")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Unbound(host, port, folder, process)
    if not answers(host, port, lambda: process.poll() is not None):
        server.stop()
        raise UnboundError(f"unbound does not answer on {host}:{port}:\n{log.read_text()[-2000:]}")
    return server
