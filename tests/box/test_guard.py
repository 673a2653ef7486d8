"""The lock is taken away while the box runs, and the guard puts it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import (
    CLOCKS,
    DAEMON,
    GUARD,
    GUARD_TIMER,
    configure,
    install,
    mode_name,
    unlocked,
)

EVERY = 5


@pytest.fixture(scope="module")
def guarded(base: Path) -> Iterator[Box]:
    with new_box(BOARD) as box:
        box.boot()
        configure(box, power={"guard_seconds": EVERY})
        install(box)
        yield box


def _restored(box: Box) -> None:
    eventually(
        lambda: not unlocked(box),
        "the guard has locked the clocks again",
        timeout=6 * EVERY,
        evidence=lambda: f"unlocked: {unlocked(box)}\n{box.why(GUARD)}",
    )


def test_somebody_runs_nvpmodel_again(guarded: Box) -> None:
    """`-m` of the mode that is set already rewrites every minimum: the lock is gone without a
    word."""
    number = guarded.exec("nvpmodel", "-q").stdout.splitlines()[1]
    guarded.exec("nvpmodel", "-m", number)
    assert "gpu" in unlocked(guarded)
    _restored(guarded)
    assert mode_name(guarded) == "MAXN"
    assert guarded.show(GUARD, "Result")["Result"] == "success"


def test_isolate_runs_nvpmodel_again(guarded: Box) -> None:
    """nvpmodel.service does not remain active, so whatever pulls multi-user.target in runs it once
    more, while the lock's own unit goes on saying `active`."""
    ran = guarded.show("nvpmodel.service", "ExecMainStartTimestampMonotonic")
    guarded.systemctl("start", "nvpmodel.service")
    assert guarded.show("nvpmodel.service", "ExecMainStartTimestampMonotonic") != ran
    assert unlocked(guarded) != []
    assert guarded.state(CLOCKS) == "active/exited"
    _restored(guarded)


def test_somebody_chooses_a_lower_mode(guarded: Box) -> None:
    """The configuration says `mode: max`."""
    guarded.exec("nvpmodel", "-m", "3")
    assert mode_name(guarded) != "MAXN"
    eventually(
        lambda: mode_name(guarded) == "MAXN" and not unlocked(guarded),
        "the guard has brought the mode and the lock back",
        timeout=6 * EVERY,
        evidence=lambda: guarded.why(GUARD),
    )


def test_it_says_what_it_did_and_little_when_all_is_well(guarded: Box) -> None:
    guarded.systemctl("stop", GUARD_TIMER)
    guarded.exec("nvpmodel", "-m", "0")
    before = guarded.journal(GUARD)
    guarded.systemctl("start", GUARD)
    assert unlocked(guarded) == []
    repaired = guarded.journal(GUARD)[len(before) :]
    guarded.systemctl("start", GUARD)
    quiet = guarded.journal(GUARD)[len(before) + len(repaired) :]
    guarded.systemctl("start", GUARD_TIMER)
    assert "restored" in repaired.lower()
    assert "GPU" in repaired, "what was not locked"
    assert "restored" not in quiet.lower()
    assert len(quiet.splitlines()) <= 4, f"every few seconds:\n{quiet}"


def test_the_timer_goes_on(guarded: Box) -> None:
    assert guarded.state(GUARD_TIMER) == "active/waiting"
    assert guarded.state(DAEMON) == "active/running"
    assert guarded.show(DAEMON, "NRestarts")["NRestarts"] == "0"
