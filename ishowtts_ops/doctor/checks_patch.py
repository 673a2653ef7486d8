"""Is the speed series in the F5-TTS sources that the engine runs?"""

from __future__ import annotations

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Remedy, Severity, by_hand, mend
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.patch import FileState, PatchState, PatchStatus, status

GIT_LIMIT_S = 20.0
_SHOWN = 6


def _state(exam: Examination) -> list[Finding]:
    found = _look(exam)
    if found is None:
        return []
    evidence = (
        Evidence(found.source, found.state.value),
        *(
            Evidence(f"{found.source}/{row.path}", row.note or row.state.value)
            for row in found.rows
            if row.state is not FileState.OURS
        ),
    )[:_SHOWN]
    severity, remedy = _ANSWERS[found.state]
    return [Finding("patch-state", severity, found.text, evidence, remedy)]


def _source(exam: Examination) -> list[Finding]:
    if exam.settings.engine.kind != "f5" or not exam.installed:
        return []
    place = locate(exam.host, exam.settings)
    if place.state is SourceState.PRESENT:
        return []
    return [
        Finding(
            "patch-source",
            Severity.ERROR,
            f"The engine's F5-TTS sources are not at {place.path}.",
            (Evidence(place.path, place.state.value),),
            mend("source", "Bring the sources, the series, and the daemon.", "patch", "daemon"),
        )
    ]


def _edits(exam: Examination) -> list[Finding]:
    """Edits that are not ours: install refuses to touch them, so it must not even begin."""
    if not exam.changes_follow:
        return []
    found = _look(exam)
    if found is None or not found.edited or found.state is PatchState.APPLIED:
        return []
    shown = ", ".join(found.edited[:_SHOWN])
    return [
        Finding(
            "patch-edits",
            Severity.ERROR,
            f"{found.source} has edits that are not ours, which patching could lose: {shown}."
            + (f" {found.text}" if found.state is PatchState.LEGACY else ""),
            tuple(Evidence(f"{found.source}/{path}", "edited") for path in found.edited[:_SHOWN]),
            _keep(found),
        )
    ]


def _keep(found: PatchStatus) -> Remedy:
    """An older patch goes only when one says so, which is one more word."""
    replace = ("--replace-legacy",) if found.state is PatchState.LEGACY else ()
    command = ("ishowtts-ops", "patch", "apply", *replace, "--set-aside")
    return by_hand(
        f"Put your edits away, or let `{' '.join(command)}` save them as a patch file.",
        ("git", "-C", found.source, "stash", "--include-untracked"),
        ("sudo", *command),
    )


def _look(exam: Examination) -> PatchStatus | None:
    """The state of the sources; None where the engine has none, or they are yet to come."""
    if exam.settings.engine.kind != "f5":
        return None
    place = locate(exam.host, exam.settings)
    if place.state is not SourceState.PRESENT or not (exam.installed or exam.changes_follow):
        return None
    return status(exam.host, place.path)


_APPLY = mend("patch", "Apply the series and restart the daemon.", "daemon")
_EDITED = by_hand(
    "See what was edited, then keep it elsewhere and apply the series again.",
    ("ishowtts-ops", "patch", "status"),
    ("sudo", "ishowtts-ops", "patch", "apply", "--set-aside"),
    needs_root=True,
)
_ANSWERS: dict[PatchState, tuple[Severity, Remedy | None]] = {
    PatchState.APPLIED: (Severity.OK, None),
    PatchState.NOT_APPLIED: (Severity.ERROR, _APPLY),
    PatchState.PARTIAL: (Severity.ERROR, _APPLY),
    PatchState.LEGACY: (Severity.ERROR, mend("patch", "Replace it by the series.", "daemon")),
    PatchState.DRIFTED: (Severity.ERROR, _EDITED),
    PatchState.CONFLICT: (
        Severity.ERROR,
        by_hand(
            "Check out an F5-TTS commit that the series knows, or update ishowtts-ops.",
            ("ishowtts-ops", "patch", "status"),
        ),
    ),
    PatchState.ABSENT: (Severity.ERROR, mend("source", "Bring the sources.")),
    PatchState.UNKNOWN: (Severity.UNKNOWN, by_hand("Run doctor with sudo.")),
}

CHECKS = (
    Check("patch-source", "patch", "The F5-TTS sources are there", _source, limit_s=GIT_LIMIT_S),
    Check("patch-state", "patch", "The speed series is applied", _state, limit_s=GIT_LIMIT_S),
    Check(
        "patch-edits",
        "patch",
        "Nobody's edits of F5-TTS would be lost",
        _edits,
        blocks_install=True,
        limit_s=GIT_LIMIT_S,
    ),
)
