"""The device with our addresses: which is missing, and what puts it back (pure), and who runs it (`Interface`)."""

from typing import NamedTuple

from resolver.system.options import NodeOptions


class Missing(NamedTuple):
    """What was not there and was put back: for the log and the counters. Empty (false) when all was there."""

    device: str = ""
    addresses: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.device or self.addresses)


class Interface:
    """Our device. `device` is where the addresses are: `-interfacename`, or `lo` where no device can be made."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.device = options.interface_name

    async def ensure(self) -> Missing:
        """Put back what is missing of device and addresses, and return it. Raises CommandFailed."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Remove what is ours: the device that we made, or the addresses that we added. Raises CommandFailed."""
        raise NotImplementedError
