"""`import PATTERN`: which files it means. (`import` itself is a word that Python keeps.)

`settings/corefile.py` does the work: it puts the tokens of a snippet or of these files in place of the line.
The rules are caddy's (caddyfile/parse.go doImport): the path is relative to the importing file; a pattern has at
most one `*` and one `?` and no `[...]`, because several stars can match for ever; hidden files are not matched
(Go matches them, and then trips over the `..data` of every mounted ConfigMap).
"""

import os.path

from resolver.errors import ConfigError
from resolver.settings.environment.machine import Machine, why
from resolver.settings.tokens import Token
from resolver.settings.values import shown

FORM = "import SNIPPET|FILE|GLOB"

SNIPPET_EXPANSIONS_MAX = 10_000
FILE_EXPANSIONS_MAX = 100_000
"""caddy's caps; they end imports that go round in circles."""


def pattern_of(word: Token) -> str:
    """Return the path or glob pattern of an import's argument, joined to the importing file's directory."""
    pattern = os.path.normpath(os.path.join(os.path.dirname(word.file), word.text))
    if pattern.count("*") > 1 or pattern.count("?") > 1 or ("[" in pattern and "]" in pattern):
        raise word.wrong(
            f"import: {shown(pattern)} has several wildcards; accepted: {FORM}, with at most one * and one ?"
        )
    return pattern


def is_glob(pattern: str) -> bool:
    """Tell whether `pattern` may match several files or none."""
    return any(wildcard in pattern for wildcard in "*?")


def files_of(word: Token, machine: Machine) -> list[str]:
    """Return the files to import; none where a glob matches nothing. A plain file must be there."""
    pattern = pattern_of(word)
    if is_glob(pattern):
        return machine.matches(pattern)
    if machine.is_directory(pattern) or machine.is_file(pattern):
        return [pattern]
    raise word.wrong(f"import: there is no snippet and no file {shown(word.text)}; accepted: {FORM}")


def content_of(path: str, word: Token, machine: Machine) -> bytes:
    """Return the bytes of one file that `word` imports."""
    if machine.is_directory(path):
        raise word.wrong(f"import: {shown(path)} is a directory; accepted: {FORM}, as in import {path}/*")
    try:
        return machine.read(path)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(word.file, word.line, f"import: {shown(path)} cannot be read: {reason}") from None
