"""Server blocks: words known and refused, ports, overlap; own addresses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.forward.options import Target
from resolver.settings import directives, targets
from resolver.settings.model import Block, ListenAddress, ProcessOptions, Settings
from tests.settings.support import RESOLV_CONF, FakeMachine, attempt, refusal_of, settings_of

ACCEPTED = (
    "; accepted: bind, debug, ready, health, prometheus, reload, errors, log, loadbalance, cache, loop, forward,"
    " import"
)


@pytest.mark.parametrize("word", directives.LATER)
def test_words_of_later_releases_say_so(word: str) -> None:
    assert refusal_of(f". {{\n{word}\n}}") == f"2: {word} comes with a later release{ACCEPTED}"


@pytest.mark.parametrize("word", directives.FOREIGN)
def test_words_of_coredns_that_we_do_not_offer_say_so(word: str) -> None:
    refusal = refusal_of(f". {{\n{word}\n}}")
    assert refusal == f"2: {word} is a plugin of CoreDNS that this resolver does not offer{ACCEPTED}"


#        word, what is offered
UNKNOWN = [
    ("cahce", ', did you mean "cache"?'),
    ("forwards", ', did you mean "forward"?'),
    ("Cache", ', did you mean "cache"?'),
    ("loadbalancer", ', did you mean "loadbalance"?'),
    ("imports", ', did you mean "import"?'),
    ("xyzzy", ""),
    ("x", ""),
    ("c" * 100_000, ""),
]


@pytest.mark.parametrize(("word", "offer"), UNKNOWN, ids=[word[:10] for word, _ in UNKNOWN])
def test_unknown_words_offer_the_closest_known_one(word: str, offer: str) -> None:
    shown = word if len(word) <= 60 else word[:57] + "..."
    assert refusal_of(f". {{\n{word}\n}}") == f'2: unknown directive "{shown}"{offer}{ACCEPTED}'


def test_every_word_has_a_list_of_its_own() -> None:
    words = [*directives.WORDS, *directives.LATER, *directives.FOREIGN, "import"]
    assert len(words) == len(set(words))
    assert set(directives.MANY) <= set(directives.WORDS)


def test_each_key_is_a_zone_of_the_block() -> None:
    (block,) = settings_of("Example.org, 10.0.0.0/23 a {\nlog\n}").blocks
    assert block.zones == ("example.org.", "0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa.", "a.")
    assert block.listen == (ListenAddress("", 53),)
    assert (block.file, block.line, block.number) == ("Corefile", 1, 0)


def test_keys_without_a_port_listen_on_the_flags_port() -> None:
    (block,) = settings_of(". {\nbind 127.0.0.1\nlog\n}", process=ProcessOptions(dns_port=5300)).blocks
    assert block.listen == (ListenAddress("127.0.0.1", 5300),)


def test_a_block_with_several_ports_is_one_value_for_each() -> None:
    first, second, third = settings_of(
        "a:1000 b:2000 c:1000 {\nbind ::1 127.0.0.1\ncache 30\n}\nd {\nlog\n}"
    ).blocks
    assert (first.zones, first.number) == (("a.", "c."), 0)
    assert first.listen == (ListenAddress("::1", 1000), ListenAddress("127.0.0.1", 1000))
    assert (second.zones, second.number) == (("b.",), 0)
    assert second.listen == (ListenAddress("::1", 2000), ListenAddress("127.0.0.1", 2000))
    assert first.cache == second.cache
    assert (third.zones, third.number) == (("d.",), 1)


#        Corefile, line, what is said
OVERLAPS = [
    pytest.param(". {\nlog\n}\n. {\nlog\n}", 4, "dns://.:53, it is already defined at Corefile:1", id="twice"),
    pytest.param("a b {\nlog\n}\nc B {\nlog\n}", 4, "dns://b.:53, it is already", id="one of several"),
    pytest.param(". . {\nlog\n}", 1, "stands twice before one block", id="twice before one block"),
    pytest.param("a A. {\nlog\n}", 1, "stands twice", id="in two spellings"),
    pytest.param("10.0.0.0/23 10.0.1.0/24 {\nlog\n}", 1, "stands twice", id="as networks"),
    pytest.param(
        ". {\nbind 10.0.0.1\n}\n. {\nbind 10.0.0.2 10.0.0.1\n}",
        4,
        "dns://.:53 on 10.0.0.1, it is",
        id="bound twice",
    ),
    pytest.param(
        ". {\nbind 10.0.0.1\n}\n. {\nlog\n}", 4, "overlaps the block at Corefile:1", id="unbound over bound"
    ),
    pytest.param(
        ". {\nlog\n}\n. {\nbind 10.0.0.1\n}", 4, "overlaps the block at Corefile:1", id="bound over unbound"
    ),
]


@pytest.mark.parametrize(("text", "line", "problem"), OVERLAPS)
def test_a_zone_is_served_once_on_an_address(text: str, line: int, problem: str) -> None:
    refusal = refusal_of(text)
    assert refusal.startswith(f"{line}: ")
    assert problem in refusal


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(". {\nlog\n}\na {\nlog\n}", id="other zones"),
        pytest.param(". {\nlog\n}\n.:5300 {\nlog\n}", id="other ports"),
        pytest.param(". {\nbind 10.0.0.1\n}\n. {\nbind 10.0.0.2\n}", id="other addresses"),
        pytest.param(". {\nbind 10.0.0.1\n}\n.:54 {\nlog\n}", id="bound here, unbound on another port"),
    ],
)
def test_what_does_not_overlap_is_served(text: str) -> None:
    assert len(settings_of(text).blocks) == 2


def test_an_empty_block_is_a_warning() -> None:
    assert settings_of(". {\n}").warnings == (
        "Corefile:1: this server block is empty and answers everything with REFUSED",
    )


def test_an_empty_file_is_refused() -> None:
    assert refusal_of("# nothing\n") == " no server block; accepted: zones and a block, as in: . {"


#        target, listen addresses, is it ourselves?
OWN = [
    ("10.0.0.1:53", [("10.0.0.1", 53)], True),
    ("10.0.0.1:54", [("10.0.0.1", 53)], False),
    ("10.0.0.2:53", [("10.0.0.1", 53)], False),
    ("127.0.0.1:53", [("", 53)], True),
    ("127.9.9.9:53", [("0.0.0.0", 53)], True),
    ("[::1]:53", [("::", 53)], True),
    ("127.0.0.1:54", [("", 53)], False),
    ("127.0.0.1:53", [("10.0.0.1", 53)], False),
    ("0.0.0.0:53", [("127.0.0.1", 53)], True),
    ("0.0.0.0:53", [("10.0.0.1", 53)], False),
    ("[::]:53", [("", 53)], True),
]


@pytest.mark.parametrize(("word", "listen", "own"), OWN)
def test_refuse_own(word: str, listen: list[tuple[str, int]], own: bool) -> None:
    target = targets.target(word, FakeMachine())
    kept, refused = targets.refuse_own([target], [ListenAddress(*address) for address in listen])
    assert (kept, refused) == (((), (target,)) if own else ((target,), ()))


def test_only_addresses_can_be_ourselves() -> None:
    unresolved = (Target("file", "/etc/resolv.conf"), Target("name", "kube-dns."))
    assert targets.refuse_own(unresolved, [ListenAddress("", 53)]) == (unresolved, ())


def test_own_addresses_are_those_of_the_blocks_and_of_localip_and_of_the_machine() -> None:
    blocks = (
        Block(zones=(".",), listen=(ListenAddress("", 53),)),
        Block(zones=("a.",), listen=(ListenAddress("10.0.0.1", 54),)),
    )
    found = targets.own_addresses(
        Settings(blocks, ProcessOptions(local_ips=("169.254.20.10",))), {"eth0": ("192.0.2.7",), "lo": ()}
    )
    assert found == {
        ListenAddress("", 53),
        ListenAddress("10.0.0.1", 54),
        ListenAddress("169.254.20.10", 53),
        ListenAddress("192.0.2.7", 53),
    }


# Words that lead far into the directives, with some that are wrong anywhere.
WORDS = st.sampled_from(
    [*directives.WORDS, "import", "rewrite", "{", "}", "}", "\n", "\n", "\n", "\n", ".", "a.b", "30", "10s", "0",
     "-1", "10.0.0.2", "10.0.0.1:53", "tls://9.9.9.9%a", "/etc/resolv.conf", "10.0.0.0/25", "success",
     "serve_stale", "verify", "policy", "random", "tls", "except", "consolidate", "(", "class", "all", '""', "{$A}",
     "50%", ":8080", "[", "lameduck", "deadline", "next", "SERVFAIL", "resolver", "fallback", "off"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(words=st.lists(WORDS, max_size=40))
def test_any_corefile_is_settings_or_a_config_error(words: list[str]) -> None:
    text = ". {\n" + " ".join(words) + "\n}\n"
    found = attempt(lambda: settings_of(text, FakeMachine(RESOLV_CONF, {"A": "1"})))
    assert found is None or all(block.zones and block.listen for block in found.blocks)


@given(word=st.text(max_size=60))
def test_any_word_is_an_upstream_or_a_value_error(word: str) -> None:
    attempt(lambda: targets.target(word, FakeMachine()), ValueError)


@given(content=st.binary(max_size=200))
def test_any_resolv_conf_gives_addresses(content: bytes) -> None:
    found = targets.nameservers(b"nameserver 10.0.0.1\n" + content)
    assert found[0].host == "10.0.0.1"
    assert all(target.kind == "address" for target in found)
