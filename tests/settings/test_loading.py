"""Where the Corefile comes from, and what `load` adds."""

import pytest

from resolver.errors import ConfigError
from resolver.settings import flags
from resolver.settings.loading import BUILT_IN, load
from resolver.settings.model import ListenAddress, ProcessOptions
from tests.settings.support import RESOLV_CONF, FakeMachine

LOG, ERRORS = b". {\nlog\n}\n", b". {\nerrors\n}\n"
BASE = "/etc/coredns/Corefile.base"

#        files, process, where the Corefile came from
SOURCES = [
    pytest.param({}, ProcessOptions(), "built-in Corefile", id="nothing"),
    pytest.param({"/c": LOG}, ProcessOptions(conf="/c"), "/c", id="-conf"),
    pytest.param({BASE: LOG}, ProcessOptions(), BASE, id="the template where it usually is"),
    pytest.param({BASE: LOG, "/c": ERRORS}, ProcessOptions(conf="/c"), BASE, id="the template over -conf"),
    pytest.param({BASE: LOG}, ProcessOptions(conf="/c"), BASE, id="-conf need not exist then"),
    pytest.param({"/b": LOG}, ProcessOptions(base_corefile="/b"), "/b", id="-basecorefile"),
    pytest.param({"/c": LOG}, ProcessOptions(base_corefile="/b", conf="/c"), "/c", id="-basecorefile not there"),
    pytest.param({BASE: LOG}, ProcessOptions(conf="stdin", stdin_text=ERRORS), "stdin", id="standard input wins"),
]


@pytest.mark.parametrize(("files", "process", "path"), SOURCES)
def test_the_corefile_comes_from(files: dict[str, bytes], process: ProcessOptions, path: str) -> None:
    settings = load(process, FakeMachine({**RESOLV_CONF, **files}))
    assert settings.corefile_path == path
    assert settings.watched_paths == ((path,) if path.startswith("/") else ())


def test_the_built_in_corefile_answers_on_the_loopback_and_asks_whom_the_machine_asks() -> None:
    (block,) = load(ProcessOptions(dns_port=5300), FakeMachine(RESOLV_CONF)).blocks
    assert block.zones == (".",)
    assert block.listen == (ListenAddress("127.0.0.1", 5300),)
    assert block.cache is not None
    assert block.errors is not None
    assert [target.host for target in block.forwards[0].targets] == ["/etc/resolv.conf"]
    assert BUILT_IN.decode().isascii()


@pytest.mark.parametrize(
    ("process", "problem"),
    [
        (ProcessOptions(conf="/no"), "^/no: no such file; -conf names the Corefile$"),
        (
            ProcessOptions(base_corefile="/no", given=frozenset({"basecorefile"})),
            "^/no: no such file; -basecorefile names the template$",
        ),
        (ProcessOptions(conf="stdin"), "^stdin: standard input was not read$"),
    ],
)
def test_a_corefile_that_is_not_there(process: ProcessOptions, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(process, FakeMachine(RESOLV_CONF))


def test_a_corefile_that_cannot_be_read() -> None:
    machine = FakeMachine({"/c": LOG}, unreadable=frozenset({"/c"}))
    with pytest.raises(ConfigError, match=r"^/c: cannot be read: Permission denied$"):
        load(ProcessOptions(conf="/c"), machine)


def test_imports_are_watched_too() -> None:
    files = {
        "/e/Corefile": b"import *.server\n. {\nimport log.conf\n}\n",
        "/e/log.conf": b"log",
        "/e/a.server": b"a {\n}",
    }
    settings = load(ProcessOptions(conf="/e/Corefile"), FakeMachine({**RESOLV_CONF, **files}))
    assert settings.watched_paths == ("/e/Corefile", "/e/*.server", "/e/log.conf")


def test_an_error_on_a_line_with_an_unset_variable_names_the_variable() -> None:
    machine = FakeMachine({**RESOLV_CONF, "/c": b". {\n  forward . {$UPSTREAM}\n}"})
    with pytest.raises(ConfigError) as caught:
        load(ProcessOptions(conf="/c"), machine)
    assert str(caught.value).startswith('/c:2: "" is no upstream; accepted: ')
    assert str(caught.value).endswith(" (not set: environment variable UPSTREAM)")


def test_the_same_text_is_equal_settings() -> None:
    machine = FakeMachine({**RESOLV_CONF, "/c": b". {\ncache\nforward . 10.0.0.2\n}"})
    assert load(ProcessOptions(conf="/c"), machine) == load(ProcessOptions(conf="/c"), machine)


#        files, arguments, bytes
MEMORY = [
    pytest.param({}, [], 64 * 2**20, id="no limit"),
    pytest.param({"/sys/fs/cgroup/memory.max": "104857600\n"}, [], 25 * 2**20, id="a quarter of 100 MiB"),
    pytest.param({"/sys/fs/cgroup/memory.max": "104857600\n"}, ["-cache-memory", "7MiB"], 7 * 2**20, id="the flag"),
]


@pytest.mark.parametrize(("files", "argv", "size_bytes"), MEMORY)
def test_memory_of_the_caches(files: dict[str, str], argv: list[str], size_bytes: int) -> None:
    settings = load(flags.parse(argv).process, FakeMachine({**RESOLV_CONF, **files}))
    assert settings.process.cache_memory_bytes == size_bytes


def test_loading_again_from_settings_is_how_a_reload_works() -> None:
    machine = FakeMachine({**RESOLV_CONF, "/c": LOG, "/sys/fs/cgroup/memory.max": "104857600"})
    first = load(flags.parse(["-conf", "/c", "-dns.port", "5300"]).process, machine)
    assert load(first.process, machine, starting=False) == first
    machine.files["/c"] = ERRORS
    second = load(first.process, machine, starting=False)
    assert second.blocks[0].errors is not None
    assert second.digest != first.digest
