"""A card is prepared while it is not running; its first boot does the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.host import SIM_MARKER
from ishowtts_ops.provision.offline import FIRST_BOOT
from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import CLOCKS, DAEMON, Daemon, configure, unlocked

UNIT = f"/etc/systemd/system/{FIRST_BOOT}"
LINK = f"/etc/systemd/system/multi-user.target.wants/{FIRST_BOOT}"


@pytest.fixture
def card(base: Path) -> Iterator[tuple[Box, Daemon]]:
    """A box that is off, with the program on it."""
    with new_box(BOARD) as box:
        yield box, configure(box)


def _prepare(box: Box) -> None:
    """What a person does with the card in a reader. A real card says nothing of a simulation."""
    marker = box.path(SIM_MARKER)
    aside = marker.with_suffix(".aside")
    marker.rename(aside)
    try:
        argv = [sys.executable, "-m", "ishowtts_ops", "install", "--yes", "--root", str(box.root)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    finally:
        aside.rename(marker)
    assert done.returncode == 0, done.stdout + done.stderr
    assert FIRST_BOOT in done.stdout


def _gone(box: Box) -> bool:
    return not box.path(UNIT).exists() and not box.path(LINK).is_symlink()


def test_the_first_boot_finishes_the_installation_and_removes_its_unit(
    card: tuple[Box, Daemon],
) -> None:
    box, daemon = card
    _prepare(box)
    assert box.path(UNIT).is_file() and box.path(LINK).is_symlink()
    box.boot()
    eventually(
        lambda: _gone(box), "the unit is gone", timeout=90, evidence=lambda: box.why(FIRST_BOOT)
    )
    assert daemon.ready(), box.why(DAEMON)
    assert not unlocked(box)
    box.reboot()
    box.wait_for(DAEMON)
    box.wait_for(CLOCKS, "active/exited")
    assert daemon.ready() and _gone(box)
    assert "Nothing to do" in box.ops("install", "--yes").stdout
