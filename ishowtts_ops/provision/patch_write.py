"""Carries out a plan: file by file, each in one atomic step.

Order matters when we are killed: the record says "not complete" before the first effect; added
files come before the hooks that import them and go after them, so that the package can be imported
at every moment.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ishowtts_ops.errors import NeedsRoot, OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.patch_plan import MINE, FileChange, Plan, edits_as_diff, tree_owner
from ishowtts_ops.provision.patch_state import Added, FileState, Hook, Record, write_record
from ishowtts_ops.provision.patch_survey import PACKAGE, Survey
from ishowtts_ops.provision.patch_text import Content, blob_id
from ishowtts_ops.steps import Ledger, Progress


def carry_out(found: Survey, plan: Plan, ledger: Ledger, progress: Progress) -> None:
    """Write a plan. May be killed at any point; the next run goes on from there.

    Raises:
        NeedsRoot: we may not write there, or not as the files' owner. Nothing was changed.
    """
    host, source = found.host, found.source
    _check_rights(host, source, plan.changes)
    _sweep(host, source, plan.changes)
    for change in plan.changes:
        if plan.record is not None:
            _remember(found, ledger, change)
    begun = _begun(found.record, plan.record)
    if begun is not None:
        write_record(host, source, begun)
    for change in plan.changes:
        full = f"{source}/{change.path}"
        if change.data is None:
            host.remove(full)
        else:
            _make_folders(host, source, change)
            host.write(full, change.data, mode=change.mode, owner=change.owner)
    for text in _done(found, plan):
        progress(text)
    _prune(found, plan, begun)
    write_record(host, source, plan.record)


def _done(found: Survey, plan: Plan) -> list[str]:
    """What was written and removed: files of upstream's by name, ours by their number."""
    theirs = {hook.path for hook in found.hooks} | set(found.others)
    lines = []
    for verb, gone in (("wrote", False), ("removed", True)):
        paths = [change.path for change in plan.changes if (change.data is None) is gone]
        ours = [path for path in paths if path not in theirs]
        folders = sorted({str(PurePosixPath(path).parent) for path in ours})
        if ours:
            lines.append(f"{verb} {len(ours)} files of ours in {', '.join(folders)}")
        lines += [f"{verb} {path}" for path in paths if path in theirs]
    return lines


def _begun(before: Record | None, after: Record | None) -> Record | None:
    """The record while a run is at work: every file that is, was or will be ours."""
    if before is None or after is None:
        begun = after or before
        return replace(begun, complete=False) if begun is not None else None
    files = dict(before.files)
    for path, row in after.files.items():
        was = before.files.get(path)
        earlier = () if was is None else tuple(dict.fromkeys((was.patched, *was.earlier)))
        files[path] = replace(row, earlier=earlier)
    return replace(after, complete=False, files=files)


def _prune(found: Survey, plan: Plan, begun: Record | None) -> None:
    """Remove the byte code of added modules that are gone, and folders that only they had."""
    host, source = found.host, found.source
    upstream = {str(p) for path in found.tree or {} for p in PurePosixPath(path).parents}
    upstream |= {str(p) for p in PurePosixPath(f"{PACKAGE}/x").parents}
    kept = plan.record.files if plan.record is not None else {}
    once = [path for path, row in (begun.files if begun else {}).items() if row.role == "added"]
    paths = [path for path in {*once, *(a.path for a in found.added)} if path not in kept]
    folders = {str(p) for path in paths for p in PurePosixPath(path).parents} - upstream
    for folder in sorted(folders, key=lambda f: (-f.count("/"), f)):
        full = f"{source}/{folder}"
        if host.listdir(full) in (["__pycache__"], []):
            host.rmtree(f"{full}/__pycache__")
            host.rmdir(full)
    _remove_byte_code(host, source, paths)


def _remove_byte_code(host: Host, source: str, paths: Sequence[str]) -> None:
    """An added module in one of upstream's folders leaves its byte code among upstream's."""
    for path in map(PurePosixPath, paths):
        folder = f"{source}/{path.parent}/__pycache__"
        for name in host.listdir(folder):
            if path.suffix == ".py" and name.startswith(f"{path.stem}.") and name.endswith(".pyc"):
                host.remove(f"{folder}/{name}")


