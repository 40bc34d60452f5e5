"""Broken Corefiles, as people write them: each is refused with the one line that its first line expects."""

from pathlib import Path

import pytest

from resolver.errors import ConfigError
from resolver.settings.loading import load
from resolver.settings.model import ProcessOptions
from tests.settings.support import RESOLV_CONF, FakeMachine

FILES = sorted(path for path in (Path(__file__).parent / "broken").iterdir() if path.is_file())
EXPECT = "# expect "


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_broken_corefile_says_where_and_what_and_what_is_accepted(path: Path) -> None:
    first, _, _ = path.read_text().partition("\n")
    assert first.startswith(EXPECT)
    expected = first.removeprefix(EXPECT)
    machine = FakeMachine({**RESOLV_CONF, "Corefile": path.read_bytes()})
    with pytest.raises(ConfigError) as caught:
        load(ProcessOptions(conf="Corefile"), machine)
    assert str(caught.value).removeprefix("Corefile:").strip() == expected


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 25
