"""A small series for F5-TTS 1.1.9, and the verbs on a box's submodule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ishowtts_ops.provision import patch
from ishowtts_ops.provision.patch import PatchState, PatchStatus
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.provision.series import Series
from tests.support.f5 import API, SOURCE, UTILS, Box, diff, write_series

NEW = "src/f5_tts/quick/__init__.py"
NEWER = "src/f5_tts/quick/deep/cache.py"
BESIDE = "src/f5_tts/infer/quick_beside.py"
HOOKED_IMPORT = b"from f5_tts.quick import ready\n"
ADDED = {NEW: b"ready = True\n", NEWER: b"cache = {}\n", BESIDE: b"x = 1\n"}


def small_series(box: Box, folder: Path) -> Series:
    """Two hooks and three added files, in `folder`/series."""
    utils, api = box.read(UTILS), box.read(API)
    hooked = utils.replace(b"import hashlib\n", b"import hashlib\n" + HOOKED_IMPORT, 1)
    hooked_api = api.replace(b"class F5TTS:\n", b"class F5TTS:\n    quick = True\n\n", 1)
    hooks = {
        "0001-utils.patch": b"Why\n\n" + diff(UTILS, utils, hooked, folder / "utils"),
        "0002-api.patch": b"Why not\n\n" + diff(API, api, hooked_api, folder / "api"),
    }
    return write_series(folder / "series", hooks, ADDED, upstream=known(box))


def next_series(box: Box, folder: Path, added: Mapping[str, bytes]) -> Series:
    """A later release: another hook in utils_infer.py, none in api.py. For an unpatched box."""
    utils = box.read(UTILS)
    changed = utils.replace(b"import hashlib\n", b"import hashlib  # 2\n")
    hooks = {"0001-other.patch": diff(UTILS, utils, changed, folder / "next-utils")}
    return write_series(folder / "next", hooks, added, upstream=known(box))


def known(box: Box) -> list[tuple[str, str, str]]:
    """upstream.tsv for the hooked files as they are now."""
    return [("1.1.9", path, blob_id(box.read(path))) for path in (UTILS, API)]


def state(box: Box, series: Series | None = None) -> PatchState:
    return patch.status(box.host.read_only(), SOURCE, series).state


def apply(
    box: Box, series: Series | None = None, *, replace_legacy: bool = False, set_aside: bool = False
) -> PatchStatus:
    return patch.apply(
        box.host,
        SOURCE,
        box.ledger,
        series,
        replace_legacy=replace_legacy,
        set_aside=set_aside,
    )


def revert(box: Box, series: Series | None = None, *, set_aside: bool = False) -> PatchStatus:
    return patch.revert(box.host, SOURCE, box.ledger, series, set_aside=set_aside)
