"""docs/configuration.md: its samples load, and nothing that a Corefile or a command line may say is missing."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from resolver.settings import directives, flags
from resolver.settings.loading import BUILT_IN, load
from resolver.settings.model import ProcessOptions
from tests.settings.support import RESOLV_CONF, FakeMachine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/configuration.md").read_text()
SAMPLES = re.findall(r"```corefile\n(.*?)```", PAGE, re.DOTALL)
SHIPPED = [
    *sorted((ROOT / "deploy/corefiles").iterdir()),
    ROOT / "deploy/sidecar/component/Corefile",
    ROOT / "deploy/systemd/Corefile",
]


def section(word: str) -> str:
    """Return the text of a directive's section."""
    return PAGE.partition(f"\n### {word}\n")[2].partition("\n##")[0]


@pytest.mark.parametrize("sample", SAMPLES, ids=range(len(SAMPLES)))
def test_samples_load_without_a_warning(sample: str) -> None:
    machine = FakeMachine({**RESOLV_CONF, "Corefile": sample})
    assert load(ProcessOptions(conf="Corefile"), machine).warnings == ()


def test_the_built_in_corefile_is_the_first_sample() -> None:
    assert SAMPLES[0].encode() == BUILT_IN


@pytest.mark.parametrize("path", SHIPPED, ids=[str(path.relative_to(ROOT)) for path in SHIPPED])
def test_shipped_corefiles_load_without_a_warning(path: Path) -> None:
    files = (
        {"/etc/resolv.conf": b"nameserver 127.0.0.1\nnameserver 10.96.0.10\n"}
        if "sidecar" in path.parts
        else {**RESOLV_CONF, "/run/systemd/resolve/resolv.conf": b"nameserver 10.0.0.53\n"}
    )
    process = ProcessOptions(
        base_corefile="/base", local_ips=("169.254.20.10",) if path.name == "node-local-dns" else ()
    )
    machine = FakeMachine({**files, "/base": path.read_bytes()}, {"KUBE_DNS_SERVICE_HOST": "10.96.0.11"})
    settings = load(process, machine)
    left_out = [warning for warning in settings.warnings if "is left out" in warning]
    assert settings.warnings == tuple(left_out)
    assert len(left_out) == ("sidecar" in path.parts)


@pytest.mark.parametrize("word", directives.WORDS)
def test_each_directive_and_option_is_documented(word: str) -> None:
    module = import_module(f"resolver.settings.directives.{word}")
    text = section(word)
    assert module.FORM in text
    for name, option in module.OPTIONS.items():
        assert re.search(rf"`{name}[` ]", text), f"{word}: {name}"
        if option.offered:
            assert option.form in re.sub(r"\s+", " ", text), f"{word}: {option.form}"
            documented = re.search(rf"^\| `{name}` \|", text, re.MULTILINE)
            assert documented, f"{word}: {name} has no row"


@pytest.mark.parametrize("word", directives.WORDS)
def test_each_directive_names_the_file_that_does_the_work(word: str) -> None:
    text = import_module(f"resolver.settings.directives.{word}").__doc__ or ""
    files = re.findall(r"`([a-z_/]+\.py)`", text)
    assert files, word
    for file in files:
        assert (ROOT / "resolver" / file).exists(), f"{word}: {file}"


def test_import_is_documented_though_the_parser_does_it() -> None:
    assert import_module("resolver.settings.directives.import_").FORM in section("import")


@pytest.mark.parametrize("word", directives.LATER)
def test_what_comes_later_is_listed(word: str) -> None:
    assert f"`{word}`" in PAGE


@pytest.mark.parametrize("flag", flags.FLAGS, ids=[flag.name for flag in flags.FLAGS])
def test_each_flag_is_documented(flag: flags.Flag) -> None:
    form = f"-{flag.name} {flag.value_name}".rstrip().replace("|", "\\|")
    assert f"`{form}`" in PAGE


def test_each_option_is_in_a_sample() -> None:
    words = set(" ".join(SAMPLES).split())
    samples = words | {word for path in SHIPPED for word in path.read_text().split()}
    missing = [word for word in directives.WORDS if word not in samples]
    assert missing == []
