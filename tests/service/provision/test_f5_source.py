"""Finding F5-TTS's sources, and bringing them: by real pip, offline from a folder of wheels."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.f5_source import (
    OWN_SOURCE,
    SourceState,
    SourceStep,
    bring,
    locate,
    read_wheel,
    version_of,
)
from ishowtts_ops.provision.git import Repo
from ishowtts_ops.steps import Change, Ledger
from tests.support.f5 import CHECKOUT, SOURCE, UTILS, VERSIONS, Box, git, killed_at, wheel
from tests.support.tree import differences

SETTINGS = Settings()


@pytest.fixture
def offline(
    monkeypatch: pytest.MonkeyPatch, f5_cache: Path, f5_wheel: Callable[[str], Path]
) -> None:
    """pip sees the cached wheels and nothing else."""
    f5_wheel("1.1.9")
    f5_wheel("1.1.22")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(f5_cache))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def wanted(host: Host, version: str = "1.1.22") -> Change | None:
    settings = Settings.model_validate({"f5": {"version": version}})
    return SourceStep(settings, Ledger.open(host)).diff(host)


# ---- where -------------------------------------------------------------------------------------


def test_a_checkout_that_lies_elsewhere_is_said_before_another_f5_tts_is_fetched(
    box: Box,
) -> None:
    box.host.mkdir("/home/me")
    box.host.path(CHECKOUT).rename(box.host.path("/home/me") / "tts")
    change = wanted(box.host.read_only())
    assert change is not None and "not that of the iShowTTS in /home/me/tts" in change.summary
    told = Settings.model_validate({"ishowtts": {"path": "/home/me/tss"}})
    with pytest.raises(OpsError, match="/home/me/tss, and no iShowTTS checkout is") as caught:
        SourceStep(told, box.ledger).diff(box.host.read_only())
    assert "There is one at /home/me/tts" in caught.value.hint
    right = Settings.model_validate({"ishowtts": {"path": "/home/me/tts"}})
    assert SourceStep(right, box.ledger).diff(box.host.read_only()) is None


def test_in_a_checkout_it_is_the_submodule(box: Box) -> None:
    place = locate(box.host.read_only(), SETTINGS)
    assert (place.path, place.state, place.checkout) == (SOURCE, SourceState.PRESENT, CHECKOUT)
    assert place.package_path == f"{SOURCE}/src"
    assert SourceStep(SETTINGS, box.ledger).diff(box.host.read_only()) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_is_told_by_hashes(boxes: Callable[[str], Box], version: str) -> None:
    box = boxes(version)
    assert version_of(box.host.read_only(), SOURCE) == version
    (box.source / UTILS).write_bytes(b"# edited\n")
    assert version_of(box.host.read_only(), SOURCE) == version, "by what is committed"


def test_the_configured_source_tree_is_honoured(box: Box) -> None:
    box.host.rename(SOURCE, "/opt/elsewhere")
    config = f"{CHECKOUT}/config/ishowtts.toml"
    text = box.host.read_text(config).replace("../third_party/F5-TTS/src", "../../elsewhere/src")
    box.host.write(config, text)
    assert locate(box.host, SETTINGS).path == "/opt/elsewhere"


def test_without_a_checkout_it_is_our_own(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    place = locate(host.read_only(), SETTINGS)
    assert (place.path, place.state, place.checkout) == (OWN_SOURCE, SourceState.MISSING, None)
    host.mkdir("/opt/ishowtts/notes")
    assert locate(host, SETTINGS).checkout is None, "a folder of that name is no checkout"


# ---- a submodule that is not there ---------------------------------------------------------------


def test_a_submodule_that_is_not_checked_out(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    before = box.snapshot()
    checkout = box.host.path(CHECKOUT)
    git(checkout, "submodule", "deinit", "-q", "--force", "--all")
    shutil.rmtree(checkout / ".git/modules/F5-TTS")
    place = locate(box.host.read_only(), SETTINGS)
    assert place.state is SourceState.UNINITIALISED and "submodule update --init" in place.hint
    change = SourceStep(SETTINGS, box.ledger).diff(box.host)
    assert change is not None and "submodule update --init" in change.preview[0]
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    told: list[str] = []
    change.apply(told.append)
    assert told, "progress is shown"
    assert locate(box.host, SETTINGS).state is SourceState.PRESENT
    assert differences(before, box.snapshot()) == []
    assert SourceStep(SETTINGS, box.ledger).diff(box.host) is None


def test_a_submodule_is_checked_out_as_the_checkouts_owner(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a checkout of another user")
    checkout = box.host.path(CHECKOUT)
    git(checkout, "submodule", "deinit", "-q", "--force", "--all")
    shutil.rmtree(checkout / ".git/modules/F5-TTS")
    box.host.root.chmod(0o755)
    for root in (checkout, box.host.path("/srv/git/F5-TTS")):
        for path in (root, *root.rglob("*")):
            os.chown(path, 12345, 23456, follow_symlinks=False)
    change = SourceStep(SETTINGS, box.ledger).diff(box.host)
    assert change is not None
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    change.apply(lambda _: None)
    owners = {(p.lstat().st_uid, p.lstat().st_gid) for p in (checkout, *checkout.rglob("*"))}
    assert owners == {(12345, 23456)}


def test_a_checkout_that_git_cannot_complete(box: Box) -> None:
    shutil.rmtree(box.source)
    shutil.rmtree(box.host.path(f"{CHECKOUT}/.git"))
    place = locate(box.host, SETTINGS)
    assert place.state is SourceState.MISSING and "recurse-submodules" in place.hint
    with pytest.raises(OpsError, match="git cannot bring it"):
        SourceStep(SETTINGS, box.ledger).diff(box.host)


def test_a_submodule_folder_with_something_else_in_it(box: Box) -> None:
    shutil.rmtree(box.source / "src")
    place = locate(box.host, SETTINGS)
    assert place.state is SourceState.MISSING and "holds no src/f5_tts" in place.text


# ---- from the package index ----------------------------------------------------------------------


def test_fetched_unpacked_committed_and_then_left_alone(memory_path: Path, offline: None) -> None:
    host = Host.at(memory_path)
    ledger = Ledger.open(host)
    step = SourceStep(SETTINGS, ledger)
    change = step.diff(host)
    assert change is not None and "pip download" in change.preview[0]
    told: list[str] = []
    change.apply(told.append)
    assert any("unpacking" in line for line in told)
    assert step.diff(host.read_only()) is None
    assert locate(host, SETTINGS).state is SourceState.PRESENT
    assert version_of(host, OWN_SOURCE) == "1.1.22"
    assert host.listdir("/opt/ishowtts-ops") == ["F5-TTS"], "no litter"
    repo = Repo.open(host, OWN_SOURCE)
    assert repo is not None and repo.subject() == "f5-tts 1.1.22"
    assert git(host.path(OWN_SOURCE), "status", "--porcelain", "--ignored") == ""
    patch.apply(host, OWN_SOURCE, ledger)
    assert step.diff(host) is None, "a patched tree is still the version it is"
    patch.undo_all(host, ledger)
    ledger.restore_files()
    assert not host.exists("/opt")


def test_another_version_takes_the_place_of_the_old(memory_path: Path, offline: None) -> None:
    host = Host.at(memory_path)
    first = wanted(host, "1.1.9")
    assert first is not None
    first.apply(lambda _: None)
    patch.apply(host, OWN_SOURCE, Ledger.open(host))
    second = wanted(host, "1.1.22")
    assert second is not None
    second.apply(lambda _: None)
    assert version_of(host, OWN_SOURCE) == "1.1.22"
    assert patch.status(host, OWN_SOURCE).state is patch.PatchState.NOT_APPLIED
    assert patch.apply(host, OWN_SOURCE, Ledger.open(host)).version == "1.1.22"


def test_a_version_the_index_does_not_have(memory_path: Path, offline: None) -> None:
    host = Host.at(memory_path)
    change = wanted(host, "9.9.9")
    assert change is not None
    with pytest.raises(OpsError, match=r"no f5-tts 9\.9\.9") as failure:
        change.apply(lambda _: None)
    assert "f5.version" in failure.value.hint
    assert not host.exists(OWN_SOURCE) and host.listdir("/opt/ishowtts-ops") == []


def test_killed_while_fetching_the_next_run_finishes(memory_path: Path, offline: None) -> None:
    host = Host.at(memory_path)
    files = len(read_wheel(wheel("1.1.22")))
    for moment in (files // 2, files + 10):
        assert killed_at(moment, lambda: bring(host, "1.1.22", lambda _: None))
        assert locate(host, SETTINGS).state is SourceState.MISSING, "half a tree is none"
    host.write(f"{OWN_SOURCE}.new/tree/src/f5_tts/stray.py", "of a run that was killed\n")
    change = wanted(host, "1.1.22")
    if change is not None:
        change.apply(lambda _: None)
    assert version_of(host, OWN_SOURCE) == "1.1.22"
    assert not host.exists(f"{OWN_SOURCE}/src/f5_tts/stray.py")
    assert host.listdir("/opt/ishowtts-ops") == ["F5-TTS"]


def test_a_tampered_wheel_is_refused(tmp_path: Path, f5_wheel: Callable[[str], Path]) -> None:
    bad = tmp_path / "bad.whl"
    with zipfile.ZipFile(f5_wheel("1.1.22")) as source, zipfile.ZipFile(bad, "w") as target:
        for info in source.infolist():
            extra = b"# more\n" if info.filename == "f5_tts/api.py" else b""
            target.writestr(info, source.read(info) + extra)
    with pytest.raises(OpsError, match=r"f5_tts/api.py in bad.whl is not what its RECORD says"):
        read_wheel(bad)
    bad.write_bytes(b"no archive")
    with pytest.raises(OpsError, match="is no wheel"):
        read_wheel(bad)


def test_a_wheel_under_a_wrong_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, f5_wheel: Callable[[str], Path]
) -> None:
    """An index that serves other files than upstream published as that version."""
    links = tmp_path / "links"
    links.mkdir()
    _relabel(f5_wheel("1.1.9"), links / "f5_tts-1.1.22-py3-none-any.whl", "1.1.9", "1.1.22")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    host = Host.at(tmp_path)
    with pytest.raises(OpsError, match=r"f5-tts 1\.1\.22 is not it"):
        bring(host, "1.1.22", lambda _: None)
    assert not host.exists(OWN_SOURCE)


def _relabel(source: Path, target: Path, old: str, new: str) -> None:
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name.endswith("/METADATA"):
                data = data.replace(f"Version: {old}".encode(), f"Version: {new}".encode(), 1)
            after.writestr(name.replace(f"f5_tts-{old}.dist", f"f5_tts-{new}.dist"), data)
