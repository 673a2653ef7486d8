"""The daemon serves what iShowTTS's configuration says, unless ours says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from ishowtts_ops.config import DEFAULT_NFE, Manifest, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.provision.voices import VoicesStep, manifest
from ishowtts_ops.provision.weights import WeightsStep
from ishowtts_ops.sim.checkout import VOICES
from ishowtts_ops.steps import Ledger
from tests.support.f5 import CHECKOUT, SOURCE, Box

SMALL = Settings.model_validate({"f5": {"weights": "random"}})
TOML = f"{CHECKOUT}/config/ishowtts.toml"


def told(box: Box, toml: dict[str, str] | None = None, **f5: Any) -> Manifest:
    text = box.host.read_text(TOML)
    for old, new in (toml or {}).items():
        assert old in text
        text = text.replace(old, new)
    box.host.write(TOML, text)
    settings = Settings.model_validate({"f5": {"weights": "random", **f5}})
    return manifest(box.host.read_only(), settings)


def test_the_same_voices_from_the_same_files(box: Box) -> None:
    found = told(box)
    assert [voice.id for voice in found.voices] == [voice.id for voice in VOICES]
    assert [voice.text for voice in found.voices] == [voice.text for voice in VOICES]
    assert found.voices[0].audio == f"{CHECKOUT}/data/voices/host.wav"
    assert found.default_voice == "host" and found.source == f"{SOURCE}/src"
    assert found.vocab_file == f"{SOURCE}/src/f5_tts/infer/examples/vocab.txt"


def test_the_same_steps_and_device(box: Box) -> None:
    theirs = {"default_nfe_step = 7": "default_nfe_step = 12", 'device = "cuda"': 'device = "cpu"'}
    found = told(box, theirs)
    assert (found.nfe, found.device) == (12, "cpu")
    ours = told(box, nfe=5, device="cuda:0")
    assert (ours.nfe, ours.device) == (5, "cuda:0")


def test_a_configuration_that_cannot_be_read_stops_the_plan(box: Box) -> None:
    """Without it the daemon would come up with another voice, and nobody would have said so."""
    box.host.write(TOML, box.host.read_text(TOML) + "[[[\n")
    with pytest.raises(OpsError, match=r"ishowtts\.toml is not valid TOML") as caught:
        VoicesStep(SMALL, Ledger.open(box.host)).diff(box.host.read_only())
    assert "Correct the file" in caught.value.hint


def test_what_is_not_taken_over_is_in_the_plan(box: Box) -> None:
    text = box.host.read_text(TOML) + '[[f5.voices]]\nid = "mute"\nreference_text = "Hi."\n'
    box.host.write(TOML, text)
    change = VoicesStep(SMALL, Ledger.open(box.host)).diff(box.host)
    assert change is not None and "'mute' without reference_audio" in change.summary
    assert change.preview[-1].startswith("# not used: ")
    change.apply(lambda _: None)
    assert VoicesStep(SMALL, Ledger.open(box.host)).diff(box.host.read_only()) is None


def test_what_nobody_says_has_a_default(box: Box) -> None:
    found = told(box, {"default_nfe_step = 7": "# nothing"})
    assert (found.nfe, found.device) == (DEFAULT_NFE, "auto")


def test_weights_that_ishowtts_has_fetched_are_used(box: Box) -> None:
    """As the hub's client lays them out: links from a commit's folder to files by hash."""
    hub = f"{CHECKOUT}/data/cache/huggingface"
    fetched = {
        "SWivid--F5-TTS": ("F5TTS_v1_Base/model_1250000.safetensors",),
        "charactr--vocos-mel-24khz": ("config.yaml", "pytorch_model.bin"),
    }
    settings = Settings()
    for repo, names in fetched.items():
        assert WeightsStep(settings, Ledger.open(box.host)).diff(box.host) is not None
        for number, name in enumerate(names):
            base = f"{hub}/models--{repo}"
            box.host.write(f"{base}/blobs/{number}", b"weights")
            up = "../" * (2 + name.count("/"))
            box.host.symlink(f"{up}blobs/{number}", f"{base}/snapshots/abc/{name}")
            box.host.write(f"{base}/refs/main", "abc")
    assert WeightsStep(settings, Ledger.open(box.host)).diff(box.host) is None
    found = manifest(box.host.read_only(), settings)
    snapshots = f"{hub}/models--SWivid--F5-TTS/snapshots/abc"
    assert found.ckpt_file == f"{snapshots}/F5TTS_v1_Base/model_1250000.safetensors"
    assert found.vocoder_path == f"{hub}/models--charactr--vocos-mel-24khz/snapshots/abc"
    assert box.host.read_bytes(str(found.ckpt_file)) == b"weights"
