"""The compiled lane: built where a C compiler is there, else left out. Everything else is in pyproject.toml."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:  # a build without isolation and without Cython: the Python lane serves
    lanes = []
else:
    sources = [
        Extension(f"resolver.{name}", [f"resolver/{name.replace('.', '/')}.pyx"], extra_compile_args=["-O3"])
        for name in ("accept.lane", "accept.codec", "accept.visits", "cache.life", "report.counters")
    ]
    lanes = cythonize(sources, language_level=3, quiet=True, build_dir="build/cython")
    for lane in lanes:
        lane.optional = True  # a compiler that is missing or fails is a warning; cythonize does not keep this

setup(ext_modules=lanes)
