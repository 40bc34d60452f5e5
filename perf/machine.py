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
        "processor": f"{cpu}{hypervisor}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory_kib / 1024 / 1024:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "system": system,
        "python": platform.python_version(),
        "load": dnsperf_version(),
        "commit": commit(),
    }


def commit() -> str:
    """Which state of this tree was measured; a tree with changes says so."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
        done = subprocess.run(
            asked, capture_output=True, text=True, timeout=PROGRAM_S, check=False, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


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
