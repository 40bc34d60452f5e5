"""The command `resolver`, in this process and as its own: exit codes, one line of error, never a traceback."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from resolver import VERSION, cli
from resolver.errors import AddressInUse
from resolver.settings.model import Settings

ROOT = Path(__file__).parents[1]
BROKEN = ROOT / "tests/settings/broken"


def run(argv: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command as people do; 60 s are enough for anything."""
    return subprocess.run(
        [sys.executable, "-m", "resolver", *argv],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )


class Daemon(ModuleType):
    """Stands in for `resolver.daemon`: takes the settings and returns."""

    def __init__(self) -> None:
        super().__init__("resolver.daemon")
        self.served: list[Settings] = []
        self.error: Exception | None = None

    def run(self, settings: Settings) -> int:
        if self.error is not None:
            raise self.error
        self.served.append(settings)
        return 0


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    stand_in = Daemon()
    monkeypatch.setitem(sys.modules, "resolver.daemon", stand_in)
    monkeypatch.setattr("resolver.daemon", stand_in, raising=False)
    return stand_in


def corefile(tmp_path: Path, text: str = ". {\n    bind 127.0.0.1\n    forward . 10.0.0.2\n}\n") -> str:
    path = tmp_path / "Corefile"
    path.write_text(text)
    return str(path)


def test_flags_alone_serve(daemon: Daemon, tmp_path: Path) -> None:
    path = corefile(tmp_path)
    assert cli.main(["-conf", path, "-dns.port", "5300"]) == 0
    (settings,) = daemon.served
    assert settings.corefile_path == path
    assert settings.process.dns_port == 5300


def test_warnings_of_the_flags_come_before_those_of_the_files(daemon: Daemon, tmp_path: Path) -> None:
    path = corefile(tmp_path, ". {\n    bind 127.0.0.1\n    log a{$RESOLVER_TEST_NOT_SET}\n}\n")
    assert cli.main(["-conf", path, "-corefile", "/etc/Corefile"]) == 0
    first, second = daemon.served[0].warnings
    assert first.startswith("-corefile /etc/Corefile is ignored")
    assert second.startswith(f"{path}:3: environment variable")


def test_an_error_at_start_is_one_line_and_exit_1(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.error = AddressInUse("127.0.0.1 port 53 is in use\nby unbound (process 7)")
    assert cli.main(["-conf", corefile(tmp_path)]) == 1
    assert capsys.readouterr() == ("", "127.0.0.1 port 53 is in use by unbound (process 7)\n")


#        arguments, the line on stderr begins with
REFUSED = [
    (["serve"], "command line: extra word 'serve'; accepted: resolver [flags], resolver check FILE, resolver demo"),
    (["-setupinterface", "false"], "command line: -setupinterface needs the addresses"),
    (["-localip", "10.0.0.1", "-setupinterface", "false"], "command line: extra word 'false'"),
    (["-conf", "/no/such"], "/no/such: no such file; -conf names the Corefile"),
    (["-nosuch"], 'command line: unknown flag "-nosuch"'),
    (["check"], "command line: one file is expected, not 0"),
    (["check", str(BROKEN / "cache-twice")], f"{BROKEN / 'cache-twice'}:5: cache stands twice"),
]


@pytest.mark.parametrize(("argv", "line"), REFUSED, ids=[" ".join(row[0])[-40:] for row in REFUSED])
def test_errors_are_one_line_and_exit_1(
    argv: list[str], line: str, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert daemon.served == []


def test_help_version_and_plugins_go_to_standard_output() -> None:
    helped = run(["--help"])
    assert (helped.returncode, helped.stderr) == (0, b"")
    assert b"resolver check FILE" in helped.stdout
    version = run(["-version"])
    assert version.stdout.startswith(f"node-resolver-{VERSION}\nlinux/".encode())
    plugins = run(["-plugins"])
    assert plugins.stdout.split() == [
        f"dns.{word}".encode()
        for word in ("bind", "cache", "debug", "errors", "forward", "health", "import", "loadbalance", "log",
                     "loop", "prometheus", "ready", "reload")
    ]  # fmt: skip


def test_check_as_a_command(tmp_path: Path) -> None:
    good = run(["check", corefile(tmp_path)])
    assert (good.returncode, good.stderr) == (0, b"")
    assert b": good\n" in good.stdout
    bad = run(["check", str(BROKEN / "misspelt-directive")])
    assert (bad.returncode, bad.stdout) == (1, b"")
    assert bad.stderr.count(b"\n") == 1
    assert b':4: unknown directive "forwrad", did you mean "forward"?' in bad.stderr


def test_check_reads_standard_input() -> None:
    assert run(["check", "-"], b". {\n    bind 127.0.0.1\n}\n").stdout.startswith(b"stdin: good\n")
    assert run(["check", "stdin"], b". {\n").stderr == (
        b"stdin:1: this { is never closed; accepted: a } on a line of its own\n"
    )


def test_a_reader_that_leaves_is_no_error_of_ours(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "resolver", "check", corefile(tmp_path)],
            stdout=write_end, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_what_only_prints_loads_neither_the_loop_nor_tls(tmp_path: Path) -> None:
    program = (
        "import sys; from resolver.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'asyncio', 'ssl', 'uvloop', 'dnslib', 'prometheus_client', 'json', 'difflib'} & set(sys.modules);"
        "sys.exit(' '.join(sorted(heavy)) or code)"
    )
    for argv in (["-version"], ["check", corefile(tmp_path)]):
        done = subprocess.run(
            [sys.executable, "-c", program, *argv], capture_output=True, cwd=ROOT, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b"")
