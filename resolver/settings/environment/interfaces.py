"""The addresses of this machine's interfaces, asked of the kernel over rtnetlink.

`bind eth0` needs them, and so does refusing an upstream that is ourselves when we listen on all addresses. The
standard library knows names of interfaces but not their addresses, and the container may have no `ip`.
"""

import socket
import struct
from collections.abc import Iterator, Mapping

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_ANSWER_MAX_BYTES = 16 * 1024 * 1024  # some 200,000 addresses


def read_addresses() -> Mapping[str, tuple[str, ...]]:
    """Return the addresses of each interface; IPv6 link-local ones with `%name`. Raises OSError."""
    found: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
    for index, address in parse_addresses(_ask()):
        try:
            name = socket.if_indextoname(index)
        except OSError:
            continue  # it left meanwhile
        link_local = address.startswith(("fe8", "fe9", "fea", "feb"))
        found.setdefault(name, []).append(f"{address}%{name}" if link_local else address)
    return {name: tuple(addresses) for name, addresses in found.items()}


def parse_addresses(answer: bytes) -> Iterator[tuple[int, str]]:
    """Yield (interface index, address) of each RTM_NEWADDR message in `answer`.

    Stops at the end of the dump. Raises OSError for an error message or a message that is cut short.
    """
    position = 0
    while position + _HEADER.size <= len(answer):
        length, kind, _, _, _ = _HEADER.unpack_from(answer, position)
        if length < _HEADER.size or position + length > len(answer):
            raise OSError("the kernel's list of addresses is cut short")
        message = answer[position + _HEADER.size : position + length]
        if kind == _NLMSG_DONE:
            return
        if kind == _NLMSG_ERROR:
            raise OSError("the kernel refused to list addresses")
        if kind == _RTM_NEWADDR and len(message) >= _ADDRESS.size:
            family, _, _, _, index = _ADDRESS.unpack_from(message)
            raw = _local_address(message[_ADDRESS.size :])
            if family in {socket.AF_INET, socket.AF_INET6} and len(raw) == (4 if family == socket.AF_INET else 16):
                yield index, socket.inet_ntop(family, raw)
        position += (length + 3) & ~3


def _local_address(attributes: bytes) -> bytes:
    """Return IFA_LOCAL, or IFA_ADDRESS where there is none (IPv6); they differ on point-to-point links."""
    address = local = b""
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if length < _ATTRIBUTE.size:
            break
        value = attributes[position + _ATTRIBUTE.size : position + length]
        if kind == _IFA_LOCAL:
            local = value
        elif kind == _IFA_ADDRESS:
            address = value
        position += (length + 3) & ~3
    return local or address


def _ask() -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(2.0)
        payload = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        kernel.send(_HEADER.pack(_HEADER.size + len(payload), _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + payload)
        answer = b""
        while len(answer) < _ANSWER_MAX_BYTES:
            part = kernel.recv(65536)
            answer += part
            if _HEADER.unpack_from(part)[1] in {_NLMSG_DONE, _NLMSG_ERROR} or _ends(part):
                return answer
        raise OSError("the kernel's list of addresses does not end")


def _ends(part: bytes) -> bool:
    """Tell whether the last message of `part` is the end of the dump."""
    position, kind = 0, 0
    while position + _HEADER.size <= len(part):
        length, kind, _, _, _ = _HEADER.unpack_from(part, position)
        position += max((length + 3) & ~3, _HEADER.size)
    return kind == _NLMSG_DONE
