"""`config set-nfe` on a whole box, and uninstall after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.sim.checkout import VOICES, configuration
from tests.support.folder import FolderBox, differences

TOML = "/opt/ishowtts/config/ishowtts.toml"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path / "box")
    text = configuration(VOICES).replace("default_nfe_step = 7", "default_nfe_step = 32")
    made.host.write(TOML, text)
    yield made
    made.stop()


def test_asked_for_written_and_undone(box: FolderBox) -> None:
    before = box.tree()
    shown = box.run("config", "set-nfe", "7", "--dry-run")
    assert shown.code == 0 and "+default_nfe_step = 7  # Don't change" in shown.out
    refused = box.run("config", "set-nfe", "7")
    assert refused.code == 2, "nobody said yes"
    assert differences(before, box.tree()) == []
    done = box.run("config", "set-nfe", "7", "--yes")
    assert done.code == 0, done.err
    assert "default_nfe_step = 7  # Don't change" in box.host.read_text(TOML)
    assert "Nothing to do" in box.run("config", "set-nfe", "7").out
    undone = box.run("uninstall", "--yes")
    assert undone.code == 0, undone.out + undone.err
    assert differences(before, box.tree()) == []
