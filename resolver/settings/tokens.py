r"""Bytes of a Corefile become tokens that know where they stood.

The rules are caddy's (caddyfile/lexer.go), in the order in which they bite:

- A byte order mark in front is dropped. White space (Unicode's) separates tokens; `\r` is dropped even inside.
- `"` is special only as the first character of a token: the token then goes to the next `"`, over line ends too,
  and may be empty. `\"` is the only escape; any other backslash stands for itself.
- `#` outside quotes starts a comment that ends with the line, even in the middle of a token.
- `{` and `}` open and close only as tokens of their own, and only unquoted.
- `{$NAME}` and `{%NAME%}` are replaced afterwards, inside tokens; what they stand for is never split again.

Where caddy is lenient by accident we are not: a quote that never closes, a byte that is not UTF-8 and a NUL are
errors, and a comment that began inside a token ends with its line, not with the next blank.

What callers may rely on: `lex` raises ConfigError and nothing else, whatever the bytes, and is linear in them;
`lex(render(tokens))` gives back what `lex` gave.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from resolver.errors import ConfigError

# Go's unicode.IsSpace; Python's \s differs by four control characters.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_TOKEN = re.compile(
    rf"(?P<space>[{_SPACE}]+)"
    r"|(?P<comment>#[^\n]*)"
    r'|"(?P<quoted>[^"\\]*(?:\\.[^"\\]*)*)"'
    rf'|(?P<word>[^{_SPACE}#"](?:[^{_SPACE}#]|\r)*)',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_VARIABLE = re.compile(r"\{\$([^{}]+)\}|\{%([^{}%]+)%\}")


class Token(NamedTuple):
    """One word. `literal`: it was quoted or came out of the environment, so it is text and never a brace."""

    text: str
    file: str
    line: int
    first: bool = False  # it begins its line
    literal: bool = False

    @property
    def opens(self) -> bool:
        return self.text == "{" and not self.literal

    @property
    def closes(self) -> bool:
        return self.text == "}" and not self.literal

    def wrong(self, problem: str) -> ConfigError:
        """Return the error that points here."""
        return ConfigError(self.file, self.line, problem)


def lex(data: bytes, file: str) -> list[Token]:
    """Return the tokens of `data`; `file` is what messages will call it."""
    text = _decode(data, file)
    tokens: list[Token] = []
    line, busy_line, position = 1, 0, 0  # busy_line: where the token before ended
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(file, line, 'a quote is opened here and never closed, end the text with "')
        position = match.end()
        kind, lexeme = match.lastgroup, match[0]
        if kind == "word":
            tokens.append(Token(lexeme.replace("\r", ""), file, line, line > busy_line))
            busy_line = line
        elif kind == "quoted":
            unescaped = _ESCAPE.sub(lambda found: '"' if found[1] == '"' else found[0], match["quoted"])
            tokens.append(Token(unescaped, file, line, line > busy_line, literal=True))
            line += lexeme.count("\n")
            busy_line = line
        else:
            line += lexeme.count("\n")
    return tokens


def render(tokens: Iterable[Token]) -> str:
    """Return text that `lex` turns into `tokens` again; they must come from one `lex`, in its order."""
    parts: list[str] = []
    line = 1
    for token in tokens:
        parts.append("\n" * (token.line - line))
        text = '"' + token.text.replace('"', '\\"') + '"' if token.literal else token.text
        parts.append(" " + text)
        line = token.line + text.count("\n")
    return "".join(parts)


def substitute(tokens: Iterable[Token], environ: Mapping[str, str]) -> tuple[list[Token], list[Token]]:
    """Replace `{$NAME}` and `{%NAME%}`; also return the tokens that named a variable that is not set.

    An unset variable is replaced by nothing. Values are not looked into again, so none can name itself.
    """
    replaced: list[Token] = []
    unset: list[Token] = []
    for token in tokens:
        if "{" not in token.text or not _VARIABLE.search(token.text):
            replaced.append(token)
            continue

        def value(found: re.Match[str], token: Token = token) -> str:
            name = found[1] or found[2]
            text = environ.get(name)
            if text is None:
                unset.append(token._replace(text=name))
                return ""
            try:
                text.encode()
            except UnicodeEncodeError:
                raise token.wrong(f"environment variable {name} is not UTF-8") from None
            return text

        replaced.append(token._replace(text=_VARIABLE.sub(value, token.text), literal=True))
    return replaced, unset


def _decode(data: bytes, file: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            file, line, f"byte 0x{data[error.start]:02x} is not UTF-8, save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise ConfigError(file, text.count("\n", 0, text.index("\0")) + 1, "a NUL byte, only text is accepted")
    return text.lstrip("\ufeff")
