"""The parser: blocks, snippets, imports, their errors and their caps; and laws over any bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.errors import ConfigError
from resolver.settings import corefile
from resolver.settings.corefile import Statement
from resolver.settings.directives import import_
from tests.settings.support import FakeMachine, attempt

Tree = list[tuple[list[str], list[object]]]


def tree_of(text: str | bytes, machine: FakeMachine | None = None) -> Tree:
    """Return [(keys, [[word, argument, [nested]], ...]), ...]."""
    data = text.encode() if isinstance(text, str) else text
    parsed = corefile.parse([("Corefile", data)], machine or FakeMachine())
    return [
        ([key.text for key in block.keys], [nested(each) for each in block.statements]) for block in parsed.blocks
    ]


def nested(statement: Statement) -> object:
    words: list[object] = [statement.word.text, *(word.text for word in statement.args)]
    return words if statement.body is None else [*words, [nested(each) for each in statement.body]]


#        text, its tree
STRUCTURE = [
    pytest.param(". {\n}", [(["."], [])], id="empty block"),
    pytest.param(". { }", [(["."], [])], id="empty block on one line"),
    pytest.param(".\n{\nlog\n}", [(["."], [["log"]])], id="the brace may come on the next line"),
    pytest.param("a b {\nlog\n}", [(["a", "b"], [["log"]])], id="keys by blanks"),
    pytest.param("a, b {\nlog\n}", [(["a", "b"], [["log"]])], id="keys by commas"),
    pytest.param("a,b {\nlog\n}", [(["a", "b"], [["log"]])], id="keys by commas alone"),
    pytest.param("a,\nb {\nlog\n}", [(["a", "b"], [["log"]])], id="a comma lets the list go on"),
    pytest.param('"" a {\n}', [(["a"], [])], id="an empty key is no key"),
    pytest.param(".:53\nlog\nerrors", [([".:53"], [["log"], ["errors"]])], id="one block without braces"),
    pytest.param(".", [(["."], [])], id="keys alone"),
    pytest.param("", [], id="nothing"),
    pytest.param("# only a comment", [], id="only a comment"),
    pytest.param("a {\n}\nb {\n}", [(["a"], []), (["b"], [])], id="two blocks"),
    pytest.param("a {\n} b {\n}", [(["a"], []), (["b"], [])], id="two blocks, one line"),
    pytest.param(". {\nx 1 2 {\ny 3\n}\n}", [(["."], [["x", "1", "2", [["y", "3"]]]])], id="a directive's block"),
    pytest.param(". {\nx {\n}\n}", [(["."], [["x", []]])], id="a directive's empty block"),
    pytest.param(". {\nx { y\n}\n}", [(["."], [["x", [["y"]]]])], id="an option behind the brace (caddy too)"),
    pytest.param(". {\nx {\ny {\nz\n}\n}\n}", [(["."], [["x", [["y", [["z"]]]]]])], id="blocks in blocks"),
    pytest.param('. {\nx "{" "}"\n}', [(["."], [["x", "{", "}"]])], id="braces in quotes are words"),
    pytest.param(". {\r\n\tlog\r\n}\r\n", [(["."], [["log"]])], id="line ends of Windows"),
    pytest.param(". {\nx a#b\n}", [(["."], [["x", "a"]])], id="comment inside a token"),
    pytest.param('. {\nx "a\nb" c\n}', [(["."], [["x", "a\nb", "c"]])], id="a line goes on behind a long quote"),
]


@pytest.mark.parametrize(("text", "tree"), STRUCTURE)
def test_structure(text: str, tree: Tree) -> None:
    assert tree_of(text) == tree


#        text, line, what is said
BROKEN = [
    pytest.param(". {\nlog\n", 1, "this { is never closed", id="block not closed"),
    pytest.param(". {\ncache {\nlog\n}\n", 1, "this { is never closed", id="the outer one is"),
    pytest.param(". {\nlog\n}\n}\n", 4, "this } closes nothing", id="one } too many"),
    pytest.param(".\nlog\n}\n", 3, "this } closes nothing", id="} without braces"),
    pytest.param("{\nlog\n}\n", 1, "without a zone", id="no key"),
    pytest.param("a, {\n}\n", 1, "expected behind the comma", id="comma and brace"),
    pytest.param("a,\n", 1, "expected behind the comma", id="comma and end"),
    pytest.param(".:53{\nlog\n}\n", 1, "must stand alone", id="a key with a brace"),
    pytest.param(". {\nforward . 10.0.0.1{\n}\n}", 2, "must stand alone", id="an argument with a brace"),
    pytest.param(". {\nerrors{\n}\n}", 2, "must stand alone", id="a directive with a brace"),
    pytest.param(". {\ncache\n{\n}\n}", 3, "this { opens nothing", id="a directive's brace on the next line"),
    pytest.param(". { log }\n", 1, "in the middle of a line", id="block on one line"),
    pytest.param(". {\ncache { keepttl }\n}", 2, "in the middle of a line", id="directive on one line"),
    pytest.param(". {\ncache {\n} log\n}", 3, "stands behind a }", id="something behind }"),
    pytest.param(". {\nx " + "{\ny " * 20, 17, "more than 16 deep", id="too deep"),
    pytest.param("(a) (b) {\n}\n. {\nimport\n}", 4, "import names nothing", id="import without argument"),
    pytest.param(". {\nimport a b\n}", 2, "too many", id="import with two"),
    pytest.param(". {\nimport {\n}\n}", 2, "import names nothing", id="import of a brace"),
    pytest.param('. {\nimport ""\n}', 2, "import names nothing", id="import of nothing"),
    pytest.param(". {\nimport {$UNSET}\n}", 2, "import names nothing", id="import of an unset variable"),
    pytest.param("import x\n", 1, "no snippet and no file", id="missing file at the top"),
    pytest.param(". {\nimport x\n}", 2, "no snippet and no file", id="missing file in a block"),
    pytest.param(". {\nimport s\n}\n(s) {\nlog\n}", 2, "no snippet and no file", id="snippets precede their use"),
    pytest.param(". {\nimport *.d/*.conf\n}", 2, "several wildcards", id="two stars"),
    pytest.param(". {\nimport a[bc]\n}", 2, "several wildcards", id="character classes"),
    pytest.param(". {\nimport dir\n}", 2, "is a directory", id="import of a directory"),
    pytest.param("(s)\nlog\n", 1, "has no block", id="snippet without braces"),
    pytest.param("(s) {\nlog\n}\n(s) {\n}\n", 4, "already defined at Corefile:1", id="snippet twice"),
    pytest.param("(s) {\nlog\nimport s\n}\n", 3, "imports itself", id="snippet imports itself"),
    pytest.param("(s) {\nlog\n", 1, "never closed", id="snippet not closed"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BROKEN)
def test_broken_structure_is_refused_at_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tree_of(text, FakeMachine({"dir/file": b""}))
    assert (caught.value.file, caught.value.line) == ("Corefile", line)
    assert problem in caught.value.problem


def test_a_snippet_stands_where_it_is_imported() -> None:
    text = "(s) {\nx 1\ny {\nz\n}\n}\n. {\nlog\nimport s\nerrors\n}\n"
    assert tree_of(text) == [(["."], [["log"], ["x", "1"], ["y", [["z"]]], ["errors"]])]


def test_a_snippet_may_hold_options_and_other_snippets() -> None:
    text = "(a) {\nkeepttl\n}\n(b) {\ncache {\nimport a\nservfail 0\n}\n}\n. {\nimport b\n}\n"
    assert tree_of(text) == [(["."], [["cache", [["keepttl"], ["servfail", "0"]]]])]


def test_a_snippet_may_begin_behind_its_brace_and_be_empty() -> None:
    assert tree_of("(s) { log\n}\n(e) { }\n. {\nerrors\nimport s\nimport e\n}") == [(["."], [["errors"], ["log"]])]


def test_a_snippet_whose_only_line_is_an_import_behind_the_brace() -> None:
    assert tree_of("(a) {\nb {\nlog\n}\n}\n(s) { import a\n}\nimport s\n") == [(["b"], [["log"]])]


def test_files_are_imported_relative_to_the_importing_file() -> None:
    machine = FakeMachine({"conf.d/a": "log\nimport b\n", "conf.d/b": "errors\n", "/abs": "loop"})
    assert tree_of(". {\nimport conf.d/a\nimport /abs\n}", machine) == [(["."], [["log"], ["errors"], ["loop"]])]


def test_files_at_the_top_bring_whole_blocks_and_snippets() -> None:
    machine = FakeMachine({"more": "(s) {\nlog\n}\na {\nimport s\n}\n"})
    assert tree_of("import more\nb {\nimport s\n}", machine) == [(["a"], [["log"]]), (["b"], [["log"]])]


def test_a_snippet_wins_over_a_file_of_its_name() -> None:
    assert tree_of("(s) {\nlog\n}\n. {\nimport s\n}", FakeMachine({"s": "errors"})) == [(["."], [["log"]])]


def test_a_glob_imports_in_order_and_leaves_hidden_files_out() -> None:
    machine = FakeMachine({"d/2.conf": "errors", "d/1.conf": "log", "d/.x.conf": "loop", "d/e/3.conf": "loop"})
    assert tree_of(". {\nimport d/*.conf\n}", machine) == [(["."], [["log"], ["errors"]])]


def test_a_glob_without_a_match_is_a_warning_and_is_watched() -> None:
    parsed = corefile.parse([("Corefile", b". {\nimport d/*.conf\n}")], FakeMachine())
    assert parsed.warnings == ("Corefile:2: import d/*.conf matches no file",)
    assert parsed.watched == ("d/*.conf",)


def test_an_error_in_an_imported_file_names_that_file_and_line() -> None:
    with pytest.raises(ConfigError, match=r"^d/a:2: this \{ opens nothing"):
        tree_of(". {\nimport d/a\n}", FakeMachine({"d/a": "log\n{\n"}))


def test_a_file_that_cannot_be_read_says_why() -> None:
    machine = FakeMachine({"a": "log"}, unreadable=frozenset({"a"}))
    with pytest.raises(ConfigError, match=r'^Corefile:2: import: "a" cannot be read: Permission denied$'):
        tree_of(". {\nimport a\n}", machine)


def test_each_file_is_read_once() -> None:
    machine = FakeMachine({"a": "log"})
    tree_of(". {\nimport a\n}\nb {\nimport a\n}", machine)
    assert machine.reads == 1


def test_snippets_that_import_each_other_end_at_the_cap() -> None:
    text = "(a) {\nimport b\n}\n(b) {\nimport a\n}\n. {\nimport a\n}\n"
    with pytest.raises(ConfigError, match=f"more than {import_.SNIPPET_EXPANSIONS_MAX} times"):
        tree_of(text)


def test_files_that_import_each_other_end_at_the_cap() -> None:
    machine = FakeMachine({"a": "import b\n", "b": "import a\n"})
    with pytest.raises(ConfigError, match=f"more than {import_.FILE_EXPANSIONS_MAX} times"):
        tree_of("import a\n", machine)


def test_a_file_that_imports_itself_and_grows_ends_at_the_word_cap() -> None:
    machine = FakeMachine({"a": "log x y z\nimport a\n"})
    with pytest.raises(ConfigError, match=f"more than {corefile.TOKENS_MAX} words"):
        tree_of(". {\nimport a\n}", machine)


def test_snippets_that_double_end_at_the_word_cap() -> None:
    text = "(s0) {\n" + "x\n" * 100 + "}\n"
    for number in range(1, 20):
        text += f"(s{number}) {{\n" + f"import s{number - 1}\n" * 10 + "}\n"
    with pytest.raises(ConfigError, match="more than"):
        tree_of(text + ". {\nimport s19\n}\n")


def test_environment_variables_stand_in_keys_imports_words_and_arguments() -> None:
    machine = FakeMachine({"f": "log"}, {"ZONE": "example.org", "PORT": "5300", "FILE": "f", "WORD": "errors"})
    assert tree_of("{$ZONE}:{%PORT%} {\nimport {$FILE}\n{$WORD} {$ZONE}\n}", machine) == [
        (["example.org:5300"], [["log"], ["errors", "example.org"]])
    ]


def test_a_variable_that_is_not_set_is_a_warning() -> None:
    parsed = corefile.parse([("Corefile", b". {\nx {$NO}\n}")], FakeMachine())
    assert parsed.warnings == ("Corefile:2: environment variable NO is not set, nothing stands in its place",)


def digest_of(text: str, machine: FakeMachine | None = None) -> str:
    return corefile.parse([("Corefile", text.encode())], machine or FakeMachine()).digest


def test_the_digest_sees_words_and_lines_but_not_spacing() -> None:
    plain = digest_of(". {\ncache 30\n}")
    assert digest_of(".   {\n\n  cache 30 # a comment\n}\n") == plain
    assert digest_of(". {\ncache 31\n}") != plain
    assert digest_of(". {\ncache\n30\n}") != plain
    assert len(plain) == 128


def test_the_digest_sees_imported_files() -> None:
    text = ". {\nimport a\n}"
    assert digest_of(text, FakeMachine({"a": "log"})) != digest_of(text, FakeMachine({"a": "errors"}))


WORDS = st.sampled_from(
    ["{", "}", "{", "}", "\n", "\n", "\n", "import", "a", "b", "(a)", "(b)", "*", ".", "a,", ",", '""', '"{"', "#x",
     "{$A}", "cache", "forward", "x{", "/", "d/*"]
)  # fmt: skip


@settings(max_examples=300)
@given(
    words=st.lists(WORDS, max_size=40), files=st.dictionaries(st.sampled_from("ab"), st.lists(WORDS, max_size=12))
)
def test_any_order_of_words_is_a_tree_or_a_config_error(words: list[str], files: dict[str, list[str]]) -> None:
    machine = FakeMachine({name: " ".join(content) for name, content in files.items()}, {"A": "import"})
    attempt(lambda: corefile.parse([("Corefile", " ".join(words).encode())], machine))


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_tree_or_a_config_error(data: bytes) -> None:
    attempt(lambda: corefile.parse([("Corefile", data)], FakeMachine()))
