"""From the TO words of `forward` to addresses: files are read and watched, host names resolved and resolved again.

What callers may rely on:

- The last known addresses are kept until a non-empty set arrives: an empty or unreadable resolv.conf and a resolver
  that does not answer change nothing.
- An address that we listen on is never an upstream: with interception on, the kube-dns Service address is us.
- `changed` is called in the loop with the whole new list, and only when it differs from the last one.
"""

import asyncio
import ipaddress
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from resolver import logs
from resolver.clock import Timers
from resolver.errors import Malformed, UpstreamError
from resolver.forward.match import matches
from resolver.forward.options import ForwardOptions, Target
from resolver.forward.resolvconf import parse_resolv_conf
from resolver.forward.tcp import StreamPool
from resolver.metrics import ConnCounts
from resolver.wire import names
from resolver.wire.header import HEADER, HEADER_BYTES, RD, TYPE_A, TYPE_AAAA
from resolver.wire.ttls import scan, skip_name

UPSTREAMS_MAX = 64
"""Addresses of one directive; a headless Service with more pods than that is used in part."""

FILE_EVERY_S = 2.0
NAME_TTL_MIN_S = 1.0
NAME_TTL_MAX_S = 300.0
NAME_RETRY_S = 5.0
NAME_TIMEOUT_S = 2.0

SYSTEM_RESOLV_CONF = "/etc/resolv.conf"


class Address(NamedTuple):
    """Where an upstream is, and how it wants to be asked."""

    host: str
    port: int
    tls: bool
    server_name: str


def parse_addresses(packet: bytes) -> tuple[list[str], int]:
    """Return the A and AAAA addresses of an answer and its smallest TTL in seconds. Raises Malformed."""
    found = scan(packet)
    hosts: list[str] = []
    try:
        position = found.question_end
        for _ in range(found.answers):
            position = skip_name(found.packet, position) + 10
            rtype, _, _, rdata_bytes = struct.unpack_from(">HHIH", found.packet, position - 10)
            rdata = found.packet[position : position + rdata_bytes]
            position += rdata_bytes
            if (rtype, len(rdata)) in {(TYPE_A, 4), (TYPE_AAAA, 16)}:
                hosts.append(str(ipaddress.ip_address(rdata)))
    except (IndexError, struct.error):
        raise Malformed("the message ends too early") from None
    return hosts, found.min_ttl_s or 0


