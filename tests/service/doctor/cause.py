"""A cause as its file in `causes/` says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ishowtts_ops.doctor.finding import Severity
from tests.service.doctor.breaking import WORDS

FOLDER = Path(__file__).parent / "causes"
AGX = "agx-orin-64"

Way = str | dict[str, Any]


class Fix(BaseModel):
    """What `doctor --fix` does about a cause.

    Attributes:
        steps: what it runs, in order; a step that does not mend its findings with its outcome.
        left: check → severity of what is complained about afterwards; empty: the box is well.
        asks: a step takes the owner's consent, which --yes does not give.
        after_reboot: what is left once the box was rebooted; None: no reboot is needed.
    """

    model_config = ConfigDict(extra="forbid")

    steps: list[str | dict[str, str]]
    left: dict[str, Severity] = {}
    asks: bool = False
    after_reboot: dict[str, Severity] | None = None

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """(step, outcome) of each attempt."""
        return [
            (step, "mended") if isinstance(step, str) else next(iter(step.items()))
            for step in self.steps
        ]


class Cause(BaseModel):
    """One file.

    Attributes:
        name: of the file.
        cause: in words.
        breaks: what is done to a healthy box, in `breaking`'s words.
        under_load: what happens to it while it speaks; doctor looks with --under-load.
        says: check → severity of every finding that stands alone. Hints (info) are named only where
            the cause shows in nothing else.
        also: check → severity of every finding that is told as following from one of those.
        words: what the findings say somewhere, their remedies' commands included.
        fix: None where no step mends anything; --fix must say so.
        commands: verbs of ours that a remedy names and that leave the box well, as argv.
        reboot: a remedy says that it needs one.
        undo: uninstall after the mending leaves the box as it was before install (true), or as it
            would be with this cause and without us, where the cause is somebody else's (theirs).
        given: the settings are given with --config, as the box has lost them.
        needs: a program of this machine without which the cause is skipped.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    cause: str
    board: str = AGX
    breaks: list[Way] = Field(default=[], alias="break")
    under_load: list[Way] = []
    says: dict[str, Severity]
    also: dict[str, Severity] = {}
    words: list[str] = []
    fix: Fix | None = None
    commands: list[list[str]] = []
    reboot: bool = False
    undo: bool | Literal["theirs"] = False
    given: bool = False
    needs: str = ""

    @property
    def ways(self) -> list[Way]:
        return [*self.breaks, *self.under_load]


def load(path: Path) -> Cause:
    """One file of the folder; raises pydantic's error for one that is not as above."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    cause = Cause.model_validate({"name": path.stem, **raw})
    for way in cause.ways:
        word = way if isinstance(way, str) else next(iter(way))
        assert word in WORDS, f"{path.name}: there is no way to break a box called {word!r}"
    return cause


CAUSES = [load(path) for path in sorted(FOLDER.glob("*.yaml"))]
