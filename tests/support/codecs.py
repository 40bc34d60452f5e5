"""Both codecs under the same tests: what a test file calls `decode`, `scan` or `fit` is each of them in turn.

    codec = codecs.both(__name__, "decode")

makes a fixture of that file. The compiled codec must be built: `make test` does, with a C compiler.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from resolver.accept import lanes


def both(module: str, *names: str) -> Any:
    """Return a fixture that puts these functions of each codec in turn into the test module."""

    @pytest.fixture(params=["python", "compiled"], scope="module", autouse=True)
    def codec(request: pytest.FixtureRequest) -> Iterator[None]:
        functions = lanes.chosen(request.param)[1]
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(sys.modules[module], name, getattr(functions, name))
            yield

    return codec
