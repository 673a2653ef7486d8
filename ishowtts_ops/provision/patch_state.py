"""What is known about a patched source tree: states, rows, and the record of what we applied.

The record (/var/lib/ishowtts-ops/patch-state.json) holds hashes only; the original bytes are in the
ledger and, for upstream's files, in git.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import STATE_DIR
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.patch_text import Content, HunkFailure

PATCH_STATE_PATH = f"{STATE_DIR}/patch-state.json"
PATCH_STATE_VERSION = 1


class PatchState(enum.Enum):
    """The state of a whole source tree."""

    APPLIED = "applied"
    NOT_APPLIED = "not-applied"
    PARTIAL = "partial"
    """Some files are ours and some are not yet, or an older series of ours is there."""
    DRIFTED = "drifted"
    """Files were ours, or upstream's, and somebody edited them."""
    CONFLICT = "conflict"
    """Upstream's files are not as the hooks need them."""
    LEGACY = "legacy"
    """An older, foreign patch that this series replaces is there, whole or in part."""
    ABSENT = "absent"
    """There is no source tree."""
    UNKNOWN = "unknown"
    """The files could not be read."""


class FileState(enum.Enum):
    """The state of one file, decided by its blob hash."""

    OURS = "ours"
    OUTDATED = "outdated"
    """As another release of this series left it."""
    UPSTREAM = "upstream"
    LEGACY = "legacy"
    EDITED = "edited"
    MISSING = "missing"


@dataclass(frozen=True)
class FileRow:
    """One file of the report.

    Attributes:
        path: relative to the source tree.
        role: "hook" (upstream's file that we change), "added" (ours), "other" (upstream's, edited).
        blob: git hash of what is there, as git would store it; None when nothing is.
        original, patched: the hashes it would have without and with the series, where known.
    """

    path: str
    role: str
    state: FileState
    blob: str | None = None
    original: str | None = None
    patched: str | None = None
    note: str = ""


@dataclass(frozen=True)
class PatchStatus:
    """What can be said about a source tree.

    Attributes:
        source: box path of the source tree (the folder that holds src/f5_tts).
        text: the state as sentences for a person.
        series: id of the series this program carries.
        version: upstream's version, by blob hashes; None when no version has these files.
        commit: what is checked out; None without git.
        failures: hunks that do not apply.
        edited: files with edits that are not ours; nothing is changed while there are any.
        notes: what else a person should know.
    """

    source: str
    state: PatchState
    text: str
    series: str
    version: str | None = None
    commit: str | None = None
    rows: tuple[FileRow, ...] = ()
    failures: tuple[HunkFailure, ...] = ()
    edited: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, states as their words."""
        data = dataclasses.asdict(self)
        data["state"] = self.state.value
        for row in data["rows"]:
            row["state"] = row["state"].value
        return data


@dataclass(frozen=True)
class Hook:
    """One of upstream's files that the series changes (or an older series changed).

    Attributes:
        working: what is in the work tree; None when no regular file is.
        base: upstream's content without any patch (LF), as far as it can be had.
        expected: `base` with the hooks (LF); None when they do not apply.
        role: "hook", or "restored" for a file from which only a legacy patch was removed.
    """

    path: str
    state: FileState
    working: Content | None
    base: bytes | None
    expected: bytes | None
    note: str = ""
    role: str = "hook"


@dataclass(frozen=True)
class Added:
    """One file of ours. `wanted` is None for a file that only an older series had."""

    path: str
    state: FileState
    working: Content | None
    wanted: bytes | None
    note: str = ""


@dataclass(frozen=True)
class FileRecord:
    """What we did to one file. Hashes are those git would store (LF under autocrlf).

    Attributes:
        role: "hook", "added", or "restored" (a legacy patch was removed, and nothing put in).
        original: blob before us; None for an added file.
        earlier: while a run is not complete, what former runs left there.
    """

    role: str
    original: str | None
    patched: str
    earlier: tuple[str, ...] = ()

    def left(self, here: Content) -> bool:
        """Is this what we left there?"""
        return any(here.is_blob(blob) for blob in (self.patched, *self.earlier))


@dataclass(frozen=True)
class Record:
    """One source tree as we left it.

    Attributes:
        complete: False from the first to the last effect of an apply or revert.
    """

    series: str
    version: str | None
    commit: str | None
    complete: bool
    files: Mapping[str, FileRecord]


def read_records(host: Host) -> dict[str, Record]:
    """Records by the source's box path.

    Raises:
        OpsError: the file is damaged, or a newer program wrote it.
    """
    if not host.is_file(PATCH_STATE_PATH):
        return {}
    try:
        raw = json.loads(host.read_text(PATCH_STATE_PATH))
        if raw["version"] == PATCH_STATE_VERSION:
            return {source: _record(body) for source, body in raw["sources"].items()}
        what = f"has version {raw['version']}, this program knows {PATCH_STATE_VERSION}"
    except (ValueError, KeyError, TypeError, AttributeError):
        what = "is damaged"
    raise OpsError(
        f"{PATCH_STATE_PATH} {what}.",
        "Move it away and run again: the state is then found from git's blobs alone.",
    )


def write_record(host: Host, source: str, record: Record | None) -> None:
    """Put down, or forget (None), what we did to a source."""
    records = read_records(host)
    if record is None:
        records.pop(source, None)
    else:
        records[source] = record
    if not records:
        host.remove(PATCH_STATE_PATH)
        return
    body = {
        "version": PATCH_STATE_VERSION,
        "sources": {name: dataclasses.asdict(record) for name, record in records.items()},
    }
    host.write(PATCH_STATE_PATH, json.dumps(body, indent=1) + "\n")


def _record(body: Mapping[str, Any]) -> Record:
    files = {
        path: FileRecord(**{**row, "earlier": tuple(row["earlier"])})
        for path, row in body["files"].items()
    }
    return Record(
        str(body["series"]), body["version"], body["commit"], bool(body["complete"]), files
    )
