"""The Dockerfile as stages of instructions, and its build steps run without an engine.

What this covers: comments, continued lines, `ARG` before the first stage, `FROM ... AS`, and `RUN`, `COPY`, `ENV`,
`LABEL`, `ENTRYPOINT` in the forms that the Dockerfile of this tree uses. No heredocs, no `--mount`. What an engine
would do in a root of its own, `run_steps` does below a folder, and so the absolute paths of the stage move there.
"""

import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import wheel

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN_FOLDERS = ("/src", "/opt", "/wheels")
"""The folders that the build stage makes, and that `run_step` moves."""


@dataclass(frozen=True)
class Stage:
    """One stage: its base, its name, and (word, text) of each instruction."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def texts(self, word: str) -> list[str]:
        """The texts of all instructions that begin with `word`."""
        return [text for found, text in self.steps if found == word]

    def installed(self) -> set[str]:
        """The Debian packages that the stage installs."""
        found = re.findall(r"apt-get install((?: +[\w.+-]+)+)", " ".join(self.texts("RUN")))
        return {word for words in found for word in words.split() if not word.startswith("-")}

    def settings(self, word: str) -> dict[str, str]:
        """The `NAME=VALUE` pairs of all ENV or LABEL instructions."""
        pairs = [part.partition("=") for text in self.texts(word) for part in shlex.split(text)]
        return {name: value for name, _, value in pairs}


def stages(path: Path = ROOT / "Dockerfile") -> list[Stage]:
    """Return the stages of a Dockerfile, in order."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, text = line.partition(" ")
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].steps.append((word, text))
    return found


def moved(text: str, folder: Path) -> str:
    """Return a step with the stage's own folders below `folder`."""
    own = "|".join(map(re.escape, OWN_FOLDERS))
    return re.sub(rf"(?<![\w/.-])({own})(?=[/\s'\"]|$)", lambda found: f"{folder}{found[1]}", text)


def run_steps(stage: Stage, folder: Path) -> None:
    """Do what a stage says, below `folder`; not apt-get: this machine has the packages, or a step fails."""
    environment = {name: moved(value, folder) for name, value in stage.settings("ENV").items()}
    work = folder
    for word, text in stage.steps:
        if word == "WORKDIR":
            work = Path(moved(text, folder))
            for made in (work, *(Path(moved(own, folder)) for own in OWN_FOLDERS)):
                made.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            copy(shlex.split(text), work)
        elif word == "RUN" and not text.startswith("apt-get "):
            wheel.run(["sh", "-ec", moved(text, folder)], cwd=work, env=environment)


def copy(words: Sequence[str], work: Path) -> None:
    """COPY from the context, as the build stage uses it: files into the folder, or one folder to one folder."""
    *sources, target = words
    for source in sources:
        context = work / ".context"
        wheel.copy_tracked(context, [source])
        found = context / source
        found.rename(work / target / found.name if found.is_file() else work / target)