class Discovery:
    """The addresses of one list of targets, kept up to date until `close`."""

    def __init__(
        self,
        targets: Sequence[Target],
        options: ForwardOptions,
        timers: Timers,
        is_own: Callable[[str, int], bool],
        changed: Callable[[list[Address]], None],
        remembered: dict[Target, list[Address]],
    ) -> None:
        """Watch nothing yet. `remembered` outlives a reload: what a target was last known to be."""
        self._targets = tuple(targets)
        self._options = options
        self._timers = timers
        self._is_own = is_own
        self._changed = changed
        self._remembered = remembered
        self._known = {target: remembered.get(target, []) for target in targets}
        self._last: list[Address] | None = None
        self._refused: set[Address] = set()  # ours, and said so
        self._tasks: list[asyncio.Task[None]] = []
        for target in self._targets:
            if target.kind == "address":
                self._known[target] = [Address(target.host, target.port, target.tls, target.server_name)]

    async def start(self) -> None:
        """Read what can be read at once, report it, and watch the rest in the background."""
        loop = asyncio.get_running_loop()
        for target in self._targets:
            if target.kind == "file":
                await self._read(target)
        self._report()
        for target in self._targets:
            if target.kind != "address":
                watch = self._watch_file(target) if target.kind == "file" else self._watch_name(target)
                self._tasks.append(logs.held(loop.create_task(watch), f"upstreams from {target.text}"))

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _learn(self, target: Target, addresses: list[Address]) -> None:
        if addresses and addresses != self._known[target]:
            self._known[target] = self._remembered[target] = addresses
            self._report()

    def _report(self) -> None:
        """Tell `changed` of the addresses, if they are others than last time."""
        usable: list[Address] = []
        for target in self._targets:
            for address in self._known[target]:
                if self._is_own(address.host, address.port):
                    if address not in self._refused:
                        self._refused.add(address)
                        # A sidecar's resolv.conf names the sidecar, and others after it: that is as it should be.
                        say = logs.info if target.kind == "file" and len(self._known[target]) > 1 else logs.error
                        say(
                            f"upstream {address.host}:{address.port} (from {target.text}) is an address that we "
                            "listen on; it is left out",
                            plugin="forward",
                        )
                elif address not in usable:
                    usable.append(address)
        if usable != self._last and (usable or self._last is None):
            self._last = usable
            self._changed(usable[:UPSTREAMS_MAX])

    async def _read(self, target: Target) -> None:
        try:
            text = await asyncio.get_running_loop().run_in_executor(None, _read_text, target.host)
        except (OSError, UnicodeDecodeError) as error:
            logs.warning(f"cannot read {target.host}: {error}; its last known upstreams stay", plugin="forward")
            return
        self._learn(target, [Address(host, target.port, False, "") for host in parse_resolv_conf(text)])

    async def _watch_file(self, target: Target) -> None:
        while True:
            await self._timers.sleep(FILE_EVERY_S)
            await self._read(target)

    async def _watch_name(self, target: Target) -> None:
        while True:
            ttl_s = NAME_RETRY_S
            try:
                hosts, ttl_s = await self._resolve(target)
            except (UpstreamError, Malformed) as error:
                logs.warning(f"cannot resolve upstream {target.host}: {error}", plugin="forward")
            else:
                self._learn(
                    target, [Address(host, target.port, target.tls, target.server_name) for host in sorted(hosts)]
                )
            await self._timers.sleep(min(max(ttl_s, NAME_TTL_MIN_S), NAME_TTL_MAX_S))

    async def _resolve(self, target: Target) -> tuple[list[str], float]:
        """Return addresses and TTL of a host name. Raises UpstreamError or Malformed."""
        resolvers = [(resolver.host, resolver.port) for resolver in self._options.resolver_targets]
        if not resolvers:
            loop = asyncio.get_running_loop()
            try:
                text = await loop.run_in_executor(None, _read_text, SYSTEM_RESOLV_CONF)
            except (OSError, UnicodeDecodeError) as error:
                raise UpstreamError(f"{SYSTEM_RESOLV_CONF}: {error}") from None
            resolvers = [(host, 53) for host in parse_resolv_conf(text)]
        resolvers = [resolver for resolver in resolvers if not self._is_own(*resolver)]
        last: Exception = UpstreamError("no resolver to ask; name one with `resolver`")
        for host, port in resolvers:
            try:
                answers = [await self._ask(host, port, target.host, qtype) for qtype in (TYPE_A, TYPE_AAAA)]
            except (UpstreamError, Malformed) as error:
                last = error
                continue
            found = [(hosts, ttl_s) for hosts, ttl_s in answers if hosts]
            if found:
                return [host for hosts, _ in found for host in hosts], float(min(ttl_s for _, ttl_s in found))
            last = UpstreamError(f"{host} has no address for it")
        raise last

    async def _ask(self, host: str, port: int, name: str, qtype: int) -> tuple[list[str], int]:
        """Ask one resolver over TCP: rare, small, and never truncated."""
        question = names.from_text(name.lower()) + struct.pack(">HH", qtype, 1)
        query = HEADER.pack(0, RD, 1, 0, 0, 0) + question
        pool = StreamPool(
            host,
            port,
            tls=None,
            server_name="",
            source_address=self._options.source_address,
            timers=self._timers,
            expire_s=1.0,
            max_age_s=0.0,
            max_idle_conns=1,
            counts=ConnCounts(),
        )
        try:
            packet = await pool.ask(query, NAME_TIMEOUT_S)
        finally:
            await pool.close()
        if not matches(packet, question) or len(packet) < HEADER_BYTES:
            raise UpstreamError(f"{host}:{port} answered another question")
        return parse_addresses(packet)


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
