"""Single words of a Corefile or a flag, as values: durations, numbers, sizes, addresses.

Every function takes the word and returns the value, or raises ValueError whose text names the word and says
what would be accepted; the caller knows the place and adds it. Nothing else is raised, whatever the word.
"""

import ipaddress
import re

_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter: Go takes both
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_DURATION_MAX_NS = 2**63 - 1  # Go's time.Duration, about 292 years
_WORD_MAX_CHARACTERS = 64  # longer than any number that we accept; keeps int() cheap

_SIZE = re.compile(r"([0-9]{1,18})([A-Za-z]*)")
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    **dict.fromkeys(("ki", "kib"), 1024),
    **dict.fromkeys(("mi", "mib"), 1024**2),
    **dict.fromkeys(("gi", "gib"), 1024**3),
    **dict.fromkeys(("k", "kb"), 1000),
    **dict.fromkeys(("m", "mb"), 1000**2),
    **dict.fromkeys(("g", "gb"), 1000**3),
}


def shown(word: str) -> str:
    """Return `word` in quotes for a message: printable, on one line, never long."""
    text = word if len(word) <= 60 else word[:57] + "..."
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text) + '"'


def duration_s(word: str) -> float:
    """Return a Go duration in seconds: `10s`, `1h30m`, `500ms`, `1.5h`, `0`, with an optional sign."""
    wrong = ValueError(f"{shown(word)} is not a duration, write one like 10s, 1m30s or 500ms")
    if len(word) > _WORD_MAX_CHARACTERS:
        raise wrong
    sign = -1 if word.startswith("-") else 1
    rest = word[1:] if word[:1] in {"+", "-"} else word
    if rest == "0":
        return 0.0
    total_ns = 0
    position = 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            raise wrong
        unit_ns, fraction = _UNITS_NS[part[3]], part[2] or ""
        total_ns += int(part[1] or 0) * unit_ns + int(fraction or 0) * unit_ns // 10 ** len(fraction)
        position = part.end()
    if not rest:
        raise wrong
    if total_ns > _DURATION_MAX_NS:
        raise ValueError(f"{shown(word)} is too long a duration, at most about 292 years")
    return sign * float(total_ns) / 1e9


def integer(word: str) -> int:
    """Return a whole number in ASCII digits with an optional sign, as Go's Atoi takes it."""
    if len(word) > 19 or not re.fullmatch(r"[+-]?[0-9]+", word, re.ASCII):
        raise ValueError(f"{shown(word)} is not a whole number")
    return int(word)


def size_bytes(word: str) -> int:
    """Return a size: `67108864`, `64MiB` or `64Mi` (1024 x 1024), `64MB` or `64M` (1000 x 1000)."""
    match = _SIZE.fullmatch(word)
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{shown(word)} is not a size, write one like 64MiB, 100Mi or a number of bytes")
    return int(match[1]) * unit


def port(word: str) -> int:
    """Return a port, 0 to 65535; 0 lets the kernel choose."""
    if not re.fullmatch(r"[0-9]{1,5}", word, re.ASCII) or int(word) > 65535:
        raise ValueError(f"{shown(word)} is not a port, 0 to 65535")
    return int(word)


def ip(word: str) -> str:
    """Return an IP address in its one canonical spelling; `%zone` is kept for link-local IPv6."""
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        raise ValueError(f"{shown(word)} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def host_port(word: str) -> tuple[str, int]:
    """Return `host:port` in two; `[::1]:53` loses its brackets, `:53` has the host "" (all addresses).

    The host may be a name; it is only checked for characters that no address or name has.
    """
    host, colon, number = word.rpartition(":")
    if not colon or not number:
        raise ValueError(f"{shown(word)} is not an address, write host:port, [IPv6]:port or :port")
    if host.startswith("[") and host.endswith("]"):
        host = ip(host[1:-1])
    elif not re.fullmatch(r"[A-Za-z0-9._-]*", host, re.ASCII):
        raise ValueError(f"{shown(word)} is not an address, write host:port, [IPv6]:port or :port")
    return host, port(number)


def joined(host: str, number: int) -> str:
    """Return `host:port` for people and labels, an IPv6 host in brackets."""
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def duration_text(value_s: float) -> str:
    """Return a duration as Go writes it and `duration_s` reads it, to the microsecond: `1h30m`, `500ms`."""
    if value_s < 0:
        return "-" + duration_text(-value_s)
    micros = round(value_s * 1_000_000)
    if micros == 0:
        return "0s"
    if micros < 1000:
        return f"{micros}us"
    if micros < 1_000_000:
        return f"{micros / 1000:g}ms" if micros % 1000 == 0 else f"{micros}us"
    minutes, micros = divmod(micros, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds, micros = divmod(micros, 1_000_000)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    parts = f"{hours}h" if hours else ""
    parts += f"{minutes}m" if minutes else ""
    return parts + (f"{seconds}{fraction}s" if seconds or micros or not parts else "")


def size_text(value_bytes: int) -> str:
    """Return a size for people: exact, in the largest unit that divides it."""
    for unit, bytes_each in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value_bytes and value_bytes % bytes_each == 0:
            return f"{value_bytes // bytes_each}{unit}"
    return f"{value_bytes} bytes"
