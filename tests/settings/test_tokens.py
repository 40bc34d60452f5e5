"""The lexer: caddy's rules as a table, and laws over any bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import ConfigError
from resolver.settings.tokens import Token, lex, render, substitute
from tests.settings.support import attempt

#        text, its tokens
SPLITTING = [
    pytest.param("a b\tc", ["a", "b", "c"], id="blanks and tabs"),
    pytest.param("a\u00a0b\u2003c", ["a", "b", "c"], id="Unicode's white space too"),
    pytest.param("\ufeffa b", ["a", "b"], id="a byte order mark in front is dropped"),
    pytest.param("a\r\nb\r\n", ["a", "b"], id="line ends of Windows"),
    pytest.param("a\rb", ["ab"], id="a carriage return does not even split"),
    pytest.param("a # b c\nd", ["a", "d"], id="comment"),
    pytest.param("a#b c\nd", ["a", "d"], id="a comment may begin inside a token"),
    pytest.param('"a b" c', ["a b", "c"], id="quotes"),
    pytest.param('"" c', ["", "c"], id="empty quotes"),
    pytest.param('"a # b"', ["a # b"], id="no comment in quotes"),
    pytest.param('a"b c"', ['a"b', 'c"'], id="a quote counts only in front"),
    pytest.param('"a"b', ["a", "b"], id="a closing quote ends the token"),
    pytest.param(r'"a \" b"', ['a " b'], id="an escaped quote"),
    pytest.param(r'"a \n \\ b"', [r"a \n \\ b"], id="nothing else is escaped"),
    pytest.param('"a\nb" c', ["a\nb", "c"], id="quotes span lines"),
    pytest.param("a{ }b", ["a{", "}b"], id="braces are ordinary inside a word"),
    pytest.param("`a b`", ["`a", "b`"], id="back-ticks are not quotes"),
    pytest.param("a \\\nb", ["a", "\\", "b"], id="no line continuation"),
    pytest.param("", [], id="nothing"),
]


@pytest.mark.parametrize(("text", "words"), SPLITTING)
def test_text_is_split_as_caddy_splits_it(text: str, words: list[str]) -> None:
    assert [token.text for token in lex(text.encode(), "f")] == words


def test_tokens_know_their_line_and_whether_they_begin_it() -> None:
    text = b'. {\n  log "a\nb" c # d\n\n}'
    assert [(token.text, token.line, token.first) for token in lex(text, "f")] == [
        (".", 1, True),
        ("{", 1, False),
        ("log", 2, True),
        ("a\nb", 2, False),
        ("c", 3, False),
        ("}", 5, True),
    ]


def test_only_bare_braces_open_and_close() -> None:
    opens = [token.opens for token in lex(b'{ "{" a{', "f")]
    closes = [token.closes for token in lex(b'} "}" a}', "f")]
    assert opens == closes == [True, False, False]


#        bytes, line, what is said
REFUSED = [
    pytest.param(b'a\n"b\nc', 2, "never closed", id="a quote that never closes is at its beginning"),
    pytest.param(b'"a\\"', 1, "never closed", id="an escaped quote does not close"),
    pytest.param(b"a\n\nb\xff", 3, "byte 0xff is not UTF-8", id="not UTF-8"),
    pytest.param(b"a\nb\0c", 2, "NUL", id="NUL"),
]


@pytest.mark.parametrize(("data", "line", "problem"), REFUSED)
def test_what_is_no_text_is_refused_at_its_line(data: bytes, line: int, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        lex(data, "f")
    assert (caught.value.file, caught.value.line) == ("f", line)


ENVIRONMENT = {"A": "1", "B": "x y", "C": "{$C}{$A}", "E": "", "BRACE": "{"}

#        text, its tokens, names of variables that are not set
VARIABLES = [
    pytest.param("{$A}", ["1"], [], id="Unix form"),
    pytest.param("{%A%}", ["1"], [], id="Windows form"),
    pytest.param("x{$A}y{%A%}z", ["x1y1z"], [], id="inside a token, twice"),
    pytest.param('"{$A} {$A}"', ["1 1"], [], id="in quotes"),
    pytest.param("{$B}", ["x y"], [], id="a value is not split"),
    pytest.param("{$C}", ["{$C}{$A}"], [], id="a value is not looked into again"),
    pytest.param("a {$NO} b", ["a", "", "b"], ["NO"], id="not set is empty"),
    pytest.param("{$E}", [""], [], id="empty is not the same as not set"),
    pytest.param("{$} {%%} {$A", ["{$}", "{%%}", "{$A"], [], id="what is no reference stays"),
    pytest.param("{{$A}}", ["{1}"], [], id="a reference inside braces (Go templates: write {{ $x }})"),
]


@pytest.mark.parametrize(("text", "words", "unset"), VARIABLES)
def test_environment_variables_are_replaced_after_splitting(text: str, words: list[str], unset: list[str]) -> None:
    tokens, missing = substitute(lex(text.encode(), "f"), ENVIRONMENT)
    assert [token.text for token in tokens] == words
    assert [token.text for token in missing] == unset


def test_a_brace_out_of_the_environment_opens_nothing() -> None:
    tokens, _ = substitute(lex(b"{$BRACE}", "f"), ENVIRONMENT)
    assert not tokens[0].opens


def test_a_variable_that_is_not_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"f:1: environment variable X is not UTF-8"):
        substitute(lex(b"{$X}", "f"), {"X": "\udcff"})


# Rich in what the lexer looks at; plain st.binary() rarely gets past UTF-8.
CHARACTERS = st.text(st.sampled_from(list('ab{}$%"#\\ \n\r\t,\ufeff\u00a0\u2028()/.:*')), max_size=60)


@given(data=st.one_of(st.binary(max_size=200), CHARACTERS.map(str.encode)))
def test_any_bytes_are_tokens_or_a_config_error(data: bytes) -> None:
    tokens = attempt(lambda: lex(data, "f")) or []
    assert all(1 <= token.line <= data.count(b"\n") + 1 for token in tokens)


@given(text=CHARACTERS)
def test_rendered_tokens_are_the_same_tokens_again(text: str) -> None:
    tokens = attempt(lambda: lex(text.encode(), "f"))
    assert tokens is None or lex(render(tokens).encode(), "f") == tokens


@given(text=CHARACTERS, environ=st.dictionaries(st.sampled_from(["a", "b", "ab"]), CHARACTERS))
def test_substitution_keeps_the_number_of_tokens(text: str, environ: dict[str, str]) -> None:
    tokens = attempt(lambda: lex(text.encode(), "f")) or []
    replaced, _ = substitute(tokens, environ)
    assert [(token.line, token.first) for token in replaced] == [(token.line, token.first) for token in tokens]


@pytest.mark.parametrize("piece", ['"\\', "{$", "{%", "#", "\\", '"a" '])
def test_lexing_is_linear(piece: str) -> None:
    # Each of these made an earlier rule or a naive one quadratic; at 200 KB that would take minutes.
    tokens = attempt(lambda: lex((piece * 100_000).encode(), "f")) or []
    substitute(tokens, {})


def test_a_token_points_at_itself() -> None:
    assert str(Token("x", "Corefile", 7).wrong("no")) == "Corefile:7: no"
