"""Configuration, manifest and record: are they there, readable and fit for speed?"""

from __future__ import annotations

import json

from pydantic import ValidationError

from ishowtts_ops.config import CONFIG_PATH, DEFAULT_NFE, EPSS_STEPS, MANIFEST_PATH, Manifest
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Remedy, Severity, by_hand, mend
from ishowtts_ops.errors import ConfigError, NeedsRoot, OpsError
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.ishowtts import read_ishowtts
from ishowtts_ops.provision.patch_last_good import LAST_GOOD
from ishowtts_ops.provision.voices import manifest, render
from ishowtts_ops.steps import LEDGER_PATH, Ledger

FAST_NFE = 7
"""The published fast setting (F5-TTS with its EPSS schedule)."""


def _file(exam: Examination) -> list[Finding]:
    if not exam.installed or exam.host.is_file(CONFIG_PATH):
        return []
    text = f"The box has no configuration of its own at {CONFIG_PATH}; defaults are in force."
    remedy = mend("config", "Write the documented default there.", "daemon")
    evidence = (Evidence(CONFIG_PATH, "not there"),)
    return [Finding("config-file", Severity.WARN, text, evidence, remedy)]


def _nfe(exam: Examination) -> list[Finding]:
    if exam.settings.engine.kind != "f5":
        return []
    nfe = exam.settings.f5.nfe
    if nfe is None and read_ishowtts(exam.host, exam.settings) is not None:
        return []  # it is iShowTTS's, which config-ishowtts-nfe looks at
    return _judge_nfe("config-nfe", nfe or DEFAULT_NFE, "f5.nfe", CONFIG_PATH)


def _their_nfe(exam: Examination) -> list[Finding]:
    theirs = read_ishowtts(exam.host, exam.settings)
    if theirs is None or theirs.default_nfe_step is None:
        return []
    name = "[f5] default_nfe_step"
    return _judge_nfe("config-ishowtts-nfe", theirs.default_nfe_step, name, theirs.path)


def _judge_nfe(check: str, nfe: int, key: str, path: str) -> list[Finding]:
    evidence = (Evidence(f"{path} {key}", str(nfe)),)
    if nfe == FAST_NFE:
        return [Finding(check, Severity.OK, f"NFE is {nfe}.", evidence)]
    effect = round(nfe / FAST_NFE, 2) if nfe > FAST_NFE else None
    remedy = _set_nfe(check, key, path)
    if nfe not in EPSS_STEPS:
        table = ", ".join(map(str, sorted(EPSS_STEPS)))
        text = (
            f"NFE is {nfe}, for which F5-TTS has no tuned schedule ({table} have one), so it sounds"
            " worse than it must."
        )
        return [Finding(check, Severity.WARN, text, evidence, remedy, effect)]
    if nfe > FAST_NFE:
        text = f"NFE is {nfe}, which takes {nfe / FAST_NFE:.1f} times the work of {FAST_NFE}."
        return [Finding(check, Severity.WARN, text, evidence, remedy, effect)]
    text = f"NFE is {nfe}, which is faster than {FAST_NFE} and audibly rougher."
    return [Finding(check, Severity.INFO, text, evidence)]


def _set_nfe(check: str, key: str, path: str) -> Remedy:
    again = ("sudo", "ishowtts-ops", "install")
    if check == "config-ishowtts-nfe":
        command = ("sudo", "ishowtts-ops", "config", "set-nfe", str(FAST_NFE))
        text = f"Set it to {FAST_NFE} there, which touches nothing else, then tell the daemon."
        return by_hand(text, command, again, needs_root=True)
    text = f"Set {key} to {FAST_NFE} in {path}, then tell the daemon."
    return by_hand(text, again, needs_root=True)


def _ishowtts(exam: Examination) -> list[Finding]:
    theirs = read_ishowtts(exam.host, exam.settings)
    if theirs is None:
        return []
    place = locate(exam.host, exam.settings)
    lacking = None if place.state is SourceState.PRESENT else place.path
    # What the missing sources would hold is patch-source's to tell.
    problems = [text for text in theirs.problems if lacking is None or lacking not in text]
    if not problems:
        return []
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return [
        Finding(
            "config-ishowtts",
            Severity.WARN,
            f"iShowTTS's configuration cannot all be used{more}: {problems[0]}",
            tuple(Evidence(theirs.path, problem) for problem in problems[:5]),
            by_hand(
                "Correct the file, then run install again.", ("sudo", "ishowtts-ops", "install")
            ),
            because=("config-manifest",) if _all_about(problems, _gone(exam)) else (),
        )
    ]


def _all_about(problems: list[str], paths: list[str]) -> bool:
    """Does each problem name one of these files?"""
    return all(any(path in problem for path in paths) for problem in problems)


def _gone(exam: Examination) -> list[str]:
    """Files that the manifest names and that are not there, which config-manifest tells."""
    try:
        told = Manifest.model_validate(json.loads(exam.host.read_text(MANIFEST_PATH)))
    except (OSError, ValueError, ValidationError):
        return []
    return [path for path in _paths(told) if not exam.host.exists(path)]


