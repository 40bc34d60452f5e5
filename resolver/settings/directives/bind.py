"""`bind ADDRESS|INTERFACE... { except ... }`: where the block listens (CoreDNS plugin/bind).

`accept/listener.py` and `accept/udp.py`, `accept/tcp.py` listen there.

An interface stands for the addresses that it has at load. Several `bind` lines add up; an address that is named
twice counts once, because the placeholders of node-local-dns may name one twice.
"""

from resolver.errors import ConfigError
from resolver.settings import values
from resolver.settings.arguments import (
    Fields,
    Option,
    Where,
    count_arguments,
    read_block,
    wrong,
)
from resolver.settings.corefile import Statement
from resolver.settings.environment.machine import why
from resolver.settings.tokens import Token
from resolver.settings.values import shown

FORM = "bind ADDRESS|INTERFACE..."
_ADDRESSES_MAX = 1024  # x 2 sockets x 4 MiB receive buffer: nobody means more


def _words(line: Statement, form: str) -> Fields:
    return {"except": count_arguments(line, 1, _ADDRESSES_MAX, form)}


OPTIONS = {"except": Option("except ADDRESS|INTERFACE...", _words)}


def read(statement: Statement, where: Where) -> tuple[str, ...]:
    """Return the addresses to listen on, each once, in order."""
    words = count_arguments(statement, 1, _ADDRESSES_MAX, FORM)
    without = {
        address
        for word in read_block(statement, OPTIONS).get("except", ())
        for address in _addresses(word, OPTIONS["except"].form, where)
    }
    found = [address for word in words for address in _addresses(word, FORM, where) if address not in without]
    if not found:
        raise wrong(statement.word, "bind leaves no address to listen on", FORM)
    return tuple(dict.fromkeys(found))


def _addresses(word: Token, form: str, where: Where) -> tuple[str, ...]:
    try:
        return (values.ip(word.text),)
    except ValueError:
        pass
    try:
        interfaces = where.machine.interface_addresses()
    except OSError as error:
        raise ConfigError(word.file, word.line, f"bind: cannot list the interfaces: {why(error)}") from None
    if word.text not in interfaces:
        known = ", ".join(sorted(interfaces)) or "none"
        raise wrong(word, f"{shown(word.text)} is no IP address and no interface (there are: {known})", form)
    return interfaces[word.text]
