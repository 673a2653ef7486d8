"""The shapes a checkout can have: CRLF, shallow, linked, without git, another user's."""

from __future__ import annotations

import os

import pytest

from ishowtts_ops.errors import NeedsRoot, OpsError
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.provision.series import Series
from tests.support.f5 import (
    API,
    SOURCE,
    UTILS,
    Box,
    git,
    killed_at,
)
from tests.support.patching import (
    HOOKED_IMPORT,
    NEW,
    apply,
    revert,
    state,
)
from tests.support.tree import differences


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


def test_an_ordinary_user_may_look_but_not_write(box: Box, series: Series) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become an ordinary user")
    before = box.snapshot()

    def act() -> None:
        os.setgid(12345)
        os.setuid(12345)
        assert state(box, series) is PatchState.NOT_APPLIED
        with pytest.raises(NeedsRoot, match="src/f5_tts"):
            apply(box, series)

    assert not killed_at(10_000, act)
    assert differences(before, box.snapshot()) == []


def test_what_cannot_be_read_is_unknown(box: Box, series: Series) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become an ordinary user")
    (box.source / UTILS).chmod(0o600)

    def act() -> None:
        os.setuid(12345)
        found = patch.status(box.host.read_only(), SOURCE, series)
        assert found.state is PatchState.UNKNOWN and UTILS in found.text
        with pytest.raises(OpsError, match="cannot be read"):
            apply(box, series)

    assert not killed_at(10_000, act)
