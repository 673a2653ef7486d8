"""Every state of a patched submodule, made for real and recognised."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, PatchRefused
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.patch import FileState, PatchState, PatchStep
from ishowtts_ops.provision.patch_state import PATCH_STATE_PATH, read_records
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.steps import Ledger
from tests.support.f5 import (
    API,
    CHECKOUT,
    PLAIN_GIT,
    SOURCE,
    UTILS,
    VERSIONS,
    Box,
    commit_upstream,
    diff,
    git,
    write_series,
)
from tests.support.patching import (
    BESIDE,
    NEW,
    NEWER,
    apply,
    next_series,
    revert,
    state,
)
from tests.support.tree import differences


@pytest.mark.parametrize("version", VERSIONS)
def test_the_projects_series_there_and_back(boxes: Callable[[str], Box], version: str) -> None:
    box = boxes(version)
    (box.source / UTILS).chmod(0o755)
    before = box.snapshot()
    found = patch.status(box.host.read_only(), SOURCE)
    assert (found.state, found.version) == (PatchState.NOT_APPLIED, version)
    assert apply(box).state is PatchState.APPLIED
    series = load_series()
    assert all(box.read(path) == data for path, data in series.added.items())
    changed = box.git("status", "--porcelain", "-uno").split()
    assert set(changed) == {"M", *series.variant(version).hooked()}
    assert patch.status(box.host.read_only(), SOURCE).version == version
    assert revert(box).state is PatchState.NOT_APPLIED
    assert differences(before, box.snapshot()) == []


def test_what_is_exported_is_what_is_applied(box: Box) -> None:
    box.git("tag", "here")
    message = patch.export(box.host.read_only(), SOURCE)
    apply(box)
    box.git("add", "--all")
    ours = box.git("write-tree")
    assert patch.export(box.host.read_only(), SOURCE) == message, "patched or not, the same"
    box.git("reset", "-q", "--hard", "here")
    mail = box.host.root / "series.mbox"
    mail.write_text(message)
    box.git("am", "-q", str(mail))
    assert box.git("write-tree") == ours
    assert state(box) is PatchState.APPLIED, "a series that somebody committed is applied too"


def test_the_step_shows_then_does_then_rests(box: Box, series: Series) -> None:
    before = box.snapshot()
    step = PatchStep(Settings(), box.ledger, series)
    change = step.diff(box.host.read_only())
    assert change is not None
    shown = "\n".join(change.preview)
    assert "+from f5_tts.quick import ready" in shown and f"+++ b{SOURCE}/{API}" in shown
    assert f"$ write {SOURCE}/{NEWER}    # 1 lines, added by the series" in shown
    assert differences(before, box.snapshot()) == [], "a plan changes nothing"
    told: list[str] = []
    change = PatchStep(Settings(), box.ledger, series).diff(box.host)
    assert change is not None
    change.apply(told.append)
    assert f"wrote {UTILS}" in told
    after = box.snapshot()
    assert PatchStep(Settings(), box.ledger, series).diff(box.host.read_only()) is None
    assert differences(after, box.snapshot()) == []


def test_the_ledger_alone_puts_everything_back(box: Box, series: Series) -> None:
    before = box.snapshot()
    apply(box, series)
    cache = box.source / "src/f5_tts/quick/__pycache__"
    cache.mkdir()
    (cache / "__init__.cpython-310.pyc").write_bytes(b"byte code")
    box.ledger.restore_files()
    assert differences(before, box.snapshot()) == []


def test_the_step_waits_for_sources_that_are_yet_to_come(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    change = PatchStep(Settings(), Ledger.open(host)).diff(host.read_only())
    assert change is not None and "when the sources are there" in change.preview[0]


def test_another_engine_needs_no_patch(box: Box) -> None:
    settings = Settings.model_validate({"engine": {"kind": "espeak"}})
    assert PatchStep(settings, box.ledger).diff(box.host.read_only()) is None


def test_applied_twice_is_applied_once(box: Box, series: Series) -> None:
    apply(box, series)
    after, record = box.snapshot(), box.host.read_bytes(PATCH_STATE_PATH)
    apply(box, series)
    assert differences(after, box.snapshot()) == []
    assert box.host.read_bytes(PATCH_STATE_PATH) == record


def test_the_record_names_blobs_as_git_has_them(box: Box, series: Series) -> None:
    before = box.git("hash-object", UTILS).strip()
    status = apply(box, series)
    record = read_records(box.host)[SOURCE]
    assert record.complete and record.series == series.id and record.version == "1.1.9"
    assert record.commit == box.git("rev-parse", "HEAD").strip() == status.commit
    assert record.files[UTILS].original == before
    assert record.files[UTILS].patched == box.git("hash-object", UTILS).strip()
    json.dumps(status.to_json())
    assert status.to_json()["state"] == "applied"


def test_an_edited_hook_is_drift(box: Box, series: Series) -> None:
    apply(box, series)
    box.edit(UTILS, "from f5_tts.quick import ready\n", "from f5_tts.quick import ready  # mine\n")
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert found.state is PatchState.DRIFTED and found.edited == (UTILS,)
    rows = {row.path: row.state for row in found.rows}
    assert rows[UTILS] is FileState.EDITED and rows[API] is FileState.OURS
    edited = box.snapshot()
    for verb in (apply, revert):
        with pytest.raises(PatchRefused, match=UTILS) as refusal:
            verb(box, series)
        assert "set-aside" in refusal.value.hint
    assert differences(edited, box.snapshot()) == [], "a refusal loses nothing"


def test_edits_set_aside_can_be_brought_back(box: Box, series: Series) -> None:
    before = box.snapshot()
    apply(box, series)
    ours = box.snapshot()
    box.edit(UTILS, "import hashlib\n", "import hashlib  # mine\n")
    (box.source / NEW).write_bytes(b"ready = 'mine'\n")
    edited = box.read(UTILS), box.read(NEW)
    apply(box, series, set_aside=True)
    (saved,) = box.source.parent.glob("F5-TTS.edits-*.patch")
    assert [line for line in differences(ours, box.snapshot()) if saved.name not in line] == []
    box.git("apply", str(saved))
    assert (box.read(UTILS), box.read(NEW)) == edited
    revert(box, series, set_aside=True)
    assert [line for line in differences(before, box.snapshot()) if saved.name not in line] == []


def test_a_dirty_submodule_is_refused_and_untouched(box: Box, series: Series) -> None:
    other = "src/f5_tts/model/cfm.py"
    for path in (UTILS, other):
        (box.source / path).write_bytes(box.read(path) + b"# my own line\n")
    dirty = box.snapshot()
    with pytest.raises(PatchRefused) as refusal:
        apply(box, series)
    assert UTILS in refusal.value.message and other in refusal.value.message
    assert "stash" in refusal.value.hint
    with pytest.raises(PatchRefused):
        PatchStep(Settings(), box.ledger, series).diff(box.host.read_only())
    assert differences(dirty, box.snapshot()) == []
    assert state(box, series) is PatchState.DRIFTED


def test_edits_outside_the_series_do_not_hide_its_state(box: Box, series: Series) -> None:
    apply(box, series)
    other = "src/f5_tts/model/cfm.py"
    (box.source / other).write_bytes(box.read(other) + b"# my own line\n")
    (box.source / "notes.txt").write_text("untracked files are nobody's business\n")
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert found.state is PatchState.APPLIED and found.edited == (other,)
    revert(box, series)
    assert box.git("status", "--porcelain").splitlines() == [f" M {other}", "?? notes.txt"]


def test_a_dirty_submodule_can_be_set_aside_and_had_back(box: Box, series: Series) -> None:
    other = "src/f5_tts/model/cfm.py"
    for path in (UTILS, other):
        (box.source / path).write_bytes(box.read(path) + b"# my own line\n")
    dirty = box.snapshot()
    assert apply(box, series, set_aside=True).state is PatchState.APPLIED
    assert box.git("status", "--porcelain", "-uno").split() == ["M", API, "M", UTILS]
    ledger = box.ledger
    patch.undo_all(box.host, ledger)
    ledger.restore_files()
    left = [line for line in differences(dirty, box.snapshot()) if ".edits-" not in line]
    assert left == [], "uninstall brings back what was there: the edits"


def test_a_foreign_file_in_our_place_is_kept(box: Box, series: Series) -> None:
    (box.source / BESIDE).write_text("not yours\n")
    with pytest.raises(PatchRefused, match=BESIDE):
        apply(box, series)
    assert (box.source / BESIDE).read_text() == "not yours\n"


def test_a_missing_piece_is_partial_and_mended(box: Box, series: Series) -> None:
    apply(box, series)
    ours = box.snapshot()
    (box.source / NEWER).unlink()
    box.git("checkout", "--", API)
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert found.state is PatchState.PARTIAL and API in found.text and NEWER in found.text
    apply(box, series)
    assert differences(ours, box.snapshot()) == []


def test_a_deleted_upstream_file_is_not_ours_to_restore(box: Box, series: Series) -> None:
    (box.source / UTILS).unlink()
    assert state(box, series) is PatchState.DRIFTED
    with pytest.raises(PatchRefused, match="missing") as refusal:
        apply(box, series)
    assert f"checkout -- {UTILS}" in refusal.value.hint


def test_a_symlink_in_a_hooks_place_is_drift(box: Box, series: Series) -> None:
    (box.source / UTILS).rename(box.source / "elsewhere.py")
    (box.source / UTILS).symlink_to("../../../elsewhere.py")
    assert state(box, series) is PatchState.DRIFTED


def test_submodule_update_loses_the_patch(box: Box, series: Series) -> None:
    apply(box, series)
    checkout = box.host.path("/opt/ishowtts")
    git(checkout, "submodule", "update", "--force")
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert found.state is PatchState.NOT_APPLIED
    assert "It was, and is lost" in found.text
    assert apply(box, series).state is PatchState.APPLIED


def test_a_moved_submodule_is_put_back_to_its_own_upstream(box: Box) -> None:
    """The ledger's originals are those of 1.1.9; uninstall must not put them into 1.1.22."""
    apply(box)
    old = box.git("rev-parse", "--short=9", "HEAD").strip()
    box.git("checkout", "-q", "--force", "v1.1.22")
    found = patch.status(box.host.read_only(), SOURCE)
    assert (found.state, found.version) == (PatchState.NOT_APPLIED, "1.1.22")
    assert f"moved from commit {old}" in found.text
    again = apply(box)
    assert (again.state, again.version) == (PatchState.APPLIED, "1.1.22")
    ledger = box.ledger
    patch.undo_all(box.host, ledger)
    ledger.restore_files()
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_the_ledger_follows_a_moved_submodule(box: Box) -> None:
    apply(box)
    box.git("checkout", "-q", "--force", "v1.1.22")
    apply(box)
    box.ledger.restore_files()
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_an_original_in_the_ledger_counts_only_if_it_is_the_original(
    box: Box, series: Series
) -> None:
    before = box.snapshot()
    apply(box, series)
    ledger = box.ledger
    ledger.files[f"{SOURCE}/{UTILS}"]["data"] = "b3RoZXIK"
    ledger.save()
    revert(box, series)
    assert differences(before, box.snapshot()) == []


