"""Killed anywhere: the state is told right, and running again finishes."""

from __future__ import annotations

from pathlib import Path

from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.provision.series import Series
from tests.support.f5 import (
    API,
    UTILS,
    Box,
    killed_at,
)
from tests.support.patching import (
    NEW,
    NEWER,
    apply,
    next_series,
    revert,
    state,
)
from tests.support.tree import differences


def test_killed_anywhere_apply_and_revert_converge(box: Box, series: Series) -> None:
    """SIGKILL just before each single effect, then the state is told right, and running again
    finishes; nothing of either run is left behind."""
    _make_small(box)
    before = box.snapshot()
    assert not killed_at(10_000, lambda: apply(box, series))
    ours = box.snapshot()
    states = set()
    for verb, finished in ((revert, before), (apply, ours)):
        undo = apply if verb is revert else revert
        moment = 0
        while killed_at(moment, lambda verb=verb: verb(box, series)):  # type: ignore[misc]
            states.add(state(box, series))
            verb(box, series)
            left = differences(finished, box.snapshot())
            assert left == [], f"{verb.__name__}, killed at effect {moment}"
            undo(box, series)
            moment += 1
        assert moment > 8, "the kills did not reach the writing"
        if verb is revert:
            assert differences(before, box.snapshot()) == []
    assert states == {PatchState.APPLIED, PatchState.PARTIAL, PatchState.NOT_APPLIED}


def test_killed_anywhere_an_upgrade_converges(box: Box, series: Series, tmp_path: Path) -> None:
    _make_small(box)
    before = box.snapshot()
    newer = next_series(box, tmp_path, {NEW: b"ready = 2\n"})
    moment = 0
    apply(box, series)
    while killed_at(moment, lambda: apply(box, newer)):
        assert state(box, newer) in (PatchState.PARTIAL, PatchState.APPLIED)
        assert apply(box, newer).state is PatchState.APPLIED
        assert not (box.source / NEWER).parent.exists()
        revert(box, newer)
        assert differences(before, box.snapshot()) == [], f"killed at effect {moment}"
        apply(box, series)
        moment += 1
    assert moment > 6, "the kills did not reach the writing"


def _make_small(box: Box) -> None:
    """Keep the two hooked files only: many runs over a large tree take their time."""
    others = [path for path in box.git("ls-files").split() if path not in (UTILS, API)]
    box.git("rm", "-q", "--", *others)
    box.git("commit", "-q", "-m", "small")
