"""What is compiled under AddressSanitizer and UBSan: its own tests and the fuzz laws, and not one report.

All are built once more into a copy of the package, with both sanitizers, and their tests run there in a process
that has their libraries loaded. Any report ends that process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BUILD = """
from setuptools import Extension, setup
from Cython.Build import cythonize
flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
modules = [
    Extension(
        name, [name.replace(".", "/") + ".pyx"], extra_compile_args=flags, extra_link_args=flags
    )
    for name in (
        "resolver.accept.lane", "resolver.accept.codec", "resolver.accept.visits", "resolver.cache.life",
        "resolver.report.counters",
    )
]
setup(name="sanitized", packages=[], ext_modules=cythonize(modules, language_level=3, quiet=True))
"""

TESTS = (
    *(
        f"tests/accept/test_{name}.py"
        for name in ("udp", "packets", "packets_anew", "rings", "table", "lane_fuzz", "decode", "codec")
    ),
    *(
        f"tests/accept/test_{name}.py"
        for name in ("tcp", "tcp_descriptors", "tcp_limits", "tcp_shutdown", "tcp_time")
    ),
    "tests/cache/test_life.py",
    "tests/report/test_series.py",
    "tests/wire/test_ttls.py",
    "tests/reply/test_fit.py",
)


def library(name: str) -> str:
    """Return where the compiler has a sanitizer's library."""
    done = subprocess.run(
        ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def build(folder: Path) -> None:
    """Copy package and tests into `folder` and build the sanitized lane there."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.c")
    for part in ("resolver", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q\n")
    (folder / "build_sanitized.py").write_text(BUILD)
    command = [sys.executable, "build_sanitized.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


def environment() -> dict[str, str]:
    """Return the environment in which a Python that was built without sanitizers can load such a module."""
    return {
        **os.environ,
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        # Python itself keeps memory until it exits, and that is no leak of ours.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_not_one_report(tmp_path: Path) -> None:
    build(tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        *TESTS,
        "-k",
        "compiled or lanes or both or table",
        "-s",
        "-p",
        "no:faulthandler",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=400, check=False
    )
    report = done.stdout[-4000:] + done.stderr[-4000:]
    assert done.returncode == 0, report
    assert "Sanitizer" not in report
    assert " passed" in report
