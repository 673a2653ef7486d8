"""One source tree as it lies there: its git commit, its files, each read once. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ishowtts_ops.errors import CommandFailed, ToolMissing
from ishowtts_ops.host import Host
from ishowtts_ops.provision.git import SYMLINK, Repo, TreeEntry
from ishowtts_ops.provision.patch_state import Record
from ishowtts_ops.provision.patch_text import Content, blob_id
from ishowtts_ops.provision.series import LegacyBlob, Series

MARKS_NEEDED = 2
"""One such word may well be an owner's own."""


class SourceTree:
    """The tree at the box path `source`.

    Attributes:
        commit: what is checked out; None without git.
        files: the commit's files; None without git.
        notes: what kept us from reading more.
    """

    def __init__(self, host: Host, source: str, series: Series, record: Record | None) -> None:
        self.host = host
        self.source = source
        self.series = series
        self.record = record
        self.notes: list[str] = []
        self.repo = Repo.open(host, source)
        self.commit, self.files = self._head()
        self._read: dict[str, Content | None] = {}

    def _head(self) -> tuple[str | None, dict[str, TreeEntry] | None]:
        if self.repo is None:
            self.notes.append("The source is not a git repository; files are known by hash only.")
            return None, None
        try:
            commit = self.repo.head()
            if commit is not None:
                return commit, self.repo.tree(commit)
            self.notes.append("git has no commit checked out here.")
        except ToolMissing:
            self.notes.append("git is not installed; files are known by hash only.")
        except CommandFailed as error:
            self.notes.append(f"git cannot read this repository: {error.message}")
        return None, None

    def working(self, path: str) -> Content | None:
        """What is in the work tree; None for nothing, or for something that is no plain file."""
        if path not in self._read:
            full = f"{self.source}/{path}"
            plain = self.host.is_file(full) and not self.host.is_symlink(full)
            self._read[path] = Content(self.host.read_bytes(full)) if plain else None
        return self._read[path]

    def head_text(self, path: str) -> bytes | None:
        """The commit's content of a file; None when it has none, or git does not hold it."""
        entry = (self.files or {}).get(path)
        if entry is None or self.repo is None:
            return None
        here = self.working(path)
        if here is not None and here.blob == entry.blob:
            return here.data
        if here is not None and here.text_blob == entry.blob:
            return here.text
        return self.repo.blob(entry.blob)

    @cached_property
    def legacy(self) -> Mapping[str, LegacyBlob]:
        """Files that are as a legacy patch leaves them."""
        found = {}
        for row in self.series.legacy:
            here = self.working(row.path)
            if here is not None and here.is_blob(row.blob):
                found[row.path] = row
        return found

    @cached_property
    def like_legacy(self) -> Mapping[str, str]:
        """Files that differ from upstream's and from what a legacy patch leaves, and have that
        patch's words: path → its name. Never those that this program patched."""
        found = {}
        for path in {row.path for row in self.series.legacy} - self.legacy.keys():
            here, base = self.working(path), self.base(path)
            ours = self.record is not None and path in self.record.files
            if here is None or base is None or ours or here.is_blob(blob_id(base)):
                continue
            new = [
                mark.name
                for mark in self.series.marks
                if mark.path == path
                and mark.word.encode() in here.text
                and mark.word.encode() not in base
            ]
            if len(new) >= MARKS_NEEDED:
                found[path] = new[0]
        return found

    def base(self, path: str) -> bytes | None:
        """Upstream's content of a hooked file. Usually HEAD's; where HEAD holds a patched file (or
        there is no git), the one that gives a hash we know when the patch is taken back."""
        here = self.working(path)
        base = self.head_text(path)
        if base is None:
            base = here.text if here is not None else None
        if base is None:
            return None
        recorded = self.record.files.get(path) if self.record else None
        known = {*self.series.upstream_blobs(path)}
        if recorded is not None and recorded.original is not None and self.files is None:
            known.add(recorded.original)
        if blob_id(base) in known:
            return base
        for _, variant in self.series.variants():
            earlier = variant.take_back(path, base)
            if earlier is not None and blob_id(earlier) in known:
                return earlier
        for row in self.series.legacy:  # somebody committed the legacy patch
            if row.path == path and Content(base).is_blob(row.blob) and self.repo is not None:
                return self.repo.blob(row.base)
        return base

    def edited(self, ours: set[str]) -> list[str]:
        """Tracked files outside the series whose content is not the commit's. A file that is not
        there is no edit: nothing of it can be lost (and a sparse checkout has many)."""
        found = []
        for path, entry in (self.files or {}).items():
            full = f"{self.source}/{path}"
            if path in ours or not self.host.lexists(full):
                continue
            if entry.mode == SYMLINK and self.host.is_symlink(full):
                same = blob_id(self.host.readlink(full).encode()) == entry.blob
            else:
                here = self.working(path)
                same = here is not None and here.is_blob(entry.blob)
            if not same:
                found.append(path)
        return found
