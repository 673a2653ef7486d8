"""Works out the changes of a source tree, all of it in memory, before anything is written."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from ishowtts_ops.errors import PatchRefused
from ishowtts_ops.provision.patch_state import FileRecord, FileState, Hook, Record
from ishowtts_ops.provision.patch_survey import PACKAGE, Survey
from ishowtts_ops.provision.patch_text import Content, blob_id, render
from ishowtts_ops.steps import Ledger

MINE = (FileState.OURS, FileState.OUTDATED)


@dataclass(frozen=True)
class FileChange:
    """One file's next content; `data` None removes it.

    Attributes:
        mode, owner: to give the file.
    """

    path: str
    data: bytes | None
    mode: int = 0o644
    owner: tuple[int, int] | None = None


@dataclass(frozen=True)
class Plan:
    """All effects of one apply or revert, in their order, and the record to leave behind."""

    changes: tuple[FileChange, ...]
    record: Record | None


def plan_apply(found: Survey) -> Plan:
    """What makes a tree fully ours. The caller has ruled out conflicts and edits.

    Raises:
        PatchRefused: a patched file would be no Python, or a hook has no content to start from.
    """
    owner = tree_owner(found)
    changes = []
    files: dict[str, FileRecord] = {}
    for item in found.added:
        if item.wanted is None:
            continue
        files[item.path] = FileRecord("added", None, blob_id(item.wanted))
        if item.state is not FileState.OURS:
            changes.append(FileChange(item.path, item.wanted, owner=owner))
    for hook in found.hooks:
        change, hooked = _hook_change(found, hook)
        if change is not None:
            changes.append(change)
        if hooked is not None:
            files[hook.path] = hooked
    changes += [FileChange(a.path, None) for a in found.added if a.wanted is None and a.working]
    for change in changes:
        _must_compile(change)
    status = found.status
    record = Record(found.series.id, status.version, status.commit, True, files)
    return Plan(tuple(changes), record)


def _hook_change(found: Survey, hook: Hook) -> tuple[FileChange | None, FileRecord | None]:
    if hook.expected is None or hook.base is None:
        raise PatchRefused(
            f"Upstream's content of {hook.path} cannot be had, so it cannot be patched.",
            f"Bring it back with `git -C {found.source} checkout -- {hook.path}` and run again.",
        )
    patched = blob_id(hook.expected)
    former = found.record.files.get(hook.path) if found.record else None
    if former is not None and hook.state in (*MINE, FileState.EDITED):
        original: str | None = former.original
    elif hook.state in (FileState.OURS, FileState.MISSING) or hook.working is None:
        original = blob_id(hook.base)
    else:
        original = hook.working.text_blob
    role = "hook" if patched != blob_id(hook.base) else "restored"
    record = FileRecord(role, original, patched) if original != patched else None
    if hook.state is FileState.OURS:
        return None, record
    here = hook.working
    data = here.as_here(hook.expected) if here is not None else hook.expected
    return FileChange(hook.path, data, *_mode_and_owner(found, hook.path)), record


def plan_revert(found: Survey, ledger: Ledger) -> Plan:
    """What brings back, byte for byte, what was there before us. Files that are not ours stay.

    Raises:
        PatchRefused: the original of a file is neither in the ledger nor in git.
    """
    changes = [_original(found, ledger, hook) for hook in found.hooks if hook.state in MINE]
    changes += [FileChange(item.path, None) for item in found.added if item.state in MINE]
    return Plan(tuple(changes), None)


def _original(found: Survey, ledger: Ledger, hook: Hook) -> FileChange:
    former = found.record.files.get(hook.path) if found.record else None
    wanted = former.original if former else blob_id(hook.base) if hook.base is not None else None
    entry = ledger.files.get(f"{found.source}/{hook.path}", {})
    if entry.get("kind") == "file":
        data = base64.b64decode(entry["data"])
        if Content(data).is_blob(wanted):
            return FileChange(hook.path, data, entry["mode"], (entry["uid"], entry["gid"]))
    text = None
    if hook.base is not None and blob_id(hook.base) == wanted:
        text = hook.base
    elif found.repo is not None and wanted is not None:
        text = found.repo.blob(wanted)
    if text is None or hook.working is None:
        raise PatchRefused(
            f"What {hook.path} was before the series is neither in the ledger nor in git.",
            f"Bring upstream's back with `git -C {found.source} checkout -- {hook.path}`.",
        )
    return FileChange(hook.path, hook.working.as_here(text), *_mode_and_owner(found, hook.path))


def edits_as_diff(found: Survey) -> bytes:
    """Every edit that is not ours as one diff, against what we or upstream left there."""
    out = []
    for hook in found.hooks:
        if hook.state is FileState.EDITED and hook.working is not None:
            out.append(render(hook.path, _left_there(found, hook), hook.working.text))
    for item in found.added:
        if item.state is FileState.EDITED and item.working is not None:
            out.append(render(item.path, item.wanted, item.working.text))
    for path in found.others:
        entry = (found.tree or {}).get(path)
        old = found.repo.blob(entry.blob) if found.repo and entry else None
        full = f"{found.source}/{path}"
        if found.host.is_file(full):
            out.append(render(path, old, Content(found.host.read_bytes(full)).text))
    return b"".join(out)


def _left_there(found: Survey, hook: Hook) -> bytes | None:
    former = found.record.files.get(hook.path) if found.record else None
    if former and hook.expected is not None and blob_id(hook.expected) == former.patched:
        return hook.expected
    return hook.base


def _mode_and_owner(found: Survey, path: str) -> tuple[int, tuple[int, int]]:
    full = f"{found.source}/{path}"
    if not found.host.lexists(full):
        return 0o644, tree_owner(found)
    info = found.host.stat(full)
    return info.mode, (info.uid, info.gid)


def tree_owner(found: Survey) -> tuple[int, int]:
    info = found.host.stat(f"{found.source}/{PACKAGE}")
    return info.uid, info.gid


def _must_compile(change: FileChange) -> None:
    """A series that makes a file no Python is refused before anything is written."""
    if change.data is None or not change.path.endswith(".py"):
        return
    try:
        compile(change.data, change.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise PatchRefused(
            f"With the series {change.path} would not be valid Python: {error}.",
            "This is a fault of the series; nothing was changed.",
        ) from None
