"""A person updates F5-TTS on a box whose submodule has the series, as docs/take-over.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.provision.units import WATCH_PATH, WATCH_TIMER
from ishowtts_ops.sim.checkout import make_checkout
from tests.support.f5 import CHECKOUT, SOURCE, UTILS, cache_folder, git
from tests.support.folder import FolderBox


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    settings = {"engine": {"kind": "f5"}, "f5": {"weights": "random", "device": "cpu"}}
    made = FolderBox(tmp_path / "box", settings=settings)
    make_checkout(made.host, version="1.1.9", also=["1.1.22"], cache=cache_folder())
    yield made
    made.stop()


def pin(box: FolderBox, tag: str) -> None:
    checkout = box.host.path(CHECKOUT)
    commit = git(box.host.path(SOURCE), "rev-parse", f"{tag}^{{commit}}").strip()
    git(checkout, "update-index", "--cacheinfo", f"160000,{commit},third_party/F5-TTS")
    git(checkout, "commit", "-q", "-m", f"F5-TTS {tag}")


def test_taken_out_updated_and_put_back(box: FolderBox) -> None:
    checkout = box.host.path(CHECKOUT)
    mistyped = box.run("install", "--yes", "--wheels", "/nowhere")
    assert mistyped.code == 2 and "There is no folder /nowhere" in mistyped.err
    done = box.run("install", "--yes", "--only", "patch", "--only", "units")
    assert "Installed: 2 changes" in done.out, done.err
    proof = box.run("patch", "verify")
    assert proof.code == 0 and "modules): comes from the patched source" in proof.out
    assert len(proof.out.splitlines()) < 8, proof.out
    shown = box.run("patch", "status")
    assert shown.code == 0 and len(shown.out.splitlines()) < 12, shown.out

    pin(box, "v1.1.22")
    git(checkout, "submodule", "update", check=False)
    assert git(box.host.path(SOURCE), "describe", "--tags").startswith("v1.1.9"), "git refused"
    reverted = box.run("patch", "revert")
    assert reverted.code == 0, reverted.err
    command = f"sudo systemctl stop {WATCH_PATH} {WATCH_TIMER} && sudo ishowtts-ops patch revert"
    assert command in reverted.err, "the watch units run, and would apply it again"
    for unit in (WATCH_PATH, WATCH_TIMER):
        assert box.host.run(["systemctl", "stop", unit]).ok
    again = box.run("patch", "revert")
    assert again.code == 0 and WATCH_PATH not in again.err

    git(checkout, "submodule", "update")
    assert git(checkout, "status", "--porcelain") == ""
    back = box.run("install", "--yes", "--only", "patch", "--only", "units")
    assert "Installed: 2 changes" in back.out, back.out + back.err
    assert "F5-TTS 1.1.22" in box.run("patch", "status").out
    assert box.host.query(["systemctl", "is-active", WATCH_PATH]).stdout.strip() == "active"


def test_by_force_the_series_is_lost_and_comes_back(box: FolderBox) -> None:
    checkout = box.host.path(CHECKOUT)
    box.run("install", "--yes", "--only", "patch")
    pin(box, "v1.1.22")
    git(checkout, "submodule", "update", "--force")
    lost = box.run("patch", "status")
    assert lost.code == 1 and "F5-TTS 1.1.22" in lost.out
    assert b"f5_tts.fast" not in box.host.read_bytes(f"{SOURCE}/{UTILS}")
    box.run("install", "--yes", "--only", "patch")
    assert box.run("patch", "status").code == 0
    undone = box.run("uninstall", "--yes")
    assert undone.code == 0, undone.err
    assert git(box.host.path(SOURCE), "status", "--porcelain", "--ignored") == ""
