"""Voices of a box in a folder, with real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ishowtts_ops.config import Manifest, Settings, VoiceEntry
from ishowtts_ops.daemon.engine import StartRefused
from ishowtts_ops.daemon.f5 import F5Engine
from ishowtts_ops.daemon.failures import UnknownVoice
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.voices import load_voices
from ishowtts_ops.host import Host


@pytest.fixture
def box(tmp_path: Path) -> Host:
    package = tmp_path / "src/f5_tts/fast"
    package.mkdir(parents=True)
    (package / "synthesizer.py").touch()
    return Host.at(tmp_path)


def record(box: Host, name: str, seconds: float = 2.0, level: float = 0.1) -> VoiceEntry:
    times = np.arange(round(22050 * seconds)) / 22050
    left = level * np.sin(2 * np.pi * 220 * times)
    soundfile.write(box.root / f"{name}.wav", np.stack([left, 0 * left], axis=1), 22050)
    return VoiceEntry(id=name, audio=f"/{name}.wav", text="What was said.", language="en")


def f5(box: Host, *voices: VoiceEntry, default: str | None = None) -> tuple[Manifest, F5Engine]:
    manifest = Manifest(source="/src", voices=voices, default_voice=default)
    return manifest, F5Engine(manifest, box)


def test_recordings_become_mono_voices(box: Host) -> None:
    manifest, engine = f5(box, record(box, "anna"), record(box, "bob"), default="bob")
    voices = load_voices(Settings(), manifest, engine, box)
    assert voices.ids == ["anna", "bob"]
    assert voices.default.id == "bob"
    reference = voices.get("anna").reference
    assert reference is not None
    assert (reference.sample_rate, reference.text) == (22050, "What was said.")
    assert reference.samples.shape == (44100,)
    assert reference.samples.dtype == np.float32
    assert np.abs(reference.samples).max() == pytest.approx(0.05, rel=0.01)


def test_the_settings_choose_the_default(box: Host) -> None:
    manifest, engine = f5(box, record(box, "anna"), record(box, "bob"), default="bob")
    voices = load_voices(Settings(default_voice="anna"), manifest, engine, box)
    assert voices.get(None).id == "anna"
    with pytest.raises(UnknownVoice, match="'carl'"):
        voices.get("carl")


def test_every_bad_recording_is_named_at_once(box: Host) -> None:
    (box.root / "noise.wav").write_bytes(b"RIFF but not really")
    entries = [
        VoiceEntry(id="gone", audio="/gone.wav", text="x"),
        VoiceEntry(id="noise", audio="/noise.wav", text="x"),
        record(box, "short", seconds=0.1),
        record(box, "mute", level=0),
        record(box, "good"),
    ]
    manifest, engine = f5(box, *entries)
    with pytest.raises(StartRefused) as caught:
        load_voices(Settings(), manifest, engine, box)
    for word in ("'gone'", "'noise'", "'short'", "0.10 s", "'mute'", "silent"):
        assert word in caught.value.message
    assert "'good'" not in caught.value.message


def test_f5_without_a_voice_cannot_start(box: Host) -> None:
    manifest, engine = f5(box)
    with pytest.raises(StartRefused, match="there is none"):
        load_voices(Settings(), manifest, engine, box)


def test_engines_with_voices_of_their_own_need_no_recording(box: Host) -> None:
    entry = VoiceEntry(id="gone", audio="/gone.wav", text="x", language="zh")
    voices = load_voices(Settings(), Manifest(voices=(entry,)), ToneEngine(""), box)
    assert voices.ids == ["gone", "tone-a", "tone-b"]
    assert voices.default.language == "zh"
