"""From install to uninstall with the program itself, on a box in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folder import FolderBox, differences


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path / "box", board="orin-nano-super")
    yield made
    made.stop()


def test_the_main_job_from_install_to_uninstall(box: FolderBox, tmp_path: Path) -> None:
    before = box.tree()
    done = box.run("install", "--yes")
    assert done.code == 0, done.out + done.err
    assert "Installed: 4 changes made." in done.out
    again = box.run("install", "--yes")
    assert "Nothing to do" in again.out
    status = json.loads(box.run("status", "--json").out)
    assert status["data"]["daemon"]["ready"] is True
    speech = tmp_path / "a.wav"
    said = box.run("say", "hello", "-o", str(speech))
    assert said.code == 0, said.err
    assert speech.read_bytes()[:4] == b"RIFF"
    empty = box.run("say", "", "-o", str(tmp_path / "b.wav"))
    assert (empty.code, (tmp_path / "b.wav").exists()) == (1, False)
    assert "tone" in box.run("voices", "list").out
    examined = box.run("doctor", "--json")
    assert examined.code == 0, examined.out
    box.host.query(["nvpmodel", "-m", "2"])  # somebody undoes the lock
    lost = box.run("doctor")
    assert lost.code == 1
    assert "lock" in lost.out
    fixed = box.run("doctor", "--fix", "--yes")
    assert fixed.code == 0, fixed.out + fixed.err
    assert "mended" in fixed.out
    gone = box.run("uninstall", "--yes")
    assert gone.code == 0, gone.err
    assert differences(before, box.tree()) == []
    assert "Nothing to do" in box.run("uninstall", "--yes").out
