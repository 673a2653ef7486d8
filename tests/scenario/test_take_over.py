"""Boxes as they are in the field, taken over and given back.

Each is a real git checkout shaped like iShowTTS's with the real F5-TTS as its submodule.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.doctor.run import preflight
from ishowtts_ops.errors import PatchRefused
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.f5_source import SUBMODULE, undo_submodule
from ishowtts_ops.provision.patch import PatchState
from ishowtts_ops.steps import Ledger
from tests.scenario.story import (
    Story,
    diff_of,
    foreign,
    make_legacy,
    undo_series,
    with_legacy,
)
from tests.support.f5 import API, CHECKOUT, SOURCE, UTILS, Box, git
from tests.support.tree import differences

Boxes = Callable[[str], Box]


def test_fresh(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    before = story.look()
    assert story.state is PatchState.NOT_APPLIED
    (change,) = story.plan()
    assert change.step == "patch" and any(UTILS in line for line in change.preview)
    story.take_over()
    assert story.changed(before) == story.expected()
    story.undo()
    assert differences(before, story.look()) == []


def _never_checked_out(box: Box, *, fetched: bool) -> None:
    """As a clone without --recurse-submodules leaves it, or one that was emptied since."""
    checkout = box.host.path(CHECKOUT)
    git(checkout, "submodule", "--quiet", "deinit", "-f", SUBMODULE)
    git(checkout, "config", "protocol.file.allow", "always")
    if not fetched:
        box.host.rmtree(f"{CHECKOUT}/.git/modules")


def _apply_steps(story: Story) -> None:
    os.environ["GIT_ALLOW_PROTOCOL"] = "file"  # as a person's own git setup would allow it
    try:
        for step in story.steps():
            change = step.diff(story.host)
            assert change is not None
            change.apply(lambda _: None)
    finally:
        del os.environ["GIT_ALLOW_PROTOCOL"]


@pytest.mark.parametrize("fetched", [False, True], ids=["fresh clone", "emptied"])
def test_the_submodule_was_never_checked_out(boxes: Boxes, fetched: bool) -> None:
    story = Story(boxes("1.1.9"))
    _never_checked_out(story.box, fetched=fetched)
    before = story.look()
    changes = story.plan()
    assert [change.step for change in changes] == ["source", "patch"]
    _apply_steps(story)
    assert story.state is PatchState.APPLIED and story.plan() == []
    story.undo()
    left = differences(before, story.look())
    inside = f"{CHECKOUT}/.git/modules/"
    assert [line for line in left if not (fetched and inside in line)] == []


def test_a_submodule_that_somebody_works_in_stays(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    _never_checked_out(story.box, fetched=False)
    _apply_steps(story)
    undo_series(story.host, Ledger.open(story.host), story.series)
    model = "src/f5_tts/model/utils.py"
    untouched = story.box.read(model)
    (story.box.source / model).write_bytes(untouched + b"# mine\n")
    (why,) = undo_submodule(story.host, Ledger.open(story.host), lambda _: None)
    assert "files in it were changed" in why and b"# mine" in story.box.read(model)
    story.box.git("commit", "-q", "-a", "-m", "mine")
    (why,) = undo_submodule(story.host, Ledger.open(story.host), lambda _: None)
    assert "commits or a stash of its own" in why and b"# mine" in story.box.read(model)


@pytest.mark.parametrize("paths", [(UTILS, API), (UTILS,)], ids=["whole", "in part"])
def test_the_patch_of_the_field(boxes: Boxes, tmp_path: Path, paths: tuple[str, ...]) -> None:
    box = boxes("1.1.9")
    story = Story(box, with_legacy(box, tmp_path))
    make_legacy(story.box, *paths)
    before = story.look()
    found = story.status()
    assert found.state is PatchState.LEGACY and found.version == "1.1.9" and not found.edited
    with pytest.raises(PatchRefused, match="only when you say so"):
        patch.apply(story.host, SOURCE, Ledger.open(story.host), story.series)
    assert differences(before, story.look()) == []
    (change,) = story.plan()
    assert "replace the older patch" in change.summary
    story.take_over()
    assert not any(b"made faster by hand" in story.box.read(path) for path in (UTILS, API))
    story.undo()
    assert differences(before, story.look()) == []
    assert story.state is PatchState.LEGACY


def test_the_patch_of_the_field_with_local_edits_on_top(boxes: Boxes, tmp_path: Path) -> None:
    box = boxes("1.1.9")
    upstream = box.read(UTILS)
    story = Story(box, with_legacy(box, tmp_path))
    make_legacy(story.box, UTILS, API)
    mine = "target_rms = 0.2  # louder, for our hall"
    story.box.edit(UTILS, "target_rms = 0.1", mine)
    model = "src/f5_tts/model/utils.py"
    (story.box.source / model).write_bytes(story.box.read(model) + b"# and a note of mine\n")
    edited, before = story.box.read(UTILS), story.look()
    found = story.status()
    assert found.state is PatchState.LEGACY and set(found.edited) == {UTILS, model}
    with pytest.raises(PatchRefused, match="could lose"):
        story.plan()
    with pytest.raises(PatchRefused, match="could lose"):
        story.take_over()
    assert differences(before, story.look()) == []

    ledger = Ledger.open(story.host)
    patch.apply(story.host, SOURCE, ledger, story.series, replace_legacy=True, set_aside=True)
    assert story.state is PatchState.APPLIED and story.plan() == []
    (saved,) = story.box.source.parent.glob("F5-TTS.edits-*.patch")
    kept = story.host.box_path(saved)
    assert mine in saved.read_text() and "and a note of mine" in saved.read_text()
    assert story.box.git("hash-object", model).strip() == _blob(story.box, model), "as committed"
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(story.host.path("/srv/git/F5-TTS")), str(again))
    git(again, "checkout", "-q", "v1.1.9")
    git(again, "apply", str(saved))
    assert diff_of(upstream, (again / UTILS).read_bytes()) == diff_of(upstream, edited)

    story.undo()
    now = story.look()
    assert now.pop(kept), "the saved edits stay: they are the owner's"
    assert differences(before, now) == []


def test_the_patch_of_the_field_edited_in_every_file(boxes: Boxes, tmp_path: Path) -> None:
    """No blob of it is left to know it by: its words are."""
    box = boxes("1.1.9")
    story = Story(box, with_legacy(box, tmp_path))
    upstream = {path: box.read(path) for path in (UTILS, API)}
    make_legacy(story.box, UTILS, API)
    for path in (UTILS, API):
        (box.source / path).write_bytes(box.read(path) + b"# and louder, for our hall\n")
    before = story.look()
    found = story.status()
    assert found.state is PatchState.LEGACY and set(found.edited) == {UTILS, API}
    assert "seems to be in" in found.text and "`field`" not in found.text
    assert found.version == "1.1.9"
    for try_out in (story.plan, story.take_over):
        with pytest.raises(PatchRefused, match="could lose") as caught:
            try_out()
        assert "patch apply --replace-legacy --set-aside" in caught.value.hint
    assert differences(before, story.look()) == []

    ledger = Ledger.open(story.host)
    with pytest.raises(PatchRefused, match="only when you say so") as caught:
        patch.apply(story.host, SOURCE, ledger, story.series, set_aside=True)
    assert "--replace-legacy --set-aside" in caught.value.hint
    assert differences(before, story.look()) == []
    patch.apply(story.host, SOURCE, ledger, story.series, replace_legacy=True, set_aside=True)
    assert story.state is PatchState.APPLIED and story.plan() == []
    assert not any(b"made faster by hand" in story.box.read(path) for path in (UTILS, API))
    (saved,) = story.box.source.parent.glob("F5-TTS.edits-*.patch")
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(story.host.path("/srv/git/F5-TTS")), str(again))
    git(again, "checkout", "-q", "v1.1.9")
    git(again, "apply", str(saved))
    for path in (UTILS, API):
        assert (again / path).read_bytes() == foreign(
            upstream[path]
        ) + b"# and louder, for our hall\n"

    story.undo()
    now = story.look()
    assert now.pop(story.host.box_path(saved))
    assert differences(before, now) == []


def test_install_names_an_edited_legacy_patch_and_the_whole_command(boxes: Boxes) -> None:
    """With the series as it is shipped, through doctor's look before an install."""
    story = Story(boxes("1.1.9"), settings=Settings.model_validate({"f5": {"weights": "random"}}))
    make_legacy(story.box, UTILS, API)
    before = story.look()
    found = preflight(story.host.read_only(), story.settings, changes_follow=True).errors
    (edits,) = [finding for finding in found if finding.check == "patch-edits"]
    assert "An older patch (`ishowtts`) seems to be in" in edits.text
    assert edits.remedy is not None
    command = ("sudo", "ishowtts-ops", "patch", "apply", "--replace-legacy", "--set-aside")
    assert edits.remedy.commands[-1] == command
    assert differences(before, story.look()) == []
    patch.apply(story.host, SOURCE, Ledger.open(story.host), replace_legacy=True, set_aside=True)
    after = preflight(story.host.read_only(), story.settings, changes_follow=True).errors
    assert [finding for finding in after if finding.check.startswith("patch-")] == []


