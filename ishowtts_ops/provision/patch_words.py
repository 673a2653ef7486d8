"""The state of a source tree in words and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ishowtts_ops.provision.patch_state import Added, FileRow, FileState, Hook, PatchState
from ishowtts_ops.provision.patch_text import HunkFailure, blob_id
from ishowtts_ops.provision.patch_tree import SourceTree

_SHOWN = 6


@dataclass(frozen=True)
class Words:
    """What was found, ready to be said."""

    tree: SourceTree
    version: str | None
    hooks: Sequence[Hook]
    added: Sequence[Added]
    others: Sequence[str]
    failures: Sequence[HunkFailure]
    edited: Sequence[str]

    def rows(self) -> list[FileRow]:
        """One row a file."""
        rows = []
        for hook in self.hooks:
            here = hook.working.text_blob if hook.working else None
            base, ours = _blob(hook.base), _blob(hook.expected)
            rows.append(FileRow(hook.path, hook.role, hook.state, here, base, ours, hook.note))
        for item in self.added:
            here = item.working.text_blob if item.working else None
            ours = _blob(item.wanted)
            rows.append(FileRow(item.path, "added", item.state, here, None, ours, item.note))
        for path in self.others:
            content = self.tree.working(path)
            original = self.tree.files[path].blob if self.tree.files else None
            note = "differs from the commit that is checked out"
            here = content.text_blob if content else None
            rows.append(FileRow(path, "other", FileState.EDITED, here, original, None, note))
        return rows

    def text(self, state: PatchState) -> str:
        """The state as one or two sentences."""
        name = f"F5-TTS {self.version}" if self.version else "this F5-TTS of unknown version"
        edits = f" Edited by somebody: {_list(self.edited)}." if self.edited else ""
        if state is PatchState.APPLIED:
            changed = sum(hook.role == "hook" for hook in self.hooks)
            count = f"{changed} changed and {len(self.added)} added files"
            return f"The speed series is applied to {name} ({count}).{edits}"
        if state is PatchState.NOT_APPLIED:
            return f"The speed series is not applied to {name}.{self._lost()}{edits}"
        if state is PatchState.PARTIAL:
            both: list[Hook | Added] = [*self.hooks, *self.added]
            lacking = [item.path for item in both if item.state is not FileState.OURS]
            return f"The speed series is only partly in {name}; it lacks in {_list(lacking)}."
        if state is PatchState.LEGACY:
            return f"{self._older()}.{edits}"
        if state is PatchState.CONFLICT:
            return f"The speed series does not fit {name}: {'; '.join(map(str, self.failures))}."
        missing = [hook.path for hook in self.hooks if hook.state is FileState.MISSING]
        said = [f"edited: {_list(self.edited)}"] if self.edited else []
        said += [f"missing: {_list(missing)}"] if missing else []
        return f"Files of {name} are not as they were left; {'; '.join(said)}."

    def _older(self) -> str:
        """Which older patch is where, and where it was edited since."""
        whole, edited = list(self.tree.legacy), list(self.tree.like_legacy)
        names = {row.name for row in self.tree.legacy.values()} | {*self.tree.like_legacy.values()}
        shown = ", ".join(f"`{name}`" for name in sorted(names))
        where = [f"is in {_list(whole)}"] if whole else []
        where += [f"seems to be in {_list(edited)}, edited since"] if edited else []
        return f"An older patch ({shown}) {', and '.join(where)}"

    def _lost(self) -> str:
        record = self.tree.record
        if record is None or not record.complete:
            return ""
        if not record.commit or not self.tree.commit:
            return " It was, and is lost."
        if record.commit == self.tree.commit:
            return " It was, and is lost: upstream's files are back."
        moved = f"the source moved from commit {record.commit[:9]} to {self.tree.commit[:9]}"
        return f" It was, and is lost: {moved}."


def _blob(data: bytes | None) -> str | None:
    return None if data is None else blob_id(data)


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_SHOWN])
    more = len(paths) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
