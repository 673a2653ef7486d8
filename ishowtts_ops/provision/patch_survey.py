"""Looks at a source tree and says, by blob hashes, what state it is in. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.git import Repo, TreeEntry
from ishowtts_ops.provision.patch_state import (
    Added,
    FileState,
    Hook,
    PatchState,
    PatchStatus,
    Record,
    read_records,
)
from ishowtts_ops.provision.patch_text import HunkFailure, blob_id
from ishowtts_ops.provision.patch_tree import SourceTree
from ishowtts_ops.provision.patch_words import Words
from ishowtts_ops.provision.series import Series, Variant

PACKAGE = "src/f5_tts"
"""Where a source tree has the package."""

_MINE = (FileState.OURS, FileState.OUTDATED)


@dataclass(frozen=True)
class Survey:
    """Everything found out about a source tree, enough to plan a change of it."""

    host: Host
    source: str
    series: Series
    status: PatchStatus
    record: Record | None = None
    repo: Repo | None = None
    tree: Mapping[str, TreeEntry] | None = None
    hooks: tuple[Hook, ...] = ()
    added: tuple[Added, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Hook | Added, ...]:
        """Every file of the series."""
        return (*self.hooks, *self.added)


def survey(host: Host, source: str, series: Series) -> Survey:
    """Look at the tree at the box path `source`.

    Raises:
        OpsError: the record of earlier work is damaged.
    """
    if not host.is_dir(f"{source}/{PACKAGE}"):
        text = f"There is no F5-TTS at {source}."
        return Survey(host, source, series, PatchStatus(source, PatchState.ABSENT, text, series.id))
    record = read_records(host).get(source)
    try:
        return _Look(SourceTree(host, source, series, record)).survey()
    except PermissionError as error:
        text = f"{error.filename} cannot be read by this user."
        status = PatchStatus(source, PatchState.UNKNOWN, text, series.id)
        return Survey(host, source, series, status, record)


class _Look:
    """Decides; what lies there is read by SourceTree."""

    def __init__(self, tree: SourceTree) -> None:
        self.tree = tree
        self.series = tree.series
        self.record = tree.record

    def survey(self) -> Survey:
        tree = self.tree
        paths = list(dict.fromkeys([*self.series.hooked(), *tree.legacy, *tree.like_legacy]))
        bases = {path: tree.base(path) for path in paths}
        tabled = self.series.tabled()
        version = self.series.version_of({path: self._upstream(path, bases) for path in tabled})
        variant, failures = self._choose(version, bases)
        hooks = [self._hook(path, bases[path], variant) for path in paths]
        hooks += self._former_hooks(set(paths))
        touched = set(variant.hooked())
        hooks = [h for h in hooks if h.path in touched or h.state is not FileState.UPSTREAM]
        added = [self._added(path, data) for path, data in self.series.added.items()]
        added += self._former_added()
        both: list[Hook | Added] = [*hooks, *added]
        others = tree.edited({item.path for item in both})
        failures = [f for f in failures if self._matters(f, hooks)]
        edited = [i.path for i in both if i.state is FileState.EDITED] + others
        state = self._state(hooks, added, failures)
        words = Words(tree, version, hooks, added, others, failures, edited)
        status = PatchStatus(
            tree.source,
            state,
            words.text(state),
            self.series.id,
            version,
            tree.commit,
            tuple(words.rows()),
            tuple(failures),
            tuple(edited),
            tuple(tree.notes),
        )
        items = (tuple(hooks), tuple(added), tuple(others))
        return Survey(
            tree.host, tree.source, self.series, status, self.record, tree.repo, tree.files, *items
        )

    def _upstream(self, path: str, bases: Mapping[str, bytes | None]) -> str | None:
        base = bases.get(path)
        if base is not None:
            return blob_id(base)
        entry = (self.tree.files or {}).get(path)
        if entry is not None:
            return entry.blob
        here = self.tree.working(path)
        return here.text_blob if here is not None else None

    def _choose(
        self, version: str | None, bases: Mapping[str, bytes | None]
    ) -> tuple[Variant, list[HunkFailure]]:
        """The patches for this tree and what of them fails. For an unknown version: the newest
        selection that applies whole, else the one with the fewest failures."""
        if version is not None:
            options = [self.series.variant(version)]
        else:
            options = [variant for _, variant in self.series.variants() if variant.patches]
        tried = [(variant, self._failures(variant, bases)) for variant in options]
        variant, failures = min(tried, key=lambda pair: len(pair[1]))
        if not variant.patches:
            reason = f"it has no patch for F5-TTS {version}"
            failures = [HunkFailure("series", PACKAGE, 0, "", reason)]
        return variant, failures

    def _failures(self, variant: Variant, bases: Mapping[str, bytes | None]) -> list[HunkFailure]:
        found: list[HunkFailure] = []
        for path in variant.hooked():
            base = bases[path]
            if base is None:
                name = next(p.name for p in variant.patches for f in p.files if f.path == path)
                found.append(HunkFailure(name, path, 0, "", "there is no such file"))
            else:
                found += variant.apply(path, base)[1]
        return found

    def _hook(self, path: str, base: bytes | None, variant: Variant) -> Hook:
        here = self.tree.working(path)
        expected = variant.apply(path, base)[0] if base is not None else None
        recorded = self.record.files.get(path) if self.record else None
        if here is None:
            state, note = FileState.MISSING, "there is no plain file"
        elif expected is not None and expected != base and here.is_blob(blob_id(expected)):
            state, note = FileState.OURS, ""
        elif path in self.tree.legacy:
            state, note = (
                FileState.LEGACY,
                f"as the patch `{self.tree.legacy[path].name}` leaves it",
            )
        elif recorded is not None and recorded.left(here):
            state, note = FileState.OUTDATED, "as an earlier run of this program left it"
        elif base is not None and here.is_blob(blob_id(base)):
            if (
                self.tree.files is None
                and recorded is not None
                and blob_id(base) != recorded.original
            ):
                state, note = FileState.EDITED, "edited since the series was applied"
            else:
                state, note = FileState.UPSTREAM, ""
        elif recorded is not None:
            state, note = FileState.EDITED, "edited since the series was applied"
        elif path in self.tree.like_legacy:
            name = self.tree.like_legacy[path]
            state, note = FileState.EDITED, f"looks like the patch `{name}`, edited since"
        else:
            state, note = FileState.EDITED, "differs from the commit that is checked out"
        return Hook(path, state, here, base, expected, note)

    def _former_hooks(self, now: set[str]) -> list[Hook]:
        """Files that an earlier run changed and the series does not: hooks of an older series, and
        files from which a legacy patch was removed."""
        found = []
        for path, was in (self.record.files if self.record else {}).items():
            here = self.tree.working(path)
            if was.role == "added" or path in now or here is None or not was.left(here):
                continue
            if was.role == "restored":
                found.append(Hook(path, FileState.OURS, here, here.text, here.text, "", "restored"))
            else:
                base = self.tree.head_text(path)
                note = "this series does not change it any more"
                found.append(Hook(path, FileState.OUTDATED, here, base, base, note))
        return found

    def _added(self, path: str, wanted: bytes) -> Added:
        here = self.tree.working(path)
        recorded = self.record.files.get(path) if self.record else None
        if here is None:
            taken = self.tree.host.lexists(f"{self.tree.source}/{path}")
            state = FileState.EDITED if taken else FileState.MISSING
            note = "something that is no plain file has this name" if taken else ""
        elif here.is_blob(blob_id(wanted)):
            state, note = FileState.OURS, ""
        elif recorded is not None and recorded.left(here):
            state, note = FileState.OUTDATED, "as an earlier run of this program left it"
        elif path in (self.tree.files or {}):
            state, note = FileState.EDITED, "upstream has a file of this name"
        elif recorded is not None:
            state, note = FileState.EDITED, "edited since the series was applied"
        else:
            state, note = FileState.EDITED, "a file of this name is here that is not ours"
        return Added(path, state, here, wanted, note)

    def _former_added(self) -> list[Added]:
        found = []
        for path, was in (self.record.files if self.record else {}).items():
            here = self.tree.working(path)
            if was.role == "added" and path not in self.series.added and here is not None:
                same = was.left(here)
                state = FileState.OUTDATED if same else FileState.EDITED
                note = "this series does not have it any more"
                found.append(Added(path, state, here, None, note))
        return found

    @staticmethod
    def _matters(failure: HunkFailure, hooks: Sequence[Hook]) -> bool:
        """A hunk that cannot be tried because the file itself was edited away is no conflict."""
        return all(h.path != failure.path or h.state is not FileState.EDITED for h in hooks)

    def _state(
        self, hooks: Sequence[Hook], added: Sequence[Added], failures: Sequence[HunkFailure]
    ) -> PatchState:
        states = [hook.state for hook in hooks] + [item.state for item in added]
        edited = {hook.path for hook in hooks if hook.state is FileState.EDITED}
        if FileState.LEGACY in states or edited & self.tree.like_legacy.keys():
            return PatchState.LEGACY
        if FileState.EDITED in states:
            return PatchState.DRIFTED
        if failures:
            return PatchState.CONFLICT
        if all(state is FileState.OURS for state in states):
            return PatchState.APPLIED
        begun = self.record is not None and not self.record.complete
        added_count = any(item.state in _MINE for item in added) and (begun or not hooks)
        if added_count or any(h.state in _MINE and h.role == "hook" for h in hooks):
            return PatchState.PARTIAL
        if any(hook.state is FileState.MISSING for hook in hooks):
            return PatchState.DRIFTED
        return PatchState.NOT_APPLIED


def refuse_unless_present(found: Survey) -> None:
    """Raises OpsError for a tree that is not there or cannot be read."""
    if found.status.state is PatchState.ABSENT:
        raise OpsError(found.status.text, "`ishowtts-ops install --only source` brings it.")
    if found.status.state is PatchState.UNKNOWN:
        raise OpsError(found.status.text, "Run the same command with sudo.")
