"""The verbs of the patch series: status, apply, revert, verify, export; and the install step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, PatchRefused
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch_last_good
from ishowtts_ops.provision.f5_source import SUBMODULE, SourceState, locate
from ishowtts_ops.provision.ishowtts import checkouts
from ishowtts_ops.provision.patch_plan import FileChange, Plan, plan_apply, plan_revert
from ishowtts_ops.provision.patch_state import (
    FileRow,
    FileState,
    PatchState,
    PatchStatus,
    read_records,
    write_record,
)
from ishowtts_ops.provision.patch_survey import Survey, refuse_unless_present, survey
from ishowtts_ops.provision.patch_text import render
from ishowtts_ops.provision.patch_verify import VerifyReport, verify_tree
from ishowtts_ops.provision.patch_write import carry_out, forget, save_edits
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.steps import Change, Ledger, Progress, file_diff

__all__ = [
    "FileRow",
    "FileState",
    "PatchState",
    "PatchStatus",
    "PatchStep",
    "VerifyReport",
    "apply",
    "export",
    "revert",
    "status",
    "undo_all",
    "verify",
]

_OURS_BY = "src/f5_tts/fast/__init__.py"
"""A file that only the series brings."""


def status(host: Host, source: str, series: Series | None = None) -> PatchStatus:
    """The state of the tree at box path `source`, decided by blob hashes; changes nothing."""
    return survey(host, source, series or load_series()).status


def apply(
    host: Host,
    source: str,
    ledger: Ledger,
    series: Series | None = None,
    *,
    replace_legacy: bool = False,
    set_aside: bool = False,
    progress: Progress = lambda _: None,
) -> PatchStatus:
    """Make the tree fully ours, or change nothing.

    Args:
        replace_legacy: a legacy patch may be replaced; `revert` brings it back.
        set_aside: edits that are not ours may be saved as a patch file beside the tree and undone.

    Raises:
        PatchRefused: edits, a conflict, or a legacy patch without consent; says which files.
        NeedsRoot: the tree cannot be written.
    """
    found = survey(host, source, series or load_series())
    if _settled(found):
        return found.status
    refuse_unless_present(found)
    _refuse_apply(found, replace_legacy, set_aside)
    plan = plan_apply(found)
    if found.status.edited and set_aside:
        plan = _set_aside(found, plan, progress)
    carry_out(found, plan, ledger, progress)
    after = survey(host, source, found.series).status
    if after.state is not PatchState.APPLIED:
        raise OpsError(f"The series was written, and still: {after.text}")
    patch_last_good.save(host, after)
    return after


def revert(
    host: Host,
    source: str,
    ledger: Ledger,
    series: Series | None = None,
    *,
    set_aside: bool = False,
    progress: Progress = lambda _: None,
) -> PatchStatus:
    """Bring back, byte for byte, what was there before the series. Files that are upstream's (or
    the user's) already are left alone.

    Raises:
        PatchRefused: patched files were edited since (unless `set_aside`); says which.
    """
    found = survey(host, source, series or load_series())
    refuse_unless_present(found)
    ours = {i.path for i in found.files if _once_ours(found, i.path)}
    edited = [path for path in found.status.edited if path in ours]
    if edited and not set_aside:
        raise PatchRefused(
            f"Patched files were edited since: {', '.join(edited)}. Nothing was changed.",
            "Add --set-aside: the edits are then saved as a patch file beside the source.",
        )
    if edited:
        progress(f"edits saved in {save_edits(found)}")
        found = _as_if_unedited(found, set(edited))
    plan = plan_revert(found, ledger)
    carry_out(found, plan, ledger, progress)
    forget(ledger, source, [i.path for i in found.files])
    patch_last_good.forget(host, source)
    return survey(host, source, found.series).status


def undo_all(host: Host, ledger: Ledger, progress: Progress = lambda _: None) -> tuple[str, ...]:
    """Revert every tree that the record names. For uninstall, **before** Ledger.restore_files: the
    ledger's originals are those of the commit that was patched, and the submodule may have moved.

    Returns:
        sentences about trees that are not where they were patched.
    """
    problems: list[str] = []
    for source, record in read_records(host).items():
        found = survey(host, source, load_series())
        if found.status.state is not PatchState.ABSENT:
            revert(host, source, ledger, set_aside=True, progress=progress)
            continue
        progress(f"{source} is gone, and the series with it")
        # Nor may single files of it come back, where its owner will clone it again.
        forget(ledger, source, list(record.files))
        write_record(host, source, None)
        patch_last_good.forget(host, source)
        problems += [
            f"{moved} has the speed series in it, and was {source} when it was put there. Take it"
            f" out with `git -C {moved} checkout -- src && rm -r {moved}/src/f5_tts/fast`."
            for moved in _with_series(host, but=source)
        ]
    return tuple(problems)


def _with_series(host: Host, but: str) -> list[str]:
    """Submodules of checkouts that nothing is recorded of, and that have our files."""
    known = {*read_records(host), but}
    trees = [f"{checkout}/{SUBMODULE}" for checkout in checkouts(host)]
    return [t for t in trees if t not in known and host.is_file(f"{t}/{_OURS_BY}")]


def verify(
    host: Host, source: str, settings: Settings, series: Series | None = None
) -> VerifyReport:
    """Are the files as recorded, and do the engine's interpreter's imports find them?"""
    return verify_tree(survey(host, source, series or load_series()), settings)


def export(host: Host, source: str, series: Series | None = None) -> str:
    """The whole series for this tree as one mbox message, for `git am` or `git apply`.

    Raises:
        PatchRefused: the hooks do not apply to it.
    """
    found = survey(host, source, series or load_series())
    refuse_unless_present(found)
    if found.status.failures:
        raise PatchRefused(found.status.text, "Nothing can be exported for this version.")
    diffs = [
        render(h.path, h.base, h.expected)
        for h in found.hooks
        if h.expected is not None and h.base != h.expected
    ]
    diffs += [render(a.path, None, a.wanted) for a in found.added if a.wanted is not None]
    version = found.status.version or "of unknown version"
    message = [
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001",
        "From: ishowtts-ops <ishowtts-ops@localhost>",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000",
        f"Subject: [PATCH] ishowtts-ops speed series {found.series.id} for F5-TTS {version}",
        "",
        *[
            f"{patch.name}: {patch.reason.splitlines()[0]}"
            for patch in found.series.patches
            if patch.reason
        ],
        "---",
        "",
    ]
    body = b"".join(diffs).decode("utf-8", "surrogateescape")
    return "\n".join(message) + body + "-- \nishowtts-ops\n"


class PatchStep:
    """Install step: the series is applied to the sources the engine will use."""

    name = "patch"
    title = "Speed patches in F5-TTS"

    def __init__(self, settings: Settings, ledger: Ledger, series: Series | None = None) -> None:
        self.settings = settings
        self.ledger = ledger
        self._series = series

    def diff(self, host: Host) -> Change | None:
        """What applying would do. A legacy patch is replaced (the plan says so, and is the place
        to say no); edits and conflicts raise PatchRefused. A conflict after the tree was patched
        once is left to doctor: the manifest then names the last good copy."""
        if self.settings.engine.kind != "f5":
            return None
        series = self._series or load_series()
        place = locate(host, self.settings)
        if place.state is not SourceState.PRESENT:
            preview = (f"# when the sources are there: series {series.id} to {place.path}",)
            return self._change(host, "apply the speed series", preview, series)
        found = survey(host, place.path, series)
        if _settled(found):
            return None
        refuse_unless_present(found)
        if patch_last_good.stand_in(host, place.path, series) is not None:
            return None
        _refuse_apply(found, replace_legacy=True, set_aside=False)
        legacy = found.status.state is PatchState.LEGACY
        verb = "replace the older patch by" if legacy else "apply"
        summary = f"{verb} the speed series {series.id} in {place.path}"
        return self._change(host, summary, preview_lines(found, plan_apply(found)), series)

    def _change(self, host: Host, summary: str, preview: Sequence[str], series: Series) -> Change:
        def act(progress: Progress) -> None:
            source = locate(host, self.settings).path
            ledger = self.ledger
            apply(host, source, ledger, series, replace_legacy=True, progress=progress)

        return Change(self.name, summary, tuple(preview), act)


def preview_lines(found: Survey, plan: Plan) -> list[str]:
    """Unified diffs of the hooks, and one line for each added or removed file."""
    lines: list[str] = []
    hooks = {hook.path for hook in found.hooks}
    for change in plan.changes:
        full = f"{found.source}/{change.path}"
        if change.data is None:
            lines.append(f"$ rm {full}")
        elif change.path in hooks:
            lines += file_diff(found.host, full, change.data, change.mode)
        else:
            count = change.data.count(b"\n")
            lines.append(f"$ write {full}    # {count} lines, added by the series")
    return lines


def _settled(found: Survey) -> bool:
    """Applied, and no run was killed between its last file and its record."""
    unfinished = found.record is not None and not found.record.complete
    return found.status.state is PatchState.APPLIED and not unfinished


def _refuse_apply(found: Survey, replace_legacy: bool, set_aside: bool) -> None:
    state, source = found.status.state, found.source
    if state is PatchState.CONFLICT:
        raise PatchRefused(
            f"{found.status.text} Nothing was changed.",
            "Check out an F5-TTS commit that the series knows, or use a newer ishowtts-ops.",
        )
    missing = [hook.path for hook in found.hooks if hook.state is FileState.MISSING]
    if state is PatchState.DRIFTED and missing:
        raise PatchRefused(
            f"{found.status.text} Nothing was changed.",
            f"Bring them back with `git -C {source} checkout -- {' '.join(missing)}`.",
        )
    # Everything that it takes, so that nobody is refused twice.
    options = ["--replace-legacy"] if state is PatchState.LEGACY else []
    options += ["--set-aside"] if found.status.edited else []
    command = f"ishowtts-ops patch apply {' '.join(options)}"
    if found.status.edited and not set_aside and state is not PatchState.APPLIED:
        raise PatchRefused(
            f"{source} has edits that are not ours, which patching could lose:"
            f" {', '.join(found.status.edited)}. Nothing was changed.",
            f"Let `{command}` save them as a patch file beside it, or keep them with"
            f" `git -C {source} stash --include-untracked`.",
        )
    if state is PatchState.LEGACY and not replace_legacy:
        raise PatchRefused(
            f"{found.status.text} It is replaced only when you say so. Nothing was changed.",
            f"Run `{command}`; `patch revert` brings it back.",
        )


def _set_aside(found: Survey, plan: Plan, progress: Progress) -> Plan:
    """Save the edits, and add to the plan what brings edited files outside the series back."""
    progress(f"edits saved in {save_edits(found)}")
    changes = []
    for path in found.others:
        entry = (found.tree or {})[path]
        data = found.repo.blob(entry.blob) if found.repo else None
        if data is not None:
            info = found.host.stat(f"{found.source}/{path}")
            changes.append(FileChange(path, data, info.mode, (info.uid, info.gid)))
    return replace(plan, changes=(*changes, *plan.changes))


def _as_if_unedited(found: Survey, edited: set[str]) -> Survey:
    """For a revert: edited files of ours count as ours, now that the edits are saved."""
    hooks = [replace(h, state=FileState.OURS) if h.path in edited else h for h in found.hooks]
    added = [replace(a, state=FileState.OURS) if a.path in edited else a for a in found.added]
    return replace(found, hooks=tuple(hooks), added=tuple(added))


def _once_ours(found: Survey, path: str) -> bool:
    return found.record is not None and path in found.record.files