def test_one_such_word_is_an_owners_own(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    story.box.edit(UTILS, "target_rms = 0.1", "target_rms = 0.3  # before autocast")
    assert story.state is PatchState.DRIFTED and "older patch" not in story.status().text


def test_a_submodule_update_lost_the_patch(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    before = story.look()
    story.take_over()
    git(story.host.path(CHECKOUT), "submodule", "update", "--force")
    assert UTILS not in story.box.git("status", "--porcelain")
    assert story.state is PatchState.NOT_APPLIED
    assert [change.step for change in story.plan()] == ["patch"]
    story.take_over()
    story.undo()
    assert _without_git(differences(before, story.look())) == []


def test_a_new_pinned_commit(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    story.take_over()
    _pin(story.box, "v1.1.22")
    fresh = boxes("1.1.9")
    _pin(fresh, "v1.1.22")
    found = story.status()
    assert found.version == "1.1.22" and found.state in (
        PatchState.NOT_APPLIED,
        PatchState.PARTIAL,
    )
    story.take_over()
    assert story.status().version == "1.1.22"
    story.undo()
    want, got = Story(fresh).box.snapshot(), story.box.snapshot()
    assert _without_git(differences(want, got)) == [], "the files of the commit that is pinned now"
    assert story.box.git("status", "--porcelain", "--ignored") == ""


def _pin(box: Box, tag: str) -> None:
    """Upstream's superproject moves to another F5-TTS, and the owner updates."""
    checkout = box.host.path(CHECKOUT)
    commit = box.git("rev-parse", f"{tag}^{{commit}}").strip()
    git(checkout, "update-index", "--cacheinfo", f"160000,{commit},third_party/F5-TTS")
    git(checkout, "commit", "-q", "-m", f"F5-TTS {tag}")
    git(checkout, "submodule", "update", "--force")


@pytest.mark.parametrize("shape", ["detached", "on a branch", "shallow", "crlf"])
def test_shapes_of_a_checkout(boxes: Boxes, shape: str) -> None:
    story = Story(boxes("1.1.9"))
    box = story.box
    if shape == "detached":
        assert box.git("symbolic-ref", "-q", "HEAD", check=False) == ""
    elif shape == "on a branch":
        box.git("checkout", "-q", "-b", "stream")
    elif shape == "shallow":
        box.git("fetch", "-q", "--depth=1", f"file://{box.host.path('/srv/git/F5-TTS')}", "v1.1.9")
        box.git("checkout", "-q", "FETCH_HEAD")
        assert box.git("rev-parse", "--is-shallow-repository").strip() == "true"
    else:
        box.git("config", "core.autocrlf", "true")
        for path in box.git("ls-files").split():
            (box.source / path).unlink()
        box.git("checkout", "--", ".")
        assert b"\r\n" in box.read(UTILS)
    before = story.look()
    assert story.state is PatchState.NOT_APPLIED
    assert [change.step for change in story.plan()] == ["patch"]
    story.take_over()
    assert story.changed(before) == story.expected()
    story.undo()
    assert differences(before, story.look()) == []


def test_a_submodule_of_another_user_that_was_never_checked_out(boxes: Boxes) -> None:
    """git works as that user, so that its files are the owner's from the first moment."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a checkout of another user")
    story = Story(boxes("1.1.9"))
    checkout = story.host.path(CHECKOUT)
    _never_checked_out(story.box, fetched=False)
    # The owner is nobody the machine knows, and may read the way to the checkout.
    for folder in (checkout, *checkout.parents):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(0o755)
    upstream = story.host.path("/srv/git")  # git asks it of where it clones from, too
    for path in (checkout, *checkout.rglob("*"), *upstream.rglob("*")):
        os.chown(path, 12345, 23456, follow_symlinks=False)
    before = story.look()
    _apply_steps(story)
    assert story.state is PatchState.APPLIED
    below = f"{CHECKOUT}/"
    owners = {e.owner for p, e in story.look().items() if p.startswith(below)}
    assert owners == {"12345:23456"}
    story.undo()
    assert differences(before, story.look()) == []


def test_a_checkout_of_another_user(boxes: Boxes) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a checkout of another user")
    story = Story(boxes("1.1.9"))
    checkout = story.host.path(CHECKOUT)
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 23456, follow_symlinks=False)
    refused = git(story.box.source, "status", check=False)
    assert refused == "", "git itself refuses to work for root here (safe.directory)"
    before = story.look()
    assert story.state is PatchState.NOT_APPLIED and story.status().commit is not None
    assert [change.step for change in story.plan()] == ["patch"]
    story.take_over()
    after = story.look()
    below = f"{CHECKOUT}/"
    strangers = [p for p, e in after.items() if p.startswith(below) and e.owner != "12345:23456"]
    assert strangers == []
    story.undo()
    assert differences(before, story.look()) == []


def test_a_work_tree_of_the_superproject(boxes: Boxes) -> None:
    box = boxes("1.1.9")
    live = box.host.path("/opt") / "live"
    checkout = box.host.path(CHECKOUT)
    git(checkout, "worktree", "add", "-q", "--detach", str(live))
    git(live, "config", "submodule.F5-TTS.url", str(box.host.path("/srv/git/F5-TTS")))
    git(live, "submodule", "--quiet", "update", "--init")
    story = Story(box, settings=Settings.model_validate({"ishowtts": {"path": "/opt/live"}}))
    before = story.look()
    assert story.source == "/opt/live/third_party/F5-TTS"
    assert story.status().commit is not None and story.state is PatchState.NOT_APPLIED
    assert [change.step for change in story.plan()] == ["patch"]
    story.take_over()
    other = patch.status(story.host.read_only(), SOURCE, story.series)
    assert other.state is PatchState.NOT_APPLIED, "the main work tree is left alone"
    assert story.changed(before) == story.expected()
    story.undo()
    assert differences(before, story.look()) == []


def test_an_edit_of_the_owner_is_never_lost(boxes: Boxes) -> None:
    story = Story(boxes("1.1.9"))
    story.box.edit(UTILS, "target_rms = 0.1", "target_rms = 0.3")
    before = story.look()
    with pytest.raises(PatchRefused, match="could lose"):
        story.plan()
    with pytest.raises(PatchRefused, match="could lose"):
        story.take_over()
    assert differences(before, story.look()) == []


def _blob(box: Box, path: str) -> str:
    return box.git("rev-parse", f"HEAD:{path}").strip()


def _without_git(lines: list[str]) -> list[str]:
    """Git's own files change with every update."""
    return [line for line in lines if f"{CHECKOUT}/.git/" not in line]