def test_a_moved_submodule_without_the_patch_is_left_alone(box: Box) -> None:
    apply(box)
    box.git("checkout", "-q", "--force", "v1.1.22")
    box.git("clean", "-qdf")
    ledger = box.ledger
    patch.undo_all(box.host, ledger)
    ledger.restore_files()
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_unknown_upstream_that_fits_is_patched(box: Box, series: Series) -> None:
    commit_upstream(box, UTILS, lambda data: data + b"\n\nEND = True\n")
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert (found.state, found.version) == (PatchState.NOT_APPLIED, None)
    assert apply(box, series).state is PatchState.APPLIED
    assert box.read(UTILS).endswith(b"END = True\n")
    assert revert(box, series).state is PatchState.NOT_APPLIED
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_unknown_upstream_that_does_not_fit_is_a_conflict(box: Box, series: Series) -> None:
    commit_upstream(
        box, API, lambda data: data.replace(b"class F5TTS:\n", b"class F5TTS(object):\n")
    )
    before = box.snapshot()
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert found.state is PatchState.CONFLICT
    (failure,) = found.failures
    assert (failure.patch, failure.path, failure.number) == ("0002-api.patch", API, 1)
    assert "class F5TTS:" in failure.reason and failure.header in found.text
    with pytest.raises(PatchRefused, match="hunk 1"):
        apply(box, series)
    assert differences(before, box.snapshot()) == [], "a conflict leaves upstream untouched"


