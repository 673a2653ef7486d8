"""The git verbs, on real repositories of every shape."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ishowtts_ops.errors import CommandFailed
from ishowtts_ops.host import Host
from ishowtts_ops.provision.git import Repo, make_repository
from tests.support.f5 import CHECKOUT, SOURCE, UTILS, Box, git


def test_a_submodule_is_opened_where_its_git_file_points(box: Box) -> None:
    repo = Repo.open(box.host.read_only(), SOURCE)
    assert repo is not None
    assert repo.git_dir == box.host.path(f"{CHECKOUT}/.git/modules/F5-TTS")
    commit = repo.head()
    assert commit == box.git("rev-parse", "HEAD").strip()
    tree = repo.tree(commit)
    assert tree[UTILS].blob == box.git("hash-object", UTILS).strip()
    assert repo.blob(tree[UTILS].blob) == box.read(UTILS)
    assert repo.blob("0" * 40) is None
    assert repo.subject() == "v1.1.9"


def test_an_absolute_git_file_is_a_path_of_the_box(box: Box) -> None:
    (box.source / ".git").write_text(f"gitdir: {CHECKOUT}/.git/modules/F5-TTS\n")
    repo = Repo.open(box.host, SOURCE)
    assert (
        repo is not None
        and repo.head()
        == git(box.host.path(f"{CHECKOUT}/.git/modules/F5-TTS"), "rev-parse", "HEAD").strip()
    )


@pytest.mark.parametrize("text", ["", "gitdir: ../nowhere\n", "gitdir: /nowhere\n", "\0\0"])
def test_a_broken_git_file_is_no_repository(box: Box, text: str) -> None:
    (box.source / ".git").write_text(text)
    assert Repo.open(box.host, SOURCE) is None


def test_a_submodules_folder_is_not_its_superproject(box: Box) -> None:
    assert Repo.open(box.host, f"{CHECKOUT}/config") is None


def test_a_commit_that_is_not_there(box: Box) -> None:
    repo = Repo.open(box.host, SOURCE)
    assert repo is not None
    with pytest.raises(CommandFailed):
        repo.tree("0" * 40)


def test_reading_runs_nothing_of_the_repository(box: Box) -> None:
    """Root looks at an ordinary user's checkout: its hooks and monitors must not run."""
    trap, marker = box.host.root / "trap", box.host.root / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "filter.trap.clean", "filter.trap.smudge", "core.pager"):
        box.git("config", key, str(trap))
    (box.host.path(f"{CHECKOUT}/.git/modules/F5-TTS/info")).mkdir(exist_ok=True)
    (box.host.path(f"{CHECKOUT}/.git/modules/F5-TTS/info/attributes")).write_text("* filter=trap\n")
    box.git("status", check=False)
    assert marker.exists(), "the trap works"
    marker.unlink()
    repo = Repo.open(box.host, SOURCE)
    assert repo is not None
    commit = repo.head()
    assert commit is not None and repo.tree(commit) and repo.subject()
    assert not marker.exists()


def test_a_checkout_of_another_user_can_be_read(box: Box) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a checkout of another user")
    for path in (box.host.path(CHECKOUT), *box.host.path(CHECKOUT).rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert "dubious ownership" in _stderr(box), "git itself refuses here"
    repo = Repo.open(box.host, SOURCE)
    assert repo is not None and repo.head() is not None


def _stderr(box: Box) -> str:
    try:
        box.git("status")
    except AssertionError as error:
        return str(error)
    return ""


def test_submodules_are_named(box: Box) -> None:
    repo = Repo.open(box.host, CHECKOUT)
    assert repo is not None and repo.submodule_paths() == ["third_party/F5-TTS"]
    plain = Repo.open(box.host, SOURCE)
    assert plain is not None and plain.submodule_paths() == []


def test_made_repositories_are_reproducible(tmp_path: Path) -> None:
    commits = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "box/src").mkdir(parents=True)
        (folder / "box/src/a.py").write_text("a = 1\n")
        (folder / "box/src/ignored.pyc").write_text("as upstream ships it\n")
        (folder / "box/.gitignore").write_text("*.pyc\n")
        make_repository(Host.at(folder), "/box", "f5-tts 1.2.3")
        repo = Repo.open(Host.at(folder), "/box")
        assert repo is not None
        commit = repo.head()
        assert commit is not None and set(repo.tree(commit)) == {
            ".gitignore",
            "src/a.py",
            "src/ignored.pyc",
        }
        commits.add(commit)
    assert len(commits) == 1


def test_an_empty_repository_has_no_head(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    git(tmp_path / "box", "init", "-q")
    repo = Repo.open(Host.at(tmp_path), "/box")
    assert repo is not None and repo.head() is None and repo.subject() is None
