"""Tokens become server blocks and statements: the Corefile's structure, before any word has a meaning.

    file      = { snippet | import | block }
    snippet   = "(" name ")" "{" tokens "}"
    block     = key { (" " | ",") key } "{" { statement } "}"     one block may do without braces
    statement = word { argument } [ "{" { statement } "}" ]       ends with its line
    import    = "import" (snippet | file | glob)                  anywhere a statement or a key may begin

The rules are caddy's (caddyfile/parse.go). `}` stands on a line of its own, or right behind its `{`: where it does
not, caddy takes it for an argument and fails later with an obscure message, so it is refused here.

What callers may rely on: `parse` raises ConfigError and nothing else, whatever the bytes of any file; recursion
is at most `DEPTH_MAX` deep; imports that go in circles end at caddy's caps or at `TOKENS_MAX`.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from resolver.settings.directives import import_
from resolver.settings.environment.machine import Machine
from resolver.settings.tokens import Token, lex, substitute
from resolver.settings.values import shown

DEPTH_MAX = 16
"""Blocks within blocks; no directive needs more than three."""

TOKENS_MAX = 250_000
"""After imports, all together; x about 200 bytes is 50 MB. A Corefile has some hundred."""


class Statement(NamedTuple):
    """One line with its block: a directive, or an option inside one."""

    word: Token
    args: tuple[Token, ...]
    body: "tuple[Statement, ...] | None"  # None: no block


class ServerBlock(NamedTuple):
    """Keys as they stand (not yet zones) and what is in the block, in order."""

    keys: tuple[Token, ...]
    statements: tuple[Statement, ...]


class Corefile(NamedTuple):
    """Everything that one parse learned.

    digest   sha512 in hex of all tokens with imports in place: comments and spacing do not change it.
    watched  Files and glob patterns that were imported.
    """

    blocks: tuple[ServerBlock, ...]
    digest: str
    watched: tuple[str, ...]
    warnings: tuple[str, ...]


def parse(sources: Iterable[tuple[str, bytes]], machine: Machine) -> Corefile:
    """Parse texts, given as (name for messages, bytes), one after another; snippets are known to later ones."""
    parser = _Parser(machine)
    blocks: list[ServerBlock] = []
    for file, data in sources:
        blocks += parser.parse(file, data)
    return Corefile(
        tuple(blocks), parser.digest.hexdigest(), tuple(dict.fromkeys(parser.watched)), tuple(parser.warnings)
    )


class _Parser:
    """One stream of tokens, read from its front; an import puts its tokens there."""

    def __init__(self, machine: Machine) -> None:
        self.digest = hashlib.sha512()
        self.watched: list[str] = []
        self.warnings: list[str] = []
        self._machine = machine
        self._ahead: list[Token] = []  # the next token is the last: cheap to take and to put back
        self._taken = 0
        self._snippets: dict[str, tuple[Token, list[Token]]] = {}  # the word that named it, and what is in it
        self._files: dict[str, list[Token]] = {}  # each imported file is read once
        self._snippet_expansions = 0
        self._file_expansions = 0

    def parse(self, file: str, data: bytes) -> list[ServerBlock]:
        self._put(self._lexed(file, data))
        blocks = []
        while self._peek() is not None:
            keys = self._keys()
            if len(keys) == 1 and keys[0].text.startswith("(") and keys[0].text.endswith(")"):
                self._snippet(keys[0])
            elif keys:
                blocks.append(ServerBlock(keys, self._block_body()))
        return blocks

    # The stream

    def _peek(self) -> Token | None:
        return self._ahead[-1] if self._ahead else None

    def _take(self) -> Token:
        token = self._ahead.pop()
        self._taken += 1
        if self._taken > TOKENS_MAX:
            raise token.wrong(
                f"more than {TOKENS_MAX} words with all imports in place, look for imports in circles"
            )
        self.digest.update(f"{token.first:d}{token.opens or token.closes:d}{token.text}\0".encode())
        return token

    def _put(self, tokens: list[Token]) -> None:
        self._ahead.extend(reversed(tokens))
        if len(self._ahead) > TOKENS_MAX:
            raise tokens[0].wrong(f"more than {TOKENS_MAX} words with all imports in place")

    def _lexed(self, file: str, data: bytes) -> list[Token]:
        tokens, unset = substitute(lex(data, file), self._machine.environ)
        self.warnings += [
            f"{token.file}:{token.line}: environment variable {token.text} is not set, nothing stands in its place"
            for token in dict.fromkeys(unset)
        ]
        return tokens

    # Keys and snippets

    def _keys(self) -> tuple[Token, ...]:
        keys: list[Token] = []
        comma: Token | None = None  # a trailing comma lets the list go on, also on the next line
        while (token := self._peek()) is not None:
            if token.first and keys and comma is None:
                break
            if token.first and token.text == "import":
                self._import()
                continue
            if token.opens:
                break
            if token.closes:
                raise token.wrong("this } closes nothing; accepted here: the zones of a server block")
            self._take()
            if "{" in token.text or "}" in token.text:
                raise token.wrong(f"{shown(token.text)}: a brace must stand alone, as in: example.org {{")
            keys += [token._replace(text=part) for part in token.text.split(",") if part]
            if token.text:
                comma = token if token.text.endswith(",") else None
        if comma is not None:
            raise comma.wrong("a zone is expected behind the comma")
        if not keys and token is not None:
            raise token.wrong("a server block without a zone; accepted: .  { for all names, or zones before the {")
        return tuple(keys)

    def _snippet(self, key: Token) -> None:
        name = key.text[1:-1]
        opening = self._peek()
        if opening is None or not opening.opens:
            raise key.wrong(f"snippet {shown(name)} has no block; accepted: ({name}) {{")
        if name in self._snippets:
            first = self._snippets[name][0]
            raise key.wrong(
                f"snippet {shown(name)} is already defined at {first.file}:{first.line}; accepted: each name once"
            )
        self._take()
        tokens: list[Token] = []
        depth = 1
        while True:
            if self._peek() is None:
                raise opening.wrong("this { is never closed; accepted: a } on a line of its own")
            token = self._take()
            depth += token.opens - token.closes
            if depth == 0:
                break
            if token.text == name and tokens and tokens[-1].first and tokens[-1].text == "import":
                raise token.wrong(f"snippet {shown(name)} imports itself")
            tokens.append(token)
        if tokens:
            tokens[0] = tokens[0]._replace(first=True)  # it may stand behind the brace
        self._snippets[name] = (key, tokens)

    # Statements

    def _block_body(self) -> tuple[Statement, ...]:
        token = self._peek()
        if token is not None and token.opens:
            self._take()
            return self._statements(token, depth=1)
        return self._statements(None, depth=1)

    def _statements(self, opening: Token | None, depth: int) -> tuple[Statement, ...]:
        """Return what stands up to the } of `opening`, or up to the end where the block has no braces."""
        statements: list[Statement] = []
        while (token := self._peek()) is not None:
            if token.closes:
                if opening is None:
                    raise token.wrong("this } closes nothing; accepted here: a directive")
                self._take()
                return tuple(statements)
            if token.text == "import":
                self._import()
            elif token.opens:
                raise token.wrong("this { opens nothing; accepted: { at the end of its directive's line")
            else:
                statements.append(self._statement(depth))
        if opening is not None:
            raise opening.wrong("this { is never closed; accepted: a } on a line of its own")
        return tuple(statements)

    def _statement(self, depth: int) -> Statement:
        word = self._take()
        args: list[Token] = []
        while (token := self._peek()) is not None and not token.first:
            if token.closes:
                raise token.wrong("this } is in the middle of a line; accepted: a } on a line of its own")
            self._take()
            if token.opens:
                if depth >= DEPTH_MAX:
                    raise token.wrong(f"blocks within blocks are more than {DEPTH_MAX} deep")
                body = self._statements(token, depth + 1)
                after = self._peek()
                if after is not None and not after.first:
                    raise after.wrong(
                        f"{shown(after.text)} stands behind a }}; accepted: nothing more on that line"
                    )
                return Statement(word, tuple(args), body)
            args.append(token)
        last = args[-1] if args else word
        if last.text.endswith("{") and not last.literal:
            raise last.wrong(f"{shown(last.text)}: the brace must stand alone, as in: {last.text[:-1][:40]} {{")
        return Statement(word, tuple(args), None)

    # Imports

    def _import(self) -> None:
        word = self._take()
        pattern = self._peek()
        if pattern is None or pattern.first or pattern.opens or pattern.closes or not pattern.text:
            raise word.wrong(f"import names nothing; accepted: {import_.FORM}")
        self._take()
        more = self._peek()
        if more is not None and not more.first:
            raise more.wrong(f"import takes one argument, {shown(more.text)} is too many; accepted: {import_.FORM}")
        if pattern.text in self._snippets:
            self._snippet_expansions += 1
            if self._snippet_expansions > import_.SNIPPET_EXPANSIONS_MAX:
                raise pattern.wrong(
                    f"snippets are imported more than {import_.SNIPPET_EXPANSIONS_MAX} times, "
                    "look for snippets that import each other"
                )
            self._put(self._snippets[pattern.text][1])
        else:
            self._import_files(pattern)

    def _import_files(self, pattern: Token) -> None:
        self._file_expansions += 1
        if self._file_expansions > import_.FILE_EXPANSIONS_MAX:
            raise pattern.wrong(
                f"files are imported more than {import_.FILE_EXPANSIONS_MAX} times, "
                "look for files that import each other"
            )
        self.watched.append(import_.pattern_of(pattern))
        paths = import_.files_of(pattern, self._machine)
        if not paths:
            self.warnings.append(f"{pattern.file}:{pattern.line}: import {pattern.text} matches no file")
        tokens: list[Token] = []
        for path in paths:
            if path not in self._files:
                self._files[path] = self._lexed(path, import_.content_of(path, pattern, self._machine))
            tokens += self._files[path]
        if tokens:
            self._put(tokens)
