"""The two sides that are compared: this project's synthesizer, and upstream with equal weights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SEED = 1
TRANSCRIPT_PACE = 15  # bytes a second, as usual speech has
SENTENCE = "Some call me nature, others call me mother nature, and I have been here for a while. "
# Reference seconds, and total seconds: 468 and 1312 frames.
WORKLOADS = {"S": (3.0, 5.0), "M": (6.0, 14.0), "R3": (3.0, 11.0), "L": (6.0, 22.0)}


def text_of(seconds: float) -> str:
    size = int(seconds * TRANSCRIPT_PACE)
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size].strip() + "."


@functools.cache
def clip(seconds: float, number: int = 0) -> Any:
    import numpy as np

    rng = np.random.default_rng(number)
    t = np.arange(int(seconds * 24000)) / 24000
    return (0.2 * rng.standard_normal(t.size) * (0.6 + 0.3 * np.sin(9 * t))).astype(np.float32)


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 95th percentile, least."""
    ordered = sorted(1e3 * value for value in seconds)
    at = min(len(ordered) - 1, int(0.95 * len(ordered)))
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p95_ms": round(ordered[at], 3),
        "min_ms": round(ordered[0], 3),
        "runs": len(ordered),
    }


def timed(work: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


class Ours:
    """The synthesizer, and engines with one switch turned."""

    def __init__(self, cache: Path | None) -> None:
        from f5_tts.fast.synthesizer import SynthesisSettings, Synthesizer

        self.synthesizer = Synthesizer.load(
            ckpt_file=None, random_weights_seed=SEED, cache_dir=cache, device="cuda"
        )
        self.settings = SynthesisSettings
        self.voices: dict[tuple[float, int], Any] = {}

    def voice(self, seconds: float, number: int = 0) -> Any:
        key = (seconds, number)
        if key not in self.voices:
            # The 50 ms of silence that preprocessing adds are part of the reference.
            wave = clip(seconds - 0.05, number)
            self.voices[key] = self.synthesizer.voice(wave, 24000, text_of(seconds))
        return self.voices[key]

    def run(self, name: str, *, count: int = 1, seed: int = 5) -> list[Any]:
        reference, total = WORKLOADS[name]
        settings = self.settings(fix_duration_s=total + 0.005, seed=seed)
        words = text_of(total - reference)
        requests = [(words, self.voice(reference, n % 3)) for n in range(count)]
        waves: list[Any] = self.synthesizer.batch(requests, settings, seeds=list(range(count)))
        return waves

    def with_switches(self, **off: bool) -> Any:
        from f5_tts.fast.engine import Engine

        old = self.synthesizer.engine
        return Engine(old.weights, old.vocos, dataclasses.replace(old.switches, **off))

    @contextlib.contextmanager
    def engine(self, engine: Any) -> Iterator[None]:
        before = self.synthesizer._engine
        self.synthesizer._engine = engine
        try:
            yield
        finally:
            self.synthesizer._engine = before


class Upstream:
    """Upstream's CFM and Vocos with the same weights, through its own `infer_batch_process`."""

    def __init__(self, source: Path, dtype: Any) -> None:
        import torch
        import yaml
        from f5_tts.fast import arch, vocoder, weights
        from f5_tts.model import CFM, DiT
        from f5_tts.model.utils import get_tokenizer
        from vocos.feature_extractors import MelSpectrogramFeatures
        from vocos.heads import ISTFTHead
        from vocos.models import VocosBackbone
        from vocos.pretrained import Vocos

        config = yaml.safe_load((source / "f5_tts/configs/F5TTS_v1_Base.yaml").read_text())
        sizes = config["model"]["arch"]
        vocabulary, size = get_tokenizer(str(source / "f5_tts/infer/examples/vocab.txt"), "custom")
        self.model = CFM(
            transformer=DiT(**sizes, text_num_embeds=size, mel_dim=100),
            mel_spec_kwargs={"n_mel_channels": 100, "mel_spec_type": "vocos"},
            odeint_kwargs={"method": "euler"},
            vocab_char_map=vocabulary,
        )
        state = weights.random_state(arch.from_mapping(sizes), size, SEED)
        self.model.transformer.load_state_dict(state, strict=False)
        self.model = self.model.to(dtype).to("cuda").eval()
        self.vocos = Vocos(
            MelSpectrogramFeatures(),
            VocosBackbone(100, 512, 1536, 8),
            ISTFTHead(512, 1024, 256, padding="center"),
        )
        self.vocos.load_state_dict(vocoder.random_state(SEED), strict=False)
        self.vocos = self.vocos.to("cuda").eval()
        self.torch = torch

    def run(self, name: str, voice_seconds: float | None = None) -> Any:
        from f5_tts.infer.utils_infer import infer_batch_process

        reference, total = WORKLOADS[name]
        audio = self.torch.from_numpy(clip(reference)).unsqueeze(0)
        return next(
            infer_batch_process(
                (audio, 24000), text_of(reference) + " ", [text_of(total - reference)],
                self.model, self.vocos, progress=None, nfe_step=7, cfg_strength=2.0,
                fix_duration=total + 0.005, device="cuda",
            )
        )  # fmt: skip

    def mel(self, job: Any, words: str) -> Any:
        """The generated mel for this job's reference, text and noise."""
        from f5_tts.model.utils import convert_char_to_pinyin

        torch, plain = self.torch, self.torch.randn

        def given(*size: Any, **options: Any) -> Any:
            return job.noise.to(options.get("dtype") or torch.float32)

        # CFM.sample draws its noise with torch.randn; a comparison needs the same noise.
        torch.randn = given
        try:
            out, _ = self.model.sample(
                cond=job.mel.unsqueeze(0).float(), text=convert_char_to_pinyin([words]),
                duration=job.frames, steps=7, cfg_strength=2.0, sway_sampling_coef=-1.0,
            )  # fmt: skip
        finally:
            torch.randn = plain
        return out[0, job.reference_frames :].float()
