"""Are the voices' recordings fit for F5-TTS, which speaks as they do?"""

from __future__ import annotations

import json

from pydantic import ValidationError

from ishowtts_ops.config import MANIFEST_PATH, Manifest
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    Remedy,
    Severity,
    by_hand,
    known,
)
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.facts.voices import Recording, VoiceSample, letters
from ishowtts_ops.provision.units import DAEMON

USUAL_RATE = 15.0
"""Characters a second."""
SLOW, HURRIED = 8.0, 26.0
"""Outside of these the transcript does not fit: 6.7 were seen with half of it missing."""
SHORT_S, LONG_S = 2.0, 12.0
"""F5-TTS cuts a recording at 12 s, and the transcript then holds words that are not heard."""
CLIPPED = 0.001
SILENT = 0.5
FAINT_DB = -42.0


def _transcripts(exam: Examination) -> list[Finding]:
    findings = []
    for voice in _voices(exam):
        rate = voice.rate
        if isinstance(rate, Unknown) or SLOW <= rate <= HURRIED:
            continue
        seconds = known(voice.recording).seconds
        missing = "words are missing from it" if rate < SLOW else "it has words that are not heard"
        result = "drawls" if rate < SLOW else "gabbles"
        findings.append(
            Finding(
                "voices-transcript",
                Severity.WARN,
                f"The transcript of voice {voice.id} does not fit its recording ({rate:.1f}"
                f" characters a second, about {USUAL_RATE:.0f} are usual): {missing}, and all that"
                f" it says {result}.",
                (
                    Evidence(voice.audio, f"{seconds:.1f} s"),
                    Evidence(MANIFEST_PATH, f"{letters(voice.text)} characters: {_short(voice)}"),
                ),
                by_hand(
                    "Write down exactly what is said in the recording, then run install again.",
                    ("sudo", "ishowtts-ops", "install"),
                ),
                # A drawl makes more audio for the same text, all of which has to be computed.
                round(USUAL_RATE / rate, 2) if rate < SLOW else None,
                at_most=True,
            )
        )
    voices = _voices(exam)
    if not findings and voices:
        rates = [rate for v in voices if isinstance(rate := v.rate, float)]
        if rates:
            text = f"Transcripts fit: {min(rates):.0f} to {max(rates):.0f} characters a second."
            findings.append(Finding("voices-transcript", Severity.OK, text))
    return findings


def _length(exam: Examination) -> list[Finding]:
    findings = []
    for voice in _voices(exam):
        recording = voice.recording
        if isinstance(recording, Unknown) or SHORT_S <= recording.seconds <= LONG_S:
            continue
        if recording.seconds < SHORT_S:
            why = "too little for F5-TTS to know the voice by"
        else:
            why = f"of which F5-TTS hears the first {LONG_S:.0f} s and reads the whole transcript"
        findings.append(
            _finding(
                "voices-length",
                voice,
                f"The recording of voice {voice.id} is {recording.seconds:.1f} s long, {why}.",
                Evidence(voice.audio, f"{recording.seconds:.1f} s"),
                "Take 3 to 12 s of clean speech and its transcript.",
            )
        )
    return findings


def _sound(exam: Examination) -> list[Finding]:
    findings = []
    for voice in _voices(exam):
        found = None if isinstance(voice.recording, Unknown) else _fault(voice.recording)
        if found is not None:
            what, value = found
            text = f"The recording of voice {voice.id} {what}."
            evidence = Evidence(voice.audio, value)
            remedy = "Record it again, close to the microphone and below full level."
            findings.append(_finding("voices-sound", voice, text, evidence, remedy))
    return findings


def _fault(recording: Recording) -> tuple[str, str] | None:
    """What is wrong with it, in words and as a value."""
    if recording.silent >= 1.0:
        return "is silent, so nothing can be learnt from it", "digital silence"
    if recording.clipped > CLIPPED:
        return (
            "is clipped, and so will be all that it says",
            f"{recording.clipped:.1%} of its samples at full scale",
        )
    if recording.silent > SILENT:
        return (
            "is mostly silence, so there is little to know the voice by",
            f"{recording.silent:.0%} of it silent",
        )
    if recording.rms_db < FAINT_DB:
        return "is very faint, and so will be all that it says", f"{recording.rms_db:.0f} dB"
    return None


def _aside(exam: Examination) -> list[Finding]:
    """Voices that the running daemon cannot speak with, whichever engine it has."""
    health = exam.facts.daemon
    if isinstance(health, Unknown) or not health.ready:
        return []  # daemon-answers or daemon-ready says so
    manifest = _manifest(exam)
    configured = {entry.id for entry in manifest.voices or exam.settings.voices}
    default = exam.settings.default_voice or manifest.default_voice
    findings = []
    for voice, why in sorted(health.voices_aside.items()):
        ours = voice in configured and voice not in health.voices
        if voice in health.voices:
            instead = "the one of the configuration speaks in its place"
        elif voice == default and health.default_voice:
            instead = f"{health.default_voice} speaks wherever no voice is asked for"
        else:
            instead = "requests for it are refused"
        findings.append(
            Finding(
                "voices-aside",
                Severity.WARN,
                f"The daemon cannot speak with voice {voice}, so {instead}.",
                (Evidence(f"GET {health.url}/readyz voices_aside", f"{voice}: {why}"),),
                _back_in_use(voice) if ours else _replaced(voice),
                because=("config-manifest", "voices-sound", "voices-length") if ours else (),
            )
        )
    return findings


def _back_in_use(voice: str) -> Remedy:
    return by_hand(
        f"Put a recording of {voice} that can be heard in its place, then run install again.",
        ("sudo", "ishowtts-ops", "install"),
        ("sudo", "systemctl", "reload", DAEMON),
        needs_root=True,
    )


def _replaced(voice: str) -> Remedy:
    return by_hand(
        "Give it a new recording and the words spoken in it, or remove it.",
        ("ishowtts-ops", "voices", "add", voice, "FILE", "--text", "WORDS", "--replace"),
        ("ishowtts-ops", "voices", "remove", voice),
    )


def _manifest(exam: Examination) -> Manifest:
    """What install told the daemon; nothing where that is damaged, which config-manifest says."""
    text = sysfs.text(exam.host, MANIFEST_PATH)
    try:
        return Manifest.model_validate(json.loads(text)) if isinstance(text, str) else Manifest()
    except (ValueError, ValidationError, RecursionError):
        return Manifest()


def _finding(check: str, voice: VoiceSample, text: str, seen: Evidence, mend: str) -> Finding:
    remedy = by_hand(mend, ("sudo", "ishowtts-ops", "install"))
    return Finding(check, Severity.WARN, text, (seen,), remedy)


def _voices(exam: Examination) -> tuple[VoiceSample, ...]:
    """Voices that F5-TTS speaks by; other engines take only their names. A recording that cannot be
    read is told with the manifest."""
    if exam.settings.engine.kind != "f5":
        return ()
    return known(exam.facts.voices).voices


def _short(voice: VoiceSample) -> str:
    return f"“{voice.text}”" if len(voice.text) <= 60 else f"“{voice.text[:57]}…”"


CHECKS = (
    Check("voices-aside", "voices", "The daemon can speak with every voice", _aside),
    Check("voices-transcript", "voices", "Transcripts fit their recordings", _transcripts),
    Check("voices-length", "voices", "Recordings have the right length", _length),
    Check("voices-sound", "voices", "Recordings are clean", _sound),
)
