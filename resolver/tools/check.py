"""`resolver check FILE [flags]`: validate a Corefile and print what it means.

Prints every server block with its zones, addresses and each option with the value that holds, defaults too, then
the warnings. Exit 0, or 1 with the error as one line on stderr. Nothing is opened, bound or written.

A template is checked as it would be filled; an address that only the node knows is replaced by an example, and
the output says so.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TextIO

from resolver.errors import ConfigError
from resolver.forward.options import Target
from resolver.report.series import RCODE_NAMES
from resolver.settings import flags, values
from resolver.settings.environment.machine import Machine, read_stdin
from resolver.settings.loading import load
from resolver.settings.model import Block, ProcessOptions, Settings

USAGE = "resolver check FILE [flags]"

_HIDDEN = frozenset({"given", "stdin_text", "conf"})
"""Fields of ProcessOptions that say how flags were written, not what they mean."""

_DIRECTIVES = ("cache", "loadbalance", "errors", "log", "health", "ready", "prometheus", "reload")
_LOW_RCODES = 17


def main(argv: Sequence[str], out: TextIO | None = None, machine: Machine | None = None) -> int:
    """Check the Corefile that `argv` names; raises ConfigError, which the command line prints."""
    parsed = flags.parse(argv)
    out = out or sys.stdout
    if parsed.asked == "help":
        out.write(flags.help_text())
        return 0
    if len(parsed.words) != 1:
        raise ConfigError(flags.PLACE, 0, f"one file is expected, not {len(parsed.words)}; accepted: {USAGE}")
    settings = load(_process(parsed.process, parsed.words[0]), machine, examples=True)
    settings = replace(settings, warnings=parsed.warnings + settings.warnings)
    out.write("\n".join(report(settings)) + "\n")
    return 0


def report(settings: Settings) -> Iterator[str]:
    """Yield the lines that `resolver check` prints."""
    yield f"{settings.corefile_path}: good"
    yield f"sha512 {settings.digest}"
    yield ""
    yield "flags"
    yield from _lines(settings.process, skip=_HIDDEN, indent=2)
    for block in settings.blocks:
        yield ""
        yield from _block(block)
    if settings.warnings:
        yield ""
        yield from (f"warning: {warning}" for warning in settings.warnings)


def _process(process: ProcessOptions, file: str) -> ProcessOptions:
    """Return the flags with FILE in place of all other sources of a Corefile."""
    stdin = file in {"stdin", "-"}
    text = read_stdin() if stdin else None
    return replace(process, conf="stdin" if stdin else file, base_corefile="", stdin_text=text)


def _block(block: Block) -> Iterator[str]:
    yield f"server block {block.number + 1} ({block.file}:{block.line})"
    yield f"  {'zones':<26} {' '.join(block.zones)}"
    yield f"  {'listen':<26} {' '.join(values.joined(host or '*', port) for host, port in block.listen)}"
    for flag in ("loop", "debug"):
        yield f"  {flag:<26} {_shown(flag, getattr(block, flag))}"
    for directive in _DIRECTIVES:
        found = getattr(block, directive)
        if not found:
            yield f"  {directive:<26} no"
        for each in found if isinstance(found, tuple) else filter(None, [found]):
            yield f"  {directive}"
            yield from _lines(each, indent=4)
    for forward in block.forwards:
        yield f"  forward {forward.from_zone} to {_shown('targets', forward.targets)}"
        yield from _lines(forward, skip=frozenset({"from_zone", "targets"}), indent=4)
    if not block.forwards:
        yield f"  {'forward':<26} no"


def _lines(options: Any, *, indent: int, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield a line for each field of a dataclass, in its order, without the unit in its name."""
    for field in fields(options):
        if field.name in skip:
            continue
        value = getattr(options, field.name)
        name = field.name.removesuffix("_s").removesuffix("_bytes")
        if is_dataclass(value) and not isinstance(value, Target):
            yield f"{' ' * indent}{name}"
            yield from _lines(value, indent=indent + 2)
        else:
            yield f"{' ' * indent}{name:<{28 - indent}} {_shown(field.name, value)}"


def _shown(name: str, value: Any) -> str:
    """Return one value for people; the unit is in the field's name."""
    if value is None:
        return "upstream's deadline" if name == "stale_verify_timeout_s" else "no"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Target):
        return value.text + (" (file, watched)" if value.kind == "file" else "")
    if is_dataclass(value):
        return " ".join(f"{field.name.removesuffix('_s')}={_shown(field.name, getattr(value, field.name))}"
                        for field in fields(value))  # fmt: skip
    if name.endswith("_rcodes"):
        return " ".join(_rcode(code) for code in sorted(value)) or "none"
    if isinstance(value, tuple | frozenset):
        return ("; " if name == "consolidate" else " ").join(
            _shown(name, each) for each in (value if isinstance(value, tuple) else sorted(value))
        ) or ("all" if name.startswith("disable_") or name == "zones" else "none")
    if name.endswith("_s"):
        return values.duration_text(value)
    if name.endswith("_bytes"):
        return values.size_text(value)
    return str(value) or '""'


def _rcode(code: int) -> str:
    return RCODE_NAMES[code] if code < _LOW_RCODES else f"RCODE{code}"
