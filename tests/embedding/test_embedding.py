"""The embedding contract: iShowTTS's backend keeps working, and hears no difference but speed.

Its engine (a program of its own here, `engine.py`) runs twice over the same requests, once with
upstream's sources and once with the same checkout after `patch apply`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from ishowtts_ops.config import Settings
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch
from ishowtts_ops.provision.ishowtts import read_ishowtts
from ishowtts_ops.steps import Ledger
from tests.support.f5 import SOURCE, build_template

NEEDED = (
    "torch",
    "torchaudio",
    "hydra",
    "omegaconf",
    "cached_path",
    "pydub",
    "transformers",
    "wandb",
    "datasets",
    "accelerate",
    "ema_pytorch",
    "matplotlib",
    "vocos",
    "x_transformers",
    "librosa",
    "unidecode",
    "torchdiffeq",
)
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"upstream's api imports {', '.join(MISSING)}, not installed here"
)

VERSIONS = ("1.1.9", "1.1.22")
ENGINE = Path(__file__).with_name("engine.py")
ARCH = {
    "dim": 128,
    "depth": 3,
    "heads": 2,
    "ff_mult": 2,
    "text_dim": 64,
    "text_mask_padding": True,
    "conv_layers": 2,
}
TEXTS = ("Hello chat, 你好.", "This line is the longer one of the two, and it ends now.")
ENVIRONMENT = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "F5_TTS_QUIET": "1"}
"""What iShowTTS's backend sets for the Python inside it."""

WAVE_BOUND = 1e-4
"""Largest error over largest value, both sides in fp32 with the same noise."""
SPECTROGRAM_BOUND = 1e-5
"""The same for the spectrogram, as ||error|| / ||value||."""


@dataclass(frozen=True)
class Spoken:
    """What one run of the engine gave.

    Attributes:
        waves, spectrograms: by request.
        told: what the engine told of itself.
    """

    waves: list[Any]
    spectrograms: list[Any]
    told: Mapping[str, Any]
    folder: Path
    output: str

    @property
    def seconds(self) -> float:
        """The median request, the first one (which loads and measures) left out."""
        rows = sorted(self.told["rows"], key=lambda row: row["request"])
        return float(np.median([row["seconds"] for row in rows[1:]]))


@dataclass(frozen=True)
class Both:
    """The same requests, answered by both trees."""

    version: str
    requests: list[dict[str, Any]]
    upstream: Spoken
    patched: Spoken