def test_a_version_without_patches_is_a_conflict(box: Box, series: Series, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    names = (folder / "series").read_text().replace(".patch", ".patch versions=1.1.5")
    (folder / "series").write_text(names)
    found = patch.status(box.host.read_only(), SOURCE, load_series(folder))
    assert found.state is PatchState.CONFLICT and "no patch for F5-TTS 1.1.9" in found.text


def test_no_source(box: Box) -> None:
    found = patch.status(box.host.read_only(), "/opt/nothing")
    assert found.state is PatchState.ABSENT and "/opt/nothing" in found.text
    with pytest.raises(OpsError, match="no F5-TTS"):
        patch.apply(box.host, "/opt/nothing", box.ledger)


def test_a_newer_series_replaces_an_older_one(box: Box, series: Series, tmp_path: Path) -> None:
    before = box.snapshot()
    newer = next_series(box, tmp_path, {NEW: b"ready = 2\n"})
    apply(box, series)
    found = patch.status(box.host.read_only(), SOURCE, newer)
    assert found.state is PatchState.PARTIAL
    assert {row.path for row in found.rows if row.state is FileState.OUTDATED} == {
        UTILS,
        API,
        NEW,
        NEWER,
        BESIDE,
    }
    assert apply(box, newer).state is PatchState.APPLIED
    assert not (box.source / NEWER).exists() and b"quick = True" not in box.read(API)
    revert(box, newer)
    assert differences(before, box.snapshot()) == []


def test_a_lost_record_changes_nothing(box: Box, series: Series) -> None:
    before = box.snapshot()
    apply(box, series)
    for path in (PATCH_STATE_PATH, "/var/lib/ishowtts-ops/ledger.json"):
        box.host.remove(path)
    assert state(box, series) is PatchState.APPLIED
    revert(box, series)
    assert differences(before, box.snapshot()) == []


def test_a_damaged_record_is_said(box: Box, series: Series) -> None:
    apply(box, series)
    box.host.write(PATCH_STATE_PATH, '{"version": 1, "sources": ')
    with pytest.raises(OpsError, match="damaged"):
        patch.status(box.host.read_only(), SOURCE, series)


def test_a_series_that_makes_no_python_is_refused(box: Box, tmp_path: Path) -> None:
    utils = box.read(UTILS)
    hook = diff(UTILS, utils, utils.replace(b"import hashlib\n", b"import (\n"), tmp_path / "d")
    broken = write_series(tmp_path / "broken", {"0001.patch": hook}, {NEW: b"x = 1\n"})
    before = box.snapshot()
    with pytest.raises(PatchRefused, match="not be valid Python"):
        apply(box, broken)
    assert differences(before, box.snapshot()) == []


def test_uninstall_leaves_nothing_where_a_checkout_was_deleted(box: Box) -> None:
    """A file put back would stand in the way of cloning it again."""
    ledger = box.ledger
    patch.apply(box.host, SOURCE, ledger)
    assert any(path.startswith(SOURCE) for path in ledger.files)
    box.host.rmtree(CHECKOUT)
    assert patch.undo_all(box.host, ledger) == ()
    ledger.restore_files(keep=lambda path: path.startswith("/var/lib/ishowtts-ops"))
    assert not box.host.lexists(CHECKOUT)


def test_uninstall_names_a_checkout_that_was_moved_with_the_series_in_it(box: Box) -> None:
    clean = box.snapshot()
    ledger = box.ledger
    patch.apply(box.host, SOURCE, ledger)
    box.host.mkdir("/home/me")
    moved = "/home/me/tts/third_party/F5-TTS"
    box.host.path(CHECKOUT).rename(box.host.path("/home/me/tts"))
    (said,) = patch.undo_all(box.host, ledger)
    assert said.startswith(f"{moved} has the speed series in it")
    ledger.restore_files(keep=lambda path: path.startswith("/var/lib/ishowtts-ops"))
    assert not box.host.lexists(CHECKOUT)
    command = said.partition("`")[2].rpartition("`")[0]
    real = command.replace(moved, str(box.host.path(moved)))
    subprocess.run(["bash", "-ec", real], check=True, env={**os.environ, **PLAIN_GIT})
    box.host.path("/home/me/tts").rename(box.host.path("/opt") / "ishowtts")
    assert differences(clean, box.snapshot()) == []