def save_edits(found: Survey) -> str:
    """Write `edits_as_diff` beside the source tree.

    Returns:
        the box path of the new file.

    Raises:
        OpsError: there is nothing to save.
    """
    data = edits_as_diff(found)
    if not data:
        raise OpsError("There are no edits to save.")
    target = f"{found.source}.edits-{blob_id(data)[:8]}.patch"
    found.host.write(target, data, owner=tree_owner(found))
    return target


def _check_rights(host: Host, source: str, changes: Sequence[FileChange]) -> None:
    for change in changes:
        real = host.path(f"{source}/{change.path}", follow_last=False).parent
        while not real.exists():
            real = real.parent
        if not os.access(real, os.W_OK):
            raise NeedsRoot(f"Writing {source}/{change.path}")
        foreign = change.owner is not None and change.owner[0] != os.geteuid()
        if foreign and os.geteuid() != 0:
            raise NeedsRoot(f"Writing {source}/{change.path}, which belongs to another user,")


def _sweep(host: Host, source: str, changes: Sequence[FileChange]) -> None:
    """Remove the temporary files of a run that was killed between writing and renaming."""
    for change in changes:
        path = PurePosixPath(f"{source}/{change.path}")
        for name in host.listdir(str(path.parent)):
            if name.startswith(f".{path.name}.") and name.endswith(".new"):
                host.remove(f"{path.parent}/{name}")


def _make_folders(host: Host, source: str, change: FileChange) -> None:
    """Folders on the way to a new file, given to the tree's owner."""
    parents = [str(p) for p in PurePosixPath(change.path).parents if str(p) != "."]
    for folder in reversed(parents):
        full = f"{source}/{folder}"
        if not host.is_dir(full):
            host.mkdir(full)
            if change.owner is not None:
                host.chown(full, *change.owner)


def _remember(found: Survey, ledger: Ledger, change: FileChange) -> None:
    """Put what was there before us into the ledger.

    An entry from an earlier run stays while the file is still ours. Where it is not (the submodule
    was updated and the patch lost), the entry describes a file of another commit: what is there now
    takes its place. A file of ours without an entry (a patched checkout that was copied here) is
    remembered as upstream has it.
    """
    full = f"{found.source}/{change.path}"
    items = {i.path: i for i in found.files}
    item = items.get(change.path)
    if item is None:  # an edited file outside the series, which is set aside
        ledger.remember(full)
        return
    if item.state in MINE and full in ledger.files:
        return
    if item.state in MINE:
        ledger.remember(full)
        base = item.base if isinstance(item, Hook) else None
        ledger.files[full] = _entry(ledger.files[full], item.working, base)
        ledger.save()
        return
    ours = found.record.files.get(change.path) if found.record else None
    edited_after_us = item.state is FileState.EDITED and ours is not None
    if full in ledger.files and not edited_after_us:
        del ledger.files[full]
    ledger.remember(full)
    folder = f"{PurePosixPath(full).parent}/__pycache__"
    if isinstance(item, Added) and not found.host.lexists(folder):
        ledger.remember(folder)


def _entry(now: Mapping[str, Any], here: Content | None, base: bytes | None) -> dict[str, Any]:
    if base is None or here is None:
        return {"kind": "absent"}
    return {**now, "data": base64.b64encode(here.as_here(base)).decode()}


def forget(ledger: Ledger, source: str, paths: Sequence[str]) -> None:
    """Drop files that are back as they were from the ledger."""
    gone = {f"{source}/{path}" for path in paths}
    gone |= {f"{PurePosixPath(full).parent}/__pycache__" for full in gone}
    kept = {path: entry for path, entry in ledger.files.items() if path not in gone}
    folders = [f for f in ledger.folders if ledger.host.lexists(f)]
    if kept != ledger.files or folders != ledger.folders:
        ledger.files, ledger.folders = kept, folders
        ledger.save()