def _config(host: Host, version: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job without its requests, and voices by id, from the checkout's own ishowtts.toml."""
    theirs = read_ishowtts(host, Settings())
    assert theirs is not None and theirs.python_path is not None and not theirs.problems
    assert theirs.vocab_file is not None
    configs = host.path(theirs.python_path) / "f5_tts/configs"
    config = yaml.safe_load((configs / "F5TTS_v1_Base.yaml").read_text())
    config["model"]["arch"] = ARCH
    (configs / "Tiny.yaml").write_text(yaml.safe_dump(config))
    constructor = {
        "model": "Tiny",
        "ckpt_file": str(folder / "tiny.safetensors"),
        "vocab_file": str(host.path(theirs.vocab_file)),
        "ode_method": "euler",
        "use_ema": True,
        "vocoder_local_path": str(folder / "vocos"),
        "device": "cpu",
        "hf_cache_dir": str(folder / "hub"),
    }
    job = {
        "python_package_path": str(host.path(theirs.python_path)),
        "constructor": constructor,
        "arch": ARCH,
        "nfe": theirs.default_nfe_step,
    }
    return job, {voice.id: voice for voice in theirs.voices}


def _requests(host: Host, nfe: int, voices: Mapping[str, Any], out: Path) -> list[dict[str, Any]]:
    """As `POST /api/tts` fills them in: every voice in turn, twice over, then the odd wishes."""
    usual = {
        "target_rms": 0.1,
        "cross_fade_duration": 0.15,
        "sway_sampling_coef": -1.0,
        "cfg_strength": 2.0,
        "nfe_step": nfe,
        "speed": 1.0,
        "fix_duration": None,
        "remove_silence": False,
        "file_wave": None,
        "file_spec": None,
    }

    def request(voice: Any, text: str, seed: int, **odd: Any) -> dict[str, Any]:
        who = {"ref_file": str(host.path(voice.audio)), "ref_text": voice.text}
        return {**who, "gen_text": text, **usual, "seed": seed, **odd}

    turns = [request(voice, TEXTS[0], 7) for voice in voices.values()]
    first = next(iter(voices.values()))
    odd = [
        request(first, TEXTS[1], 8, file_spec=str(out / "seen.png")),
        request(first, TEXTS[1], 8, file_wave=str(out / "whole.wav")),
        request(first, TEXTS[1], 8, file_wave=str(out / "cut.wav"), remove_silence=True),
        request(first, TEXTS[1], 9, speed=1.3, cfg_strength=1.5),
    ]
    return [*turns, *turns[::-1], *odd]


def _run(job: dict[str, Any], out: Path) -> Spoken:
    path = out / "job.json"
    path.write_text(json.dumps({**job, "out": str(out)}))
    done = subprocess.run(
        [sys.executable, "-B", str(ENGINE), str(path)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    count = len(job["requests"])
    loaded = [np.load(out / f"{number}.npz") for number in range(count)]
    told = json.loads((out / "told.json").read_text())
    waves, specs = [item["wave"] for item in loaded], [item["spectrogram"] for item in loaded]
    return Spoken(waves, specs, told, out, done.stdout)


@pytest.fixture(scope="module", params=VERSIONS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    version: str = request.param
    folder = tmp_path_factory.mktemp(f"embedding-{version}")
    host = Host.at(build_template(folder / "box", version))
    job, voices = _config(host, version, folder)
    sides = []
    for side in ("upstream", "patched"):
        out = folder / side
        out.mkdir()
        if side == "patched":
            (host.path(SOURCE) / "src/f5_tts/configs/Tiny.yaml").unlink()
            after = patch.apply(host, SOURCE, Ledger.open(host))
            assert after.state is patch.PatchState.APPLIED and after.version == version
            _config(host, version, folder)
        requests = _requests(host, job["nfe"], voices, out)
        sides.append(_run({**job, "requests": requests, "make_weights": side == "upstream"}, out))
    yield Both(version, requests, *sides)


def test_the_same_speech_as_upstream(both: Both) -> None:
    for number, (want, got) in enumerate(zip(both.upstream.waves, both.patched.waves, strict=True)):
        assert got.shape == want.shape and got.dtype == want.dtype, number
        assert np.abs(want).max() > 1e-3, "upstream said nothing, so nothing was compared"
        assert np.abs(got - want).max() <= WAVE_BOUND * np.abs(want).max(), number
    pairs = zip(both.upstream.spectrograms, both.patched.spectrograms, strict=True)
    for number, (want, got) in enumerate(pairs):
        assert got.shape == want.shape, number
        error = np.linalg.norm(got - want) / np.linalg.norm(want)
        assert error <= SPECTROGRAM_BOUND, number
    assert {row["rate"] for row in both.patched.told["rows"]} == {24_000}


def test_each_side_ran_its_own_sources_and_only_one_the_fast_path(both: Both) -> None:
    assert both.upstream.told["fast_steps"] == 0
    assert both.patched.told["fast_steps"] >= 7 * len(both.requests)
    assert both.patched.told["file"].endswith(f"{SOURCE}/src/f5_tts")


def test_voices_never_mix_whatever_thread_asks(both: Both) -> None:
    threads = {row["thread"] for row in both.patched.told["rows"]}
    assert len(threads) > 1, "the requests came from one thread only"
    waves = both.patched.waves
    for number in range(3):
        assert np.array_equal(waves[number], waves[5 - number]), "the same request, another answer"
    for one, other in ((0, 1), (0, 2), (1, 2)):
        same = waves[one].shape == waves[other].shape and np.allclose(waves[one], waves[other])
        assert not same, "two voices sound alike, so mixing them would not be seen"


def test_the_spectrogram_is_written_when_asked(both: Both) -> None:
    for side in (both.upstream, both.patched):
        data = (side.folder / "seen.png").read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 1000
    assert [path.name for path in both.patched.folder.glob("*.png")] == ["seen.png"]


def test_silence_is_removed_when_asked(both: Both) -> None:
    def seconds(side: Spoken, name: str) -> float:
        return float(soundfile.info(str(side.folder / name)).duration)

    assert seconds(both.patched, "whole.wav") == seconds(both.upstream, "whole.wav")
    assert seconds(both.patched, "cut.wav") == seconds(both.upstream, "cut.wav")
    assert np.array_equal(both.patched.waves[7], both.patched.waves[8]), "only the file is cut"


def test_faster_on_this_machine(both: Both, record_property: Callable[[str, object], None]) -> None:
    """Told, not judged: the network is tiny and the machine is shared."""
    ratio = both.upstream.seconds / both.patched.seconds
    record_property("speedup", ratio)
    print(f"f5-tts {both.version}: {ratio:.2f} times upstream's speed, tiny network, this CPU")
    assert np.isfinite(ratio) and ratio > 0
