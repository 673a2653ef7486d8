"""A foreign patch in the field: recognised by its blobs, replaced on consent, brought back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import PatchRefused
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.patch import PatchState, PatchStep
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.provision.series import Series, load_series
from tests.support.f5 import (
    API,
    SOURCE,
    UTILS,
    Box,
)
from tests.support.patching import (
    HOOKED_IMPORT,
    apply,
    revert,
    state,
)
from tests.support.tree import differences


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
