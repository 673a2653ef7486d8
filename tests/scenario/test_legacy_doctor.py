"""The hand-made patch of the field as a person meets it: doctor names it, `--fix` replaces it on
consent, uninstall brings it back.

The patch itself is somebody else's, so a stand-in takes its place, and the program is a copy whose
table knows that one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ishowtts_ops
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.sim.checkout import make_checkout
from tests.scenario.story import foreign
from tests.support.f5 import API, SOURCE, UTILS, cache_folder
from tests.support.folder import Done, FolderBox, differences

PROJECT = Path(ishowtts_ops.__file__).parents[1]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    made = FolderBox(
        tmp_path / "box", settings={"engine": {"kind": "f5"}, "f5": {"weights": "random"}}
    )
    make_checkout(made.host, version="1.1.9", cache=cache_folder())
    yield made
    made.stop()


@pytest.fixture
def program(tmp_path: Path, box: FolderBox) -> Path:
    """A copy of the program: its table of older patches knows the stand-in."""
    folder = tmp_path / "program"
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("ishowtts_ops", "patches"):
        shutil.copytree(PROJECT / name, folder / name, ignore=skip)
    for name in ("units", "config"):
        (folder / name).symlink_to(PROJECT / name)
    rows = []
    for path in (UTILS, API):
        file = box.host.path(f"{SOURCE}/{path}")
        upstream = file.read_bytes()
        file.write_bytes(foreign(upstream))
        rows.append(f"ishowtts\t{path}\t{blob_id(foreign(upstream))}\t{blob_id(upstream)}\n")
    (folder / "patches/f5-tts/legacy.tsv").write_text("".join(rows))
    return folder


def run(program: Path, box: FolderBox, *words: str) -> Done:
    argv = [sys.executable, "-m", "ishowtts_ops", *words, "--root", str(box.root)]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=program, env=env, capture_output=True, text=True, timeout=240)
    return Done(done.returncode, done.stdout, done.stderr)


def legacy_findings(done: Done) -> list[dict[str, Any]]:
    found = json.loads(done.out)["data"]["findings"]
    return [row for row in found if row["check"] == "patch-state" and row["severity"] == "error"]


def test_named_replaced_and_brought_back(box: FolderBox, program: Path) -> None:
    before = box.tree()
    first = run(program, box, "install", "--yes", "--only", "voices")
    assert "Installed: 1 changes made." in first.out, first.out + first.err
    (finding,) = legacy_findings(run(program, box, "doctor", "patch", "--json"))
    assert "An older patch (`ishowtts`) is in" in finding["text"]
    assert finding["remedy"]["step"] == "patch"

    refused = run(program, box, "patch", "apply")
    assert refused.code == 1 and "patch apply --replace-legacy" in refused.err
    declined = run(program, box, "doctor", "--fix", "patch")
    assert declined.code != 0, "nobody said yes"
    assert b"made faster by hand" in box.host.read_bytes(f"{SOURCE}/{UTILS}")

    fixed = run(program, box, "doctor", "--fix", "--yes", "patch")
    assert fixed.code == 0, fixed.out + fixed.err
    status = json.loads(run(program, box, "patch", "status", "--json").out)["data"]
    assert status["state"] == "applied"
    assert b"made faster by hand" not in box.host.read_bytes(f"{SOURCE}/{API}")

    undone = run(program, box, "uninstall", "--yes")
    assert undone.code == 0, undone.out + undone.err
    assert differences(before, box.tree()) == []
