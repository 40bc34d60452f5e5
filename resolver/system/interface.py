"""The device with our addresses: what is missing, and the commands that put it back.

What callers may rely on:

- An address that some device has is not missing, whoever put it there (kube-ipvs0, another generation of ours).
- The device is a dummy as node-local-dns makes it, and stays down as there: addresses of both families work on it.
  Where the kernel has no dummy it is a bridge without ports; where it has neither, the addresses are on `lo`.
- A device that we made bears our alias, so that any generation knows it. `remove` takes away a device with our
  alias; from other devices it takes the addresses that this process put there, and nothing else.

`missing_of` is pure; the rest runs `ip`.
"""

import ipaddress
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resolver.errors import CommandFailed
from resolver.system import commands
from resolver.system.options import NodeOptions

ALIAS = "node-resolver"
KINDS = ("dummy", "bridge")
LOOPBACK = "lo"


class Missing(NamedTuple):
    """What was not there and was put back: for the log and the counters. Empty (false) when all was there."""

    device: str = ""
    addresses: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.device or self.addresses)


def missing_of(listing: str, device: str, wanted: Sequence[str]) -> Missing:
    """Return what of `wanted` no device has, by the output of `ip -j addr`, and `device` if that is not there.

    A loopback address (127.0.0.0/8, ::1) is always there. Without a missing address no device is missed.
    Raises ValueError if `listing` is not what `ip` prints.
    """
    devices: list[dict[str, Any]] = json.loads(listing or "[]")
    try:
        names = {str(each["ifname"]) for each in devices if each}
        present = {ipaddress.ip_address(one["local"]) for each in devices for one in each.get("addr_info", ())
                   if "local" in one}  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a list of devices: {error}") from None
    addresses = tuple(
        text
        for text in wanted
        if (address := ipaddress.ip_address(text)) not in present and not address.is_loopback
    )
    return Missing(device if addresses and device not in names else "", addresses)


def add_command(address: str, device: str) -> tuple[str, ...]:
    """Return the command that puts `address`, alone in its network, on `device`."""
    # Duplicate address detection would refuse the address where another node of the link has it: all of them do.
    return ("ip", "addr", "add", _alone(address), "dev", device, *(("nodad",) if ":" in address else ()))


def _alone(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


class Interface:
    """Our device. `device` is where addresses are put: `-interfacename`, or `lo` where no device can be made."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.device = options.interface_name
        self._added: dict[str, str] = {}  # address -> device, by this process

    async def ensure(self) -> Missing:
        """Put back what is missing of device and addresses, and return it.

        Raises CommandFailed for the first thing that could not be put back, after all others were.
        """
        try:
            missing = missing_of(await self._ip("-j", "addr"), self.device, self.options.local_ips)
        except ValueError as error:
            raise CommandFailed("ip", "unsupported", f"{error}; iproute2 4.13 or newer is needed") from None
        if missing.device:
            await self._make()
        refused: CommandFailed | None = None
        for address in missing.addresses:
            try:
                await commands.run(add_command(address, self.device), timeout_s=self.options.command_s)
                self._added[address] = self.device
            except CommandFailed as failure:
                if not _is_there(failure):
                    refused = refused or failure
        if refused is not None:
            raise refused
        return missing

    async def remove(self) -> None:
        """Remove what is ours: the device that we made, or the addresses that we added. Raises CommandFailed."""
        name = self.options.interface_name
        if f'"ifalias":"{ALIAS}"' in await self._unless_gone("-j", "link", "show", "dev", name):
            await self._unless_gone("link", "del", name)
        for address, device in tuple(self._added.items()):
            await self._unless_gone("addr", "del", _alone(address), "dev", device)
            del self._added[address]

    async def _make(self) -> None:
        """Make the device of the best kind that this kernel has; `lo` is always there."""
        name = self.options.interface_name
        for kind in KINDS:
            try:
                await self._ip("link", "add", name, "type", kind)
                await self._ip("link", "set", name, "alias", ALIAS)
            except CommandFailed as failure:
                if _is_there(failure):
                    return  # another generation was faster
                if failure.kind != "unsupported":
                    raise
            else:
                self.device = name
                return
        self.device = LOOPBACK

    async def _unless_gone(self, *words: str) -> str:
        """Run `ip`; that the thing is not there is no failure."""
        return await self._run(words, lambda said: "Cannot find device" in said or "Cannot assign" in said
                               or "does not exist" in said)  # fmt: skip

    async def _ip(self, *words: str) -> str:
        return await self._run(words, lambda _: False)

    async def _run(self, words: Sequence[str], forgiven: Callable[[str], bool]) -> str:
        try:
            return (await commands.run(("ip", *words), timeout_s=self.options.command_s)).stdout
        except CommandFailed as failure:
            if forgiven(failure.problem):
                return ""
            raise


def _is_there(failure: CommandFailed) -> bool:
    return "File exists" in failure.problem or "already assigned" in failure.problem
