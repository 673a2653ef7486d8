"""Reference recordings, written as real files and read back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ishowtts_ops.config import MANIFEST_PATH, Manifest, VoiceEntry
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.facts.voices import Recording, VoiceFacts, letters, levels, read_voices
from ishowtts_ops.host import Host

RATE = 24000


def tone(seconds: float, level: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    at = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 220 * at)).astype(np.float32)


def voice(tmp_path: Path, samples: object, text: str = "Some words.") -> Host:
    host = Host.at(tmp_path)
    (tmp_path / "v").mkdir()
    soundfile.write(tmp_path / "v/a.wav", samples, RATE, subtype="FLOAT")
    entry = VoiceEntry(id="a", audio="/v/a.wav", text=text)
    host.write(MANIFEST_PATH, Manifest(voices=(entry,)).model_dump_json())
    return host


def recording(host: Host) -> Recording:
    facts = read_voices(host.read_only())
    assert isinstance(facts, VoiceFacts)
    found = facts.voices[0].recording
    assert isinstance(found, Recording), found
    return found


def test_length_level_and_rate(tmp_path: Path) -> None:
    host = voice(tmp_path, tone(3.0), "x" * 45)
    found = recording(host)
    assert (found.seconds, found.sample_rate, found.channels) == (3.0, RATE, 1)
    assert found.clipped == 0.0 and found.silent == 0.0
    assert found.rms_db == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.1)
    facts = read_voices(host)
    assert isinstance(facts, VoiceFacts)
    assert facts.voices[0].rate == 15.0


def test_clipping_counts_every_channel(tmp_path: Path) -> None:
    loud = np.clip(tone(1.0, 2.0), -1, 1)
    found = recording(voice(tmp_path, np.stack([tone(1.0), loud], axis=1)))
    assert found.channels == 2
    assert 0.2 < found.clipped < 0.4


def test_silence_is_told_by_the_loudest_part(tmp_path: Path) -> None:
    quiet = np.concatenate([tone(1.0, 0.02), np.zeros(3 * RATE, np.float32)])
    assert recording(voice(tmp_path, quiet)).silent == pytest.approx(0.75, abs=0.01)


def test_digital_silence(tmp_path: Path) -> None:
    found = recording(voice(tmp_path, np.zeros(RATE, np.float32)))
    assert (found.silent, found.rms_db) == (1.0, -math.inf)


def test_a_syllable_of_chinese_counts_as_its_bytes() -> None:
    assert letters("  hello ") == 5
    assert letters("你好，世界") == len("你好，世界".encode())
    assert letters("Привет") == 6


@pytest.mark.parametrize("body", [b"", b"RIFF", b"no sound " * 99])
def test_what_is_no_recording_is_unknown(tmp_path: Path, body: bytes) -> None:
    host = voice(tmp_path, tone(1.0))
    host.write("/v/a.wav", body)
    facts = read_voices(host)
    assert isinstance(facts, VoiceFacts)
    assert isinstance(facts.voices[0].recording, Unknown)
    assert isinstance(facts.voices[0].rate, Unknown)


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"voices": 3}', "null"])
def test_a_damaged_manifest_has_no_voices(tmp_path: Path, manifest: str) -> None:
    host = Host.at(tmp_path)
    host.write(MANIFEST_PATH, manifest)
    assert read_voices(host) == VoiceFacts(())


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(arrays(np.float32, st.tuples(st.integers(1, 400), st.integers(1, 2)), elements=FLOATS))
@settings(max_examples=60, deadline=None)
def test_any_samples_give_levels_in_range(
    samples: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    clipped, silent, _ = levels(samples, 8000)
    assert 0.0 <= clipped <= 1.0
    assert 0.0 <= silent <= 1.0