def _manifest(exam: Examination) -> list[Finding]:
    host = exam.host
    if not exam.installed:
        return []
    rewrite = mend("voices", "Check voices and weights and write it anew.", "daemon")
    if not host.is_file(MANIFEST_PATH):
        text = f"The engine's manifest {MANIFEST_PATH} is not there, so the daemon cannot start."
        evidence = (Evidence(MANIFEST_PATH, "not there"),)
        return [Finding("config-manifest", Severity.ERROR, text, evidence, rewrite)]
    try:
        stored = host.read_text(MANIFEST_PATH)
        told = Manifest.model_validate(json.loads(stored))
    except (ValueError, ValidationError) as error:
        text = f"The engine's manifest {MANIFEST_PATH} is damaged."
        evidence = (Evidence(MANIFEST_PATH, _first_problem(error)),)
        return [Finding("config-manifest", Severity.ERROR, text, evidence, rewrite)]
    gone = [path for path in _paths(told) if not host.exists(path)]
    if gone and not (told.source in gone and _source_missing(exam)):
        text = f"A file that the engine needs is not there: {gone[0]}."
        lacking = tuple(Evidence(path, "not there") for path in gone[:6])
        remedy = by_hand(
            "Put it back, or take what names it out of the configuration, then run install again.",
            ("sudo", "ishowtts-ops", "install"),
            needs_root=True,
        )
        if gone[0] in (told.ckpt_file, told.vocoder_path):
            remedy = mend("weights", "Bring it back.")
        return [Finding("config-manifest", Severity.ERROR, text, lacking, remedy)]
    return _stale(exam, stored, told)


def _first_problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"no JSON: {error}"[:160]
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}"[:160]


def _stale(exam: Examination, stored: str, told: Manifest) -> list[Finding]:
    """Is it what install would write now?"""
    theirs = read_ishowtts(exam.host, exam.settings)
    if theirs is not None and theirs.problems and not theirs.voices:
        return []  # their file cannot be used, which config-ishowtts says
    try:
        wanted = manifest(exam.host, exam.settings)
    except ConfigError as error:
        evidence = tuple(Evidence(p.where, p.what) for p in error.problems[:6])
        text = f"Voices cannot be used: {error.problems[0]}."
        remedy = by_hand("Correct the configuration, then run install again.")
        return [Finding("config-manifest", Severity.ERROR, text, evidence, remedy)]
    except OpsError:
        return []  # sources or weights are missing, which their own checks say
    if render(wanted) == stored:
        return []
    changed = [name for name in Manifest.model_fields if _differ(name, told, wanted)]
    text = "Voices, weights or settings changed since install last told the daemon about them."
    remedy = mend("voices", "Tell the daemon, and restart it.", "daemon")
    because: tuple[str, ...] = ()
    if changed == ["nfe"] and wanted.nfe != FAST_NFE:
        # No step of --fix: it would carry out what the other finding warns of.
        remedy = by_hand(
            "Set NFE first; or tell the daemon, if it is meant so.",
            ("sudo", "ishowtts-ops", "install"),
            needs_root=True,
        )
        because = ("config-nfe", "config-ishowtts-nfe")
    elif changed == ["source"] and (wanted.source or "").startswith(f"{LAST_GOOD}/"):
        text = (
            "There is a copy of the F5-TTS that ran last, and the daemon does not know of it yet."
        )
        remedy = mend("voices", "Let the daemon speak from it until this is mended.", "daemon")
        because = ("patch-state",)
    evidence = tuple(
        Evidence(f"{MANIFEST_PATH} {name}", _was_and_is(name, told, wanted)) for name in changed
    ) or (Evidence(MANIFEST_PATH, "not as it would be written now"),)
    return [
        Finding("config-manifest", Severity.WARN, text, evidence, remedy, because=because),
    ]


def _differ(name: str, told: Manifest, wanted: Manifest) -> bool:
    return bool(getattr(told, name) != getattr(wanted, name))


def _was_and_is(name: str, told: Manifest, wanted: Manifest) -> str:
    """Names only, where the values are long."""
    if name == "voices":
        before, after = (", ".join(v.id for v in m.voices) or "none" for m in (told, wanted))
        return f"{before}; now {after}" if before != after else "changed"
    return f"{getattr(told, name)}; now {getattr(wanted, name)}"


def _source_missing(exam: Examination) -> bool:
    return locate(exam.host, exam.settings).state is not SourceState.PRESENT


def _paths(told: Manifest) -> list[str]:
    fixed = (told.source, told.ckpt_file, told.vocab_file, told.vocoder_path)
    return [path for path in (*fixed, *(voice.audio for voice in told.voices)) if path]


def _ledger(exam: Examination) -> list[Finding]:
    try:
        ledger = Ledger.open(exam.host)
    except (PermissionError, NeedsRoot):
        text = f"{LEDGER_PATH} can be read by root only."
        return [Finding("config-ledger", Severity.INFO, text)]
    except OpsError as error:
        evidence = (Evidence(LEDGER_PATH, "damaged"),)
        remedy = by_hand(error.hint)
        return [Finding("config-ledger", Severity.ERROR, error.message, evidence, remedy)]
    if ledger.empty and exam.installed:
        return [
            Finding(
                "config-ledger",
                Severity.WARN,
                "What was on the box before install is not recorded, so uninstall cannot bring it"
                " back.",
                (Evidence(LEDGER_PATH, "not there"),),
                by_hand("Restore it from a backup of the box, if there is one."),
            )
        ]
    return []


CHECKS = (
    Check("config-file", "config", "The box has a configuration", _file),
    Check("config-nfe", "config", "NFE is the fast setting", _nfe),
    Check("config-ishowtts", "config", "iShowTTS's configuration can be used", _ishowtts),
    Check("config-ishowtts-nfe", "config", "iShowTTS's NFE is the fast setting", _their_nfe),
    Check(
        "config-manifest",
        "config",
        "The engine's manifest is whole and current",
        _manifest,
        limit_s=10.0,
    ),
    Check("config-ledger", "config", "What install changed is recorded", _ledger),
)
