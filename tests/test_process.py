"""Our real process as a user starts it: signals, ports in use, pages, logs, and an end that loses nothing."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from resolver import VERSION
from tests.support import mirror, process
from tests.support.addresses import free_port, loopback
from tests.support.client import query, records
from tests.support.scrape import fetch
from tests.support.surroundings import PATIENCE_S, Pages, ask, block, said

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def upstream() -> Iterator[mirror.Mirror]:
    with mirror.in_a_thread() as running:
        yield running


def test_sigterm_is_not_ready_at_once_and_answers_until_the_lame_duck_time_is_over(upstream: mirror.Mirror) -> None:
    pages = Pages()
    text = block(upstream, f"health {pages.address} {{\nlameduck 1s\n}}", f"ready {pages.address}", "cache")
    with process.running(text) as server:
        ask(server, "web.example.")
        pages.until("ready", 200)
        started_s = time.monotonic()
        server.send(signal.SIGTERM)
        pages.until("ready", 503)
        answered = 0
        while time.monotonic() - started_s < 0.8:
            assert records(ask(server, f"known{answered % 5}.example.", tcp=answered % 7 == 0))
            answered += 1
        assert server.ended() == 0
        assert time.monotonic() - started_s >= 1.0
        assert answered > 50
        assert "Shutting down; answering for 1s more" in server.output()
        assert "Traceback" not in server.output()
    assert pages.status("health") == 0


def test_questions_that_have_arrived_are_answered_before_it_ends(upstream: mirror.Mirror) -> None:
    """Stopped while they arrive (SIGSTOP), told to end, then let go on: every one of them is answered."""
    with process.running(block(upstream, "cache")) as server:
        ask(server, "web.example.")
        wire = query("web.example.", "A").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect((server.host, server.port))
            server.send(signal.SIGSTOP)
            for number in range(200):
                client.send(number.to_bytes(2, "big") + wire[2:])
            server.send(signal.SIGTERM)
            server.send(signal.SIGCONT)
            answers = {client.recv(4096)[:2] for _ in range(200)}
        assert len(answers) == 200
        assert server.ended() == 0


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_sigint_has_no_lame_duck_and_a_second_signal_ends_one(
    upstream: mirror.Mirror, second: signal.Signals
) -> None:
    pages = Pages()
    text = block(upstream, f"health {pages.address} {{\nlameduck 60s\n}}", f"ready {pages.address}")
    with process.running(text) as server:
        if second is signal.SIGTERM:
            server.send(signal.SIGTERM)
            pages.until("ready", 503)
            assert records(ask(server, "web.example."))
        server.send(second)
        assert server.ended() == 0


@pytest.mark.parametrize("reload_signal", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reloads_and_a_broken_file_changes_nothing(
    upstream: mirror.Mirror, reload_signal: signal.Signals, tmp_path: Path
) -> None:
    pages = Pages()
    snippet = tmp_path / "more"
    snippet.write_text("cache 30\n")
    text = block(upstream, f"import {snippet}", f"prometheus {pages.address}", f"health {pages.address}")
    with process.running(text) as server:
        ask(server, "web.example.")
        asked = upstream.asked["w"]
        ask(server, "web.example.")
        assert upstream.asked["w"] == asked
        snippet.write_text("cach 30\n")
        server.send(reload_signal)
        said(server, "reload failed, the old settings stay")
        assert re.search(rf"{snippet}:1: .*cach", server.output())
        assert records(ask(server, "web.example."))
        assert upstream.asked["w"] == asked
        assert fetch(pages.host, pages.port).value("coredns_reload_failed_total") == 1
        snippet.write_text("# no cache\n")
        server.send(reload_signal)
        said(server, "reloaded, configuration SHA512 = ")
        ask(server, "web.example.")
        assert upstream.asked["w"] == asked + 1
        assert server.stop() == 0
        assert "Traceback" not in server.output()


def test_a_port_in_use_names_address_and_holder(upstream: mirror.Mirror) -> None:
    with process.running(block(upstream)) as server:
        corefile = f".:{server.port} {{\n bind {server.host}\n forward . {upstream.host}:{upstream.port}\n}}\n"
        second = resolver("-conf", "stdin", given=corefile)
        assert second.returncode == 1
        address = re.escape(f"{server.host}:{server.port}")
        (line,) = second.stderr.splitlines()
        assert re.match(rf"{address} \(UDP\) is in use by \S+ \(pid {server.pid}\); stop it, or take another", line)
        assert records(ask(server, "web.example."))


def resolver(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", "resolver", *words],
        input=given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version() -> None:
    run = resolver("-version")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"node-resolver-{VERSION}\n")


def test_health_and_ready(upstream: mirror.Mirror) -> None:
    """A stopped process is not healthy: its page is served by the loop that is stuck, and says nothing at all."""
    pages = Pages()
    with process.running(block(upstream, f"health {pages.address}", f"ready {pages.address}")) as server:
        pages.until("health", 200)
        pages.until("ready", 200)
        server.send(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            pages.status("health", timeout_s=0.5)
        server.send(signal.SIGCONT)
        pages.until("health", 200)


def test_not_ready_before_an_upstream_has_answered() -> None:
    pages = Pages()
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with silent:
        silent.bind((loopback(), 0))
        host, port = silent.getsockname()
        text = f".:{{port}} {{\n bind {{host}}\n ready {pages.address}\n forward . {host}:{port}\n}}\n"
        with process.running(text):
            assert pages.status("ready") == 503


def test_the_pidfile_is_there_while_it_serves(upstream: mirror.Mirror, tmp_path: Path) -> None:
    path = tmp_path / "resolver.pid"
    with process.running(block(upstream), flags=["-pidfile", str(path)]) as server:
        assert path.read_text() == f"{server.pid}\n"
        assert server.stop() == 0
        assert not path.exists()


def test_a_pidfile_that_cannot_be_written_is_a_warning(upstream: mirror.Mirror, tmp_path: Path) -> None:
    path = tmp_path / "no-such-folder" / "resolver.pid"
    with process.running(block(upstream), flags=["-pidfile", str(path)]) as server:
        assert records(ask(server, "web.example."))
        assert server.stop() == 0
        assert "[WARNING] cannot write the pidfile" in server.output()
        assert "cannot remove" not in server.output()


def test_killed_and_started_again_at_once_on_the_same_port(upstream: mirror.Mirror) -> None:
    text = block(upstream, "cache")
    with process.running(text) as server:
        held = socket.create_connection((server.host, server.port), timeout=PATIENCE_S)
        assert records(ask(server, "web.example.", tcp=True))
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        with held, process.running(text, host=server.host, port=server.port) as again:
            assert records(ask(again, "web.example."))
            assert records(ask(again, "web.example.", tcp=True))
            assert again.stop() == 0


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "stalled"])
def test_nobody_reads_what_it_prints(upstream: mirror.Mirror, closed: bool) -> None:
    """A query log of far more than a pipe holds, and nobody at its other end: questions are answered as before."""
    reading, writing = os.pipe()
    try:
        with process.running(block(upstream, "log", "cache"), output=writing) as server:
            os.close(writing)
            writing = -1
            if closed:
                os.close(reading)
                reading = -1
            for number in range(2_000):
                assert records(ask(server, f"k{number % 50}.{'x' * 60}.example."))
            assert server.stop() == 0
    finally:
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)


def test_a_resolv_conf_without_nameservers_is_no_reason_not_to_start(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# nothing yet\n")
    with process.running(f".:{{port}} {{\n bind {{host}}\n errors\n forward . {path}\n}}\n") as server:
        answer = ask(server, "web.example.")
        assert answer.rcode() == dns.rcode.SERVFAIL
        (reason,) = [option for option in answer.options if isinstance(option, dns.edns.EDEOption)]
        assert reason.code == dns.edns.EDECode.NOT_READY
        assert server.stop() == 0
        assert "Traceback" not in server.output()


def test_a_machine_without_network() -> None:
    """In a network namespace that has a loopback device and nothing else: SERVFAIL with the reason, at once."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    run = subprocess.run(
        [unshare, "-rn", sys.executable, "-m", "tests.without_network"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == ["udp", "SERVFAIL", "22", "tcp", "SERVFAIL", "22", "exit", "0"]


QUERY_LINE = re.compile(
    r'\[INFO\] 127\.\d+\.\d+\.\d+:\d+ - \d+ "A IN web\.example\. udp 40 false 1232" '
    r"NOERROR qr,(aa,)?rd,ra 56 \d+\.\d+s"
)
"""CoreDNS's common log format, as its `log` plugin prints it."""


def test_log_lines_are_in_the_format_of_coredns(upstream: mirror.Mirror) -> None:
    with process.running(block(upstream, "log", "errors")) as server:
        ask(server, "web.example.")
        assert server.stop() == 0
        lines = server.output().splitlines()
    assert all(re.match(r"\[(INFO|WARNING|ERROR)\] \S", line) for line in lines), lines
    assert [line for line in lines if QUERY_LINE.fullmatch(line)], lines


def test_json_lines(upstream: mirror.Mirror) -> None:
    with process.running(block(upstream, "log"), flags=["-log-format", "json"]) as server:
        ask(server, "web.example.")
        assert server.stop() == 0
        entries = [json.loads(line) for line in server.output().splitlines()]
    assert all({"time", "level", "msg"} <= entry.keys() for entry in entries)
    (entry,) = [entry for entry in entries if entry.get("qname") == "web.example."]
    assert (entry["level"], entry["rcode"], entry["proto"]) == ("INFO", "NOERROR", "udp")


def test_ipv6(upstream: mirror.Mirror) -> None:
    with process.running(block(upstream), host="::1") as server:
        for tcp in (False, True):
            assert records(ask(server, "web.example.", tcp=tcp))
        assert f"answering on [::1]:{server.port} (UDP and TCP) for ." in server.output()


def test_without_bind_it_answers_on_every_address(upstream: mirror.Mirror) -> None:
    port = free_port("0.0.0.0")
    with process.running(block(upstream, listen=""), host="127.0.0.1", port=port) as server:
        for host in ("127.0.0.1", "127.1.2.3", "::1"):
            for tcp in (False, True):
                assert records(ask(server, "web.example.", tcp=tcp, host=host))
