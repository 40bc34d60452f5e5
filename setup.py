"""The compiled lane: built where a C compiler is there, else left out. Everything else is in pyproject.toml."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:  # a build without isolation and without Cython: the Python lane serves
    lanes = []
else:
    lane = Extension(
        "resolver.accept.lane", ["resolver/accept/lane.pyx"], optional=True, extra_compile_args=["-O3"]
    )
    lanes = cythonize([lane], language_level=3, quiet=True, build_dir="build/cython")

setup(ext_modules=lanes)
