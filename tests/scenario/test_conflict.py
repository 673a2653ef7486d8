"""The submodule moves to a commit that the series does not fit: upstream is left alone, the daemon
goes on with its last good copy, and doctor names the hunk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from ishowtts_ops.config import MANIFEST_PATH, Settings
from ishowtts_ops.doctor.checks import ALL_CHECKS
from ishowtts_ops.doctor.finding import Severity
from ishowtts_ops.doctor.run import examine
from ishowtts_ops.errors import PatchRefused
from ishowtts_ops.provision import calendar, patch
from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.provision.patch_last_good import LAST_GOOD
from ishowtts_ops.provision.voices import VoicesStep
from ishowtts_ops.steps import Ledger, Step
from tests.scenario.story import Story
from tests.support.f5 import CHECKOUT, SOURCE, UTILS, Box, git
from tests.support.tree import snapshot

RANDOM = Settings.model_validate({"f5": {"weights": "random"}})


class Spoken(Story):
    """A story whose box also gets the daemon's manifest."""

    def steps(self) -> list[Step]:
        return [*super().steps(), VoicesStep(self.settings, Ledger.open(self.host))]

    def source_of_daemon(self) -> str:
        told = json.loads(self.host.read_text(MANIFEST_PATH))
        return str(told["source"])

    def tree(self) -> object:
        return snapshot(self.host.root, (SOURCE,), ())


def upstream_moves(box: Box) -> None:
    """A commit that rewrites a line a hook stands on, checked out as an update would."""
    box.git("checkout", "-q", "--force", "HEAD")
    was = box.read(UTILS)
    now = was.replace(b"from vocos import Vocos\n", b"from vocos import Vocos as Decoder\n")
    assert now != was
    (box.source / UTILS).write_bytes(now)
    box.git("commit", "-q", "-a", "-m", "upstream moves on")


@pytest.fixture
def story(boxes: Callable[[str], Box]) -> Spoken:
    made = Spoken(boxes("1.1.9"), settings=RANDOM)
    made.take_over()
    assert made.source_of_daemon() == f"{SOURCE}/src"
    upstream_moves(made.box)
    assert made.state is PatchState.CONFLICT
    return made


def conflicted(story: Spoken) -> None:
    """Apply the plan; the state stays a conflict, so `take_over` does not fit here."""
    for step in story.steps():
        change = step.diff(story.host)
        if change is not None:
            change.apply(lambda _: None)


def test_the_daemon_gets_its_last_good_copy_and_upstream_stays(story: Spoken) -> None:
    before = story.tree()
    (change,) = story.plan()
    assert change.step == "voices" and "last good copy" in change.summary
    conflicted(story)
    assert story.source_of_daemon() == f"{LAST_GOOD}/src"
    assert story.tree() == before and story.plan() == []


def test_the_copy_is_a_whole_patched_package(story: Spoken) -> None:
    pytest.importorskip("torch")
    conflicted(story)
    folder = story.host.path(story.source_of_daemon())
    code = "import f5_tts.fast.synthesizer as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(folder)), done.stderr
    assert not list(folder.rglob("*.wav")) and not list(folder.rglob("__pycache__"))


def test_doctor_names_the_hunk(story: Spoken) -> None:
    checks = [check for check in ALL_CHECKS if check.id == "patch-state"]
    found = list(examine(story.host, RANDOM, checks=checks).findings)
    assert [(f.check, f.severity) for f in found] == [("patch-state", Severity.ERROR)]
    (failure, *_) = story.status().failures
    assert failure.path == UTILS and failure.number > 0
    told = " ".join([found[0].text, *(e.value for e in found[0].evidence)])
    assert failure.patch in told and f"hunk {failure.number}" in told and UTILS in told


def test_validating_does_not_move_the_checkout_back(story: Spoken) -> None:
    conflicted(story)
    before = story.tree()
    now = {**calendar.tracked(story.host.read_only(), RANDOM), "config": None}
    good = calendar.Good({**now, "f5": "0" * 40}, None, "2026-01-01T00:00:00Z")
    back = calendar.roll_back(story.host, good, now, RANDOM, lambda _: None)
    assert back.done == () and "last good copy" in back.left[0]
    assert story.tree() == before


def test_when_it_fits_again_the_checkout_is_used_again(story: Spoken) -> None:
    conflicted(story)
    git(story.host.path(CHECKOUT), "submodule", "update", "--force")
    assert [change.step for change in story.plan()] == ["patch", "voices"]
    story.take_over()
    assert story.source_of_daemon() == f"{SOURCE}/src"


def test_without_a_copy_a_conflict_stops_the_install(boxes: Callable[[str], Box]) -> None:
    story = Spoken(boxes("1.1.9"), settings=RANDOM)
    upstream_moves(story.box)
    with pytest.raises(PatchRefused, match=UTILS):
        story.plan()


def test_taking_the_series_out_takes_the_copy_with_it(boxes: Callable[[str], Box]) -> None:
    story = Spoken(boxes("1.1.9"), settings=RANDOM)
    story.take_over()
    assert story.host.is_dir(LAST_GOOD)
    patch.revert(story.host, SOURCE, Ledger.open(story.host))
    assert not story.host.lexists(LAST_GOOD)
