"""What stands beside every number: the machine, and the versions of what ran on it. No paths, no host names."""

import os
import platform
import re
import subprocess
from pathlib import Path

PROGRAM_S = 5.0


def facts() -> dict[str, str]:
    """Processor, cores, memory, system, load before the run."""
    cpu = _field(Path("/proc/cpuinfo"), "model name") or platform.machine()
    memory_kib = int((_field(Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0])
    system = _field(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"')
    hypervisor = " (virtual)" if "hypervisor" in _field(Path("/proc/cpuinfo"), "flags").split() else ""
    return {
        "processor": f"{cpu}{hypervisor}, {os.cpu_count()} cores",
        "memory": f"{memory_kib / 1024 / 1024:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "system": system,
        "python": platform.python_version(),
        "load": dnsperf_version(),
        "commit": commit(),
    }


def commit(tree: Path = Path(__file__).parent) -> str:
    """Which state of this tree was measured; one with changes says so, but for docs/, where results are written."""
    try:
        head, changed = (
            subprocess.run(
                ("git", *words), capture_output=True, text=True, timeout=PROGRAM_S, check=True, cwd=tree
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short=10", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def dnsperf_version() -> str:
    """As dnsperf says it."""
    try:
        done = subprocess.run(["dnsperf", "-h"], capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "no dnsperf"
    found = re.search(r"Version (\S+)", done.stdout + done.stderr)
    return f"dnsperf {found.group(1) if found else '(no version)'} and perf/native/load.c"


def _field(path: Path, name: str, between: str = ":") -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((v.strip() for k, _, v in (line.partition(between) for line in lines) if k.strip() == name), "")
