"""Every state of a patched submodule, made for real and recognised; apply and revert."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, PatchRefused
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.patch import FileState, PatchState, PatchStep
from ishowtts_ops.provision.patch_state import PATCH_STATE_PATH, read_records
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.steps import Ledger
from tests.support.f5 import (
    API,
    SOURCE,
    UTILS,
    VERSIONS,
    Box,
    commit_upstream,
    copy_box,
    diff,
    git,
    killed_at,
    write_series,
)
from tests.support.tree import differences

NEW = "src/f5_tts/quick/__init__.py"
NEWER = "src/f5_tts/quick/deep/cache.py"
BESIDE = "src/f5_tts/infer/quick_beside.py"
HOOKED_IMPORT = b"from f5_tts.quick import ready\n"


def _hook(data: bytes) -> bytes:
    return data.replace(b"import hashlib\n", b"import hashlib\n" + HOOKED_IMPORT, 1)


def _hook_api(data: bytes) -> bytes:
    return data.replace(b"class F5TTS:\n", b"class F5TTS:\n    quick = True\n\n", 1)


@pytest.fixture
def series(box: Box, tmp_path: Path) -> Series:
    """Two hooks and three added files, for the sources of 1.1.9."""
    utils, api = box.read(UTILS), box.read(API)
    hooks = {
        "0001-utils.patch": b"Why\n\n" + diff(UTILS, utils, _hook(utils), tmp_path / "d1"),
        "0002-api.patch": b"Why not\n\n" + diff(API, api, _hook_api(api), tmp_path / "d2"),
    }
    added = {NEW: b"ready = True\n", NEWER: b"cache = {}\n", BESIDE: b"x = 1\n"}
    upstream = [("1.1.9", UTILS, blob_id(utils)), ("1.1.9", API, blob_id(api))]
    return write_series(tmp_path / "series", hooks, added, upstream=upstream)


def state(box: Box, series: Series | None = None) -> PatchState:
    return patch.status(box.host.read_only(), SOURCE, series).state


def apply(box: Box, series: Series | None = None, **options: bool) -> patch.PatchStatus:
    return patch.apply(box.host, SOURCE, box.ledger, series, **options)


def revert(box: Box, series: Series | None = None, **options: bool) -> patch.PatchStatus:
    return patch.revert(box.host, SOURCE, box.ledger, series, **options)


# ---- the project's own series ------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_projects_series_there_and_back(
    templates: Callable[[str], Path], tmp_path: Path, version: str
) -> None:
    box = copy_box(templates(version), tmp_path / "box")
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


# ---- the step ----------------------------------------------------------------------------------


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


# ---- states ------------------------------------------------------------------------------------


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


def test_no_source_and_unreadable_source(box: Box, tmp_path: Path) -> None:
    found = patch.status(box.host.read_only(), "/opt/nothing")
    assert found.state is PatchState.ABSENT and "/opt/nothing" in found.text
    with pytest.raises(OpsError, match="no F5-TTS"):
        patch.apply(box.host, "/opt/nothing", box.ledger)


def test_a_newer_series_replaces_an_older_one(box: Box, series: Series, tmp_path: Path) -> None:
    before = box.snapshot()
    apply(box, series)
    utils = git(box.source, "show", f"HEAD:{UTILS}").encode()
    hook = diff(
        UTILS, utils, utils.replace(b"import hashlib\n", b"import hashlib  # 2\n"), tmp_path / "d3"
    )
    newer = write_series(tmp_path / "newer", {"0001-other.patch": hook}, {NEW: b"ready = 2\n"})
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


# ---- the shapes a checkout can have ------------------------------------------------------------


def test_crlf_in_the_work_tree_is_no_edit(box: Box, series: Series) -> None:
    box.git("config", "core.autocrlf", "true")
    for path in box.git("ls-files").split():
        (box.source / path).unlink()
    box.git("checkout", "--", ".")
    assert b"\r\n" in box.read(UTILS) and box.git("status", "--porcelain") == ""
    before = box.snapshot()
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert (found.state, found.edited, found.version) == (PatchState.NOT_APPLIED, (), "1.1.9")
    apply(box, series)
    assert HOOKED_IMPORT.replace(b"\n", b"\r\n") in box.read(UTILS)
    assert box.read(UTILS).count(b"\n") == box.read(UTILS).count(b"\r\n")
    box.edit(API, "quick = True", "quick = False")
    assert state(box, series) is PatchState.DRIFTED
    box.edit(API, "quick = False", "quick = True")
    assert state(box, series) is PatchState.APPLIED
    revert(box, series)
    assert differences(before, box.snapshot()) == []


def test_a_patched_tree_checked_out_again_with_crlf_is_still_ours(box: Box, series: Series) -> None:
    apply(box, series)
    for path in (UTILS, API, NEW):
        (box.source / path).write_bytes(box.read(path).replace(b"\n", b"\r\n"))
    assert state(box, series) is PatchState.APPLIED


def test_shallow_detached_clone(box: Box, series: Series) -> None:
    url = f"file://{box.host.path('/srv/git/F5-TTS')}"
    box.host.rmtree(SOURCE)
    git(box.source.parent, "clone", "-q", "--depth=1", "--branch=v1.1.9", url, "F5-TTS")
    assert box.git("rev-parse", "--is-shallow-repository").strip() == "true"
    assert state(box, series) is PatchState.NOT_APPLIED
    apply(box, series)
    assert state(box, series) is PatchState.APPLIED
    revert(box, series)
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_a_linked_work_tree(box: Box, series: Series) -> None:
    linked = "/opt/linked/F5-TTS"
    box.host.mkdir("/opt/linked")
    box.git("worktree", "add", "-q", "--detach", str(box.host.path(linked)), "v1.1.9")
    assert patch.status(box.host.read_only(), linked, series).commit is not None
    patch.apply(box.host, linked, box.ledger, series)
    assert patch.status(box.host.read_only(), linked, series).state is PatchState.APPLIED
    assert state(box, series) is PatchState.NOT_APPLIED, "each work tree has its own state"


def test_without_git_the_hashes_still_tell(box: Box, series: Series) -> None:
    (box.source / ".git").unlink()
    before = box.snapshot()
    found = patch.status(box.host.read_only(), SOURCE, series)
    assert (found.state, found.version, found.commit) == (PatchState.NOT_APPLIED, "1.1.9", None)
    assert "not a git repository" in found.notes[0]
    apply(box, series)
    assert state(box, series) is PatchState.APPLIED
    box.edit(API, "quick = True", "quick = False")
    assert state(box, series) is PatchState.DRIFTED
    box.edit(API, "quick = False", "quick = True")
    revert(box, series)
    assert differences(before, box.snapshot()) == []


def test_a_checkout_of_another_user_keeps_its_owner(box: Box, series: Series) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a checkout of another user")
    for path in box.host.path("/opt/ishowtts").rglob("*"):
        os.chown(path, 12345, 23456, follow_symlinks=False)
    before = box.snapshot()
    assert state(box, series) is PatchState.NOT_APPLIED
    apply(box, series)
    strangers = [
        path
        for path, entry in box.snapshot().items()
        if path.startswith(f"{SOURCE}/") and entry.owner != "12345:23456"
    ]
    assert strangers == []
    revert(box, series)
    assert differences(before, box.snapshot()) == []


def test_byte_code_of_added_modules_goes_with_them(box: Box, series: Series) -> None:
    before = box.snapshot()
    apply(box, series)
    for folder, name in (("quick", "__init__"), ("quick/deep", "cache"), ("infer", "quick_beside")):
        cache = box.source / "src/f5_tts" / folder / "__pycache__"
        cache.mkdir()
        (cache / f"{name}.cpython-310.pyc").write_bytes(b"byte code")
    kept = box.source / "src/f5_tts/infer/__pycache__/utils_infer.cpython-310.pyc"
    kept.write_bytes(b"upstream's own")
    revert(box, series)
    kept.unlink()
    kept.parent.rmdir()
    assert differences(before, box.snapshot()) == []


def test_a_users_file_in_our_folder_survives_revert(box: Box, series: Series) -> None:
    apply(box, series)
    mine = box.source / "src/f5_tts/quick/mine.txt"
    mine.write_text("keep me\n")
    revert(box, series)
    assert [p.name for p in mine.parent.iterdir()] == ["mine.txt"]


# ---- legacy ------------------------------------------------------------------------------------


@pytest.fixture
def legacy(box: Box, series: Series, tmp_path: Path) -> Series:
    """The series, told of a foreign patch that changes utils_infer.py and (no hook of ours here)
    api.py. Its blobs are made here: the real one's content is somebody else's."""
    folder = tmp_path / "series"
    (folder / "series").write_text("0001-utils.patch\n")
    rows = [
        ("field", path, blob_id(_foreign(box.read(path)))[:7], blob_id(box.read(path))[:7])
        for path in (UTILS, API)
    ]
    (folder / "legacy.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return load_series(folder)


def _foreign(data: bytes) -> bytes:
    return b"# fast\n" + data


def test_legacy_is_replaced_on_consent_and_brought_back(box: Box, legacy: Series) -> None:
    upstream_api = box.read(API)
    for path in (UTILS, API):
        (box.source / path).write_bytes(_foreign(box.read(path)))
    before = box.snapshot()
    found = patch.status(box.host.read_only(), SOURCE, legacy)
    assert found.state is PatchState.LEGACY and "`field`" in found.text
    assert (found.version, found.edited) == ("1.1.9", ())
    with pytest.raises(PatchRefused, match="only when you say so"):
        apply(box, legacy)
    assert differences(before, box.snapshot()) == []
    assert apply(box, legacy, replace_legacy=True).state is PatchState.APPLIED
    assert box.read(API) == upstream_api and HOOKED_IMPORT in box.read(UTILS)
    assert PatchStep(Settings(), box.ledger, legacy).diff(box.host.read_only()) is None
    assert revert(box, legacy).state is PatchState.LEGACY
    assert differences(before, box.snapshot()) == []


def test_legacy_in_one_file_only(box: Box, legacy: Series) -> None:
    (box.source / UTILS).write_bytes(_foreign(box.read(UTILS)))
    assert state(box, legacy) is PatchState.LEGACY
    change = PatchStep(Settings(), box.ledger, legacy).diff(box.host)
    assert change is not None and "replace the older patch" in change.summary
    change.apply(lambda _: None)
    assert state(box, legacy) is PatchState.APPLIED


def test_legacy_with_edits_elsewhere_is_refused(box: Box, legacy: Series) -> None:
    (box.source / UTILS).write_bytes(_foreign(box.read(UTILS)))
    (box.source / API).write_bytes(box.read(API) + b"# mine\n")
    found = patch.status(box.host.read_only(), SOURCE, legacy)
    assert found.state is PatchState.LEGACY and found.edited == (API,)
    with pytest.raises(PatchRefused, match=API):
        apply(box, legacy, replace_legacy=True)


def test_legacy_that_was_committed(box: Box, legacy: Series) -> None:
    (box.source / UTILS).write_bytes(_foreign(box.read(UTILS)))
    box.git("commit", "-qam", "fast")
    assert state(box, legacy) is PatchState.LEGACY
    apply(box, legacy, replace_legacy=True)
    assert b"# fast" not in box.read(UTILS)
    assert revert(box, legacy).state is PatchState.LEGACY
    assert box.git("status", "--porcelain", "--ignored") == ""


def test_after_legacy_a_submodule_update_is_not_applied(box: Box, legacy: Series) -> None:
    for path in (UTILS, API):
        (box.source / path).write_bytes(_foreign(box.read(path)))
    apply(box, legacy, replace_legacy=True)
    box.git("checkout", "-q", "--force", "HEAD")
    assert state(box, legacy) is PatchState.NOT_APPLIED


def test_the_fields_patch_is_known_by_its_real_blobs() -> None:
    rows = {(row.path, row.blob, row.base) for row in load_series().legacy}
    assert rows == {(API, "1cb23f4", "d73ee1b"), (UTILS, "52c8ee3", "a1f3111")}


# ---- killed ------------------------------------------------------------------------------------


def test_killed_anywhere_apply_and_revert_converge(
    templates: Callable[[str], Path], series: Series, tmp_path: Path
) -> None:
    """SIGKILL just before each single effect, then the state is told right, and running again
    finishes; nothing of either run is left behind."""
    box = copy_box(templates("1.1.9"), tmp_path / "killed")
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


# ---- proof -------------------------------------------------------------------------------------


@pytest.fixture
def engine(box: Box) -> Settings:
    """Settings whose engine interpreter is this one, behind a wrapper on the (simulated) box."""
    box.host.write("/etc/ishowtts-sim.json", "{}")
    wrapper = f'#!/bin/sh\nexec "{sys.executable}" -I "$@"\n'
    box.host.write("/opt/engine/python", wrapper, mode=0o755)
    return Settings.model_validate({"engine": {"python": "/opt/engine/python"}})


def test_verify_imports_with_the_engines_interpreter(
    box: Box, series: Series, engine: Settings
) -> None:
    host = Host.at(box.host.root)
    report = patch.verify(host.read_only(), SOURCE, engine, series)
    assert report.ok is False and [row.check for row in report.rows] == ["files"]
    apply(box, series)
    before = box.snapshot()
    report = patch.verify(host.read_only(), SOURCE, engine, series)
    told = {row.check: row for row in report.rows}
    assert told["import f5_tts.quick.deep.cache"].ok is True
    assert told["import f5_tts.quick"].text == "comes from the patched source"
    assert told["record"].ok is True
    assert differences(before, box.snapshot()) == [], "a proof leaves no byte code behind"
    json.dumps(report.to_json())


def test_verify_says_what_does_not_import(
    box: Box, series: Series, engine: Settings, tmp_path: Path
) -> None:
    (tmp_path / "series/files" / NEWER).write_bytes(b"import no_such_package\n")
    broken = load_series(tmp_path / "series")
    apply(box, broken)
    report = patch.verify(Host.at(box.host.root).read_only(), SOURCE, engine, broken)
    told = {row.check: row for row in report.rows}
    assert report.ok is False
    assert told["import f5_tts.quick.deep.cache"].ok is False
    assert "no_such_package" in told["import f5_tts.quick.deep.cache"].text


def test_verify_without_an_interpreter_is_undetermined(box: Box, series: Series) -> None:
    apply(box, series)
    report = patch.verify(box.host.read_only(), SOURCE, Settings(), series)
    assert report.ok is None and "could not be tried" in report.rows[-1].text
