"""Every story in this folder is acted out, on both loops; its file name is what the test is called."""

from pathlib import Path

import pytest

from tests.scenarios.stage import tell

HERE = Path(__file__).parent
STORIES = {path.stem: path.read_text() for path in sorted(HERE.glob("*.txt"))}


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str) -> None:
    try:
        await tell(STORIES[name], f"{name}.txt")
    except PermissionError as error:
        pytest.skip(f"{name}: {error}")
