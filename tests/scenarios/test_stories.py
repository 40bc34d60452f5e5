"""Every story in this folder is acted out, on both loops and both lanes; its name is the test's name."""

from pathlib import Path

import pytest

from tests.scenarios.stage import tell

HERE = Path(__file__).parent
STORIES = {path.stem: path.read_text() for path in sorted(HERE.glob("*.txt"))}


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, loop_kind: str) -> None:
    # Both lanes hold to the same contract; one for each loop keeps this below half a minute.
    lane = {"asyncio": "python", "uvloop": "auto"}[loop_kind]
    try:
        await tell(STORIES[name], f"{name}.txt", lane)
    except PermissionError as error:
        pytest.skip(f"{name}: {error}")
