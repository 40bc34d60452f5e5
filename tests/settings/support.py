"""A machine made of dictionaries, and short ways from text to values."""

import fnmatch
import os.path
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from resolver.errors import ConfigError
from resolver.settings.loading import load
from resolver.settings.model import Block, ProcessOptions, Settings

T = TypeVar("T")

RESOLV_CONF = {"/etc/resolv.conf": b"nameserver 10.0.0.53\n"}


class FakeMachine:
    """Files, environment and interfaces as given; a path ending in `/` is an empty directory."""

    def __init__(
        self,
        files: Mapping[str, bytes | str] | None = None,
        environ: Mapping[str, str] | None = None,
        interfaces: Mapping[str, tuple[str, ...]] | None = None,
        unreadable: frozenset[str] = frozenset(),
    ) -> None:
        self.files: dict[str, bytes] = {
            path: text.encode() if isinstance(text, str) else text for path, text in (files or {}).items()
        }
        self.environ: Mapping[str, str] = environ or {}
        self.reads = 0
        self._interfaces = interfaces if interfaces is not None else {"lo": ("127.0.0.1", "::1")}
        self._unreadable = unreadable

    def read(self, path: str) -> bytes:
        self.reads += 1
        if path in self._unreadable:
            raise PermissionError(13, "Permission denied", path)
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def is_file(self, path: str) -> bool:
        return path in self.files and not path.endswith("/")

    def is_directory(self, path: str) -> bool:
        return any(file.startswith(path.rstrip("/") + "/") for file in self.files)

    def matches(self, pattern: str) -> list[str]:
        return sorted(
            file
            for file in self.files
            if fnmatch.fnmatch(file, pattern)
            and file.count("/") == pattern.count("/")
            and not os.path.basename(file).startswith(".")
        )

    def interface_addresses(self) -> Mapping[str, tuple[str, ...]]:
        return self._interfaces


def attempt(call: Callable[[], T], refusal: type[Exception] = ConfigError) -> T | None:
    """Return what `call` returns, or None where it raises a refusal that people can read: on one line, printable.

    Any other exception is our bug and ends the test.
    """
    try:
        return call()
    except refusal as error:
        text, line = str(error), getattr(error, "line", 0)
    assert text.isprintable(), text
    assert line >= 0
    return None


def settings_of(
    text: str | bytes, machine: FakeMachine | None = None, process: ProcessOptions | None = None
) -> Settings:
    """Load `text` as the Corefile `Corefile`."""
    machine = machine or FakeMachine(RESOLV_CONF)
    machine.files["Corefile"] = text.encode() if isinstance(text, str) else text
    return load(replace(process or ProcessOptions(), conf="Corefile"), machine)


def block_of(text: str, machine: FakeMachine | None = None) -> Block:
    """Load one server block that says `text`."""
    (block,) = settings_of(". {\n" + text + "\n}\n", machine).blocks
    return block


def refusal_of(text: str | bytes, machine: FakeMachine | None = None, process: ProcessOptions | None = None) -> str:
    """Return the one line with which `text` is refused, without the file's name."""
    try:
        settings_of(text, machine, process)
    except ConfigError as error:
        line = str(error)
        assert "\n" not in line
        return line.removeprefix("Corefile:")
    raise AssertionError("accepted")


def block_refusal_of(text: str, machine: FakeMachine | None = None) -> str:
    """Return the refusal of one server block that says `text`; its first line is line 1."""
    number, _, problem = refusal_of(". {\n" + text + "\n}\n", machine).partition(": ")
    return f"{int(number) - 1}: {problem}"
