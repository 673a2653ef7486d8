"""Text to speech with F5-TTS: load once, add voices, stream.

from f5_tts.fast.synthesizer import Synthesizer, SynthesisSettings
synthesizer = Synthesizer.load(ckpt_file=..., vocab_file=None, vocoder_dir=...)
voice = synthesizer.voice(samples, rate, "What is said in the clip.")
for chunk in synthesizer.stream("Hello.", voice, SynthesisSettings()):
    ...
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from f5_tts.fast import folded, mel, switches, vocoder, weights
from f5_tts.fast import text as texts
from f5_tts.fast.arch import Arch, from_mapping, from_name
from f5_tts.fast.audio import Wave, as_mono_float32, cross_fade, join, trim_reference
from f5_tts.fast.engine import MAX_BATCH, Cancelled, Engine, never, silent
from f5_tts.fast.plan import Job
from f5_tts.fast.reference import LruCache, content_key, prepare
from f5_tts.fast.schedule import build
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Cancelled", "SynthesisSettings", "Synthesizer", "Voice"]

# Upstream's limit on reference and speech together, in seconds.
MAX_TOTAL_S = 22.0
MIN_CHUNK_S = 3.0
FIRST_CHUNK_S = 2.0
CHUNK_BATCH = 4
VOICES = 64


@dataclass(frozen=True)
class SynthesisSettings:
    """How to speak. Fields as in upstream's `infer`, in its units.

    `nfe`: Euler steps. `cfg_strength`: guidance (0 turns it off). `sway`: sway sampling
    coefficient or None. `fix_duration_s`: reference and speech together, in seconds.
    `seed`: the same seed gives the same samples. ValueError names a field that cannot be.
    """

    nfe: int = 7
    cfg_strength: float = 2.0
    sway: float | None = -1.0
    speed: float = 1.0
    target_rms: float = 0.1
    cross_fade_s: float = 0.15
    seed: int | None = None
    fix_duration_s: float | None = None

    def __post_init__(self) -> None:
        numbers = {
            "cfg_strength": (self.cfg_strength, 0.0, 20.0),
            "speed": (self.speed, 0.1, 10.0),
            "target_rms": (self.target_rms, 1e-4, 1.0),
            "cross_fade_s": (self.cross_fade_s, 0.0, 2.0),
        }
        for name, (value, low, high) in numbers.items():
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}; it must be between {low} and {high}")
        if self.sway is not None and not -2.0 <= self.sway <= 2.0:
            raise ValueError(f"sway is {self.sway}; it must be between -2 and 2")
        if self.fix_duration_s is not None and not 0.1 <= self.fix_duration_s <= 80.0:
            raise ValueError(
                f"fix_duration_s is {self.fix_duration_s}; it must be between 0.1 and 80"
            )
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        build(self.nfe, self.sway, warn=False)


@dataclass(frozen=True)
class Voice:
    """A prepared reference. `key` is a hash of its content; `mel` is (frames, mel) on the device.

    `seconds` is what is left after trimming; `frames` whole hops of it; `rms` of the clip as
    given; `text` the transcript as it is put before every text; `warnings` what looks odd.
    """

    key: str
    text: str
    seconds: float
    frames: int
    rms: float
    mel: Tensor = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()

    @property
    def bytes_per_second(self) -> float:
        return texts.byte_length(self.text) / self.seconds


class Synthesizer:
    """F5-TTS in inference form. Safe to share: one request computes at a time."""

    sample_rate: int = mel.SAMPLE_RATE

    def __init__(self, engine: Engine, vocabulary: texts.Vocabulary) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._voices: LruCache[Voice] = LruCache(VOICES)

    @classmethod
    def load(
        cls,
        *,
        model: str | Mapping[str, Any] = "F5TTS_v1_Base",
        ckpt_file: Path | None,
        vocab_file: Path | None = None,
        vocoder_dir: Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        random_weights_seed: int | None = None,
        cache_dir: Path | None = None,
        progress: Callable[[str], None] = lambda stage: None,
    ) -> Synthesizer:
        """Weights and vocoder onto the device; nothing is downloaded.

        `model`: a file in f5_tts/configs, or an architecture. `vocab_file`: None is the one that
        F5-TTS ships. `device`: auto, cpu, cuda or cuda:N. `dtype`: auto (fp16 on CUDA, else
        fp32), float16, bfloat16 or float32. `random_weights_seed`: seeded weights instead of a
        checkpoint: noise comes out, by the whole real path. `cache_dir`: where folded weights
        are kept. `progress` is told each stage. ValueError says what is missing or unfit.
        """
        on = switches.read()
        arch = from_name(model) if isinstance(model, str) else from_mapping(model)
        where = _device(device)
        kind = _dtype(dtype, where)
        vocabulary = texts.load_vocabulary(_vocab_path(vocab_file))
        if (ckpt_file is None) == (random_weights_seed is None):
            raise ValueError("give either ckpt_file or random_weights_seed, and not both")
        progress("loading weights")
        source, state = _state_source(ckpt_file, random_weights_seed, arch, len(vocabulary))

        def fold() -> weights.Weights:
            return weights.fold(state(), arch, device=where, dtype=kind)

        if cache_dir is not None and on.folded:
            key = folded.key_for(source, arch, kind)
            folded_weights = folded.load_or_fold(cache_dir, key, arch, where, fold)
        else:
            folded_weights = fold()
        progress("loading vocoder")
        if random_weights_seed is not None:
            small = arch.dim < 512
            sizes = {"dim": 64, "hidden": 128, "layers": 2} if small else {}
            raw = vocoder.random_state(random_weights_seed, mel=arch.mel_dim, **sizes)
            vocos = vocoder.fold(raw, hop=mel.HOP, padding="center", device=where)
        elif vocoder_dir is None:
            raise ValueError("vocoder_dir is missing; give the folder of vocos-mel-24khz")
        else:
            vocos = vocoder.load(vocoder_dir, where)
        progress("choosing kernels")
        return cls(Engine(folded_weights, vocos, on, cache_dir=cache_dir), vocabulary)

    @property
    def engine(self) -> Engine:
        """What computes; for measurement and proof."""
        return self._engine

    def voice(
        self,
        samples: NDArray[np.floating[Any]],
        sample_rate: int,
        text: str,
        *,
        target_rms: float = 0.1,
    ) -> Voice:
        """A voice from a mono clip (float, -1 to 1) and the words spoken in it.

        Edges of silence go, at most 12 s stay, quiet clips are lifted to `target_rms`. The same
        content is prepared once. ValueError says what is wrong with the clip or the transcript.
        """
        wave = as_mono_float32(samples)
        transcript = texts.finish_reference_text(text)
        key = content_key(torch.from_numpy(wave), sample_rate, transcript, target_rms)
        if not self._engine.switches.voices:
            return self._prepare_voice(key, wave, sample_rate, transcript, target_rms)
        return self._voices.get_or_make(
            key, lambda: self._prepare_voice(key, wave, sample_rate, transcript, target_rms)
        )

    @torch.inference_mode()
    def _prepare_voice(
        self, key: str, wave: Wave, rate: int, transcript: str, target_rms: float
    ) -> Voice:
        trimmed, clipped = trim_reference(wave, rate)
        seconds = trimmed.size / rate
        odd = texts.rate_warnings(transcript, seconds)
        if clipped:
            odd += (f"the clip was cut to {seconds:.1f} s; the transcript must end there too",)
        ready = prepare(
            torch.from_numpy(trimmed).unsqueeze(0),
            rate,
            target_rms=target_rms,
            target_rate=self.sample_rate,
            device=self._engine.weights.device,
        )
        arch = self._engine.weights.arch
        spectrogram = mel.log_mel(ready.audio, arch.mel_dim)[0].to(self._engine.weights.dtype)
        if len(transcript[-1].encode("utf-8")) == 1 and not transcript.endswith(" "):
            transcript += " "
        return Voice(
            key=key,
            text=transcript,
            seconds=seconds,
            frames=ready.audio.shape[-1] // mel.HOP,
            rms=float(ready.rms),
            mel=spectrogram,
            warnings=odd,
        )

    def chunks(
        self, text: str, voice: Voice, settings: SynthesisSettings, *, streaming: bool = True
    ) -> list[str]:
        """The pieces `text` is spoken in. ValueError where there is nothing to speak."""
        spoken = text.strip()
        if not spoken:
            raise ValueError("the text is empty")
        rate = voice.bytes_per_second * settings.speed
        longest = max(MAX_TOTAL_S - voice.seconds, MIN_CHUNK_S)
        first = None
        wanted = streaming and self._engine.switches.first_chunk
        if wanted and texts.byte_length(spoken) > 2 * rate * FIRST_CHUNK_S:
            first = max(int(rate * FIRST_CHUNK_S), texts.SHORT_BYTES + 6)
        return texts.split(spoken, max(int(rate * longest), 16), first)

    def predict_seconds(self, text: str, voice: Voice, speed: float) -> float:
        """Seconds of audio that `text` will make."""
        settings = SynthesisSettings(speed=speed)
        pieces = self.chunks(text, voice, settings)
        frames = sum(
            texts.generated_frames(voice.frames, voice.text, piece, speed) for piece in pieces
        )
        overlap = (len(pieces) - 1) * settings.cross_fade_s
        return max(frames / mel.FRAMES_PER_SECOND - overlap, 0.0)

    def job(
        self,
        piece: str,
        voice: Voice,
        settings: SynthesisSettings,
        generator: torch.Generator,
        fixed_s: float | None = None,
    ) -> Job:
        """One chunk as numbers; draws its noise from `generator`."""
        tokens = self._vocabulary.encode(texts.to_symbols(voice.text + piece))
        if fixed_s is not None:
            frames = int(fixed_s * mel.FRAMES_PER_SECOND)
        else:
            frames = voice.frames + texts.generated_frames(
                voice.frames, voice.text, piece, settings.speed
            )
        # Upstream's floor: one frame more than the text and the reference need.
        frames = max(frames, len(tokens) + 1, voice.mel.shape[0] + 1)
        self._engine.rounded(frames)
        part = self._engine.weights
        noise = torch.randn(
            frames, part.arch.mel_dim, generator=generator, device=part.device, dtype=part.dtype
        )
        return Job(tokens, voice.mel, voice.frames, frames, noise, settings.cfg_strength)

    def stream(
        self,
        text: str,
        voice: Voice,
        settings: SynthesisSettings,
        *,
        cancelled: Callable[[], bool] = never,
        progress: Callable[[], None] = silent,
    ) -> Iterator[Wave]:
        """Samples (float32, mono) as soon as they are final; the first after a short first chunk.

        Everything is validated here, before the first step. `progress` is called after every
        step; `cancelled` is asked between steps, and where it says yes, Cancelled is raised.
        """
        pieces = self.chunks(text, voice, settings)
        generator = torch.Generator(self._engine.weights.device)
        generator.manual_seed(secrets.randbits(62) if settings.seed is None else settings.seed)
        fixed = _fixed_durations(pieces, voice, settings)
        # One request's noise is drawn in order, before any batching: a seed means the same audio.
        jobs = [
            self.job(piece, voice, settings, generator, fixed_s)
            for piece, fixed_s in zip(pieces, fixed, strict=True)
        ]
        return self._run(jobs, voice, settings, cancelled, progress)

    def _run(
        self, jobs: Sequence[Job], voice: Voice, settings: SynthesisSettings,
        cancelled: Callable[[], bool], progress: Callable[[], None],
    ) -> Iterator[Wave]:  # fmt: skip
        tables = self._engine.tables(build(settings.nfe, settings.sway, warn=True))
        gain = voice.rms / settings.target_rms if voice.rms < settings.target_rms else 1.0

        def waves() -> Iterator[Wave]:
            for group in self._groups(jobs):
                made = self._engine.render(group, tables, cancelled=cancelled, progress=progress)
                for item in made:
                    yield item.wave if gain == 1.0 else (item.wave * np.float32(gain))

        yield from cross_fade(waves(), int(settings.cross_fade_s * self.sample_rate))

    def _groups(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """The first chunk alone, because somebody waits for it; the second as well, because there
        is only the first, which is short, to listen to meanwhile; the others in growing batches."""
        start, size = 0, 1
        while start < len(jobs):
            yield jobs[start : start + size]
            start += size
            if start > 1 and self._engine.switches.batching:
                size = min(2 * size, CHUNK_BATCH)

    def synthesize(
        self,
        text: str,
        voice: Voice,
        settings: SynthesisSettings,
        *,
        cancelled: Callable[[], bool] = never,
        progress: Callable[[], None] = silent,
    ) -> Wave:
        """All that `stream` gives, in one array."""
        return join(self.stream(text, voice, settings, cancelled=cancelled, progress=progress))

    def batch(
        self, requests: Sequence[tuple[str, Voice]], settings: SynthesisSettings, *,
        seeds: Sequence[int] | None = None, cancelled: Callable[[], bool] = never,
        progress: Callable[[], None] = silent,
    ) -> list[Wave]:  # fmt: skip
        """Several short requests at once: each result is what it would be alone, to rounding.

        Every text must fit one chunk; ValueError where one does not, or where there are too many.
        """
        if not 1 <= len(requests) <= MAX_BATCH:
            raise ValueError(f"a batch holds 1 to {MAX_BATCH} requests, not {len(requests)}")
        tables = self._engine.tables(build(settings.nfe, settings.sway))
        jobs = []
        for index, (words, voice) in enumerate(requests):
            pieces = self.chunks(words, voice, settings, streaming=False)
            if len(pieces) > 1:
                raise ValueError(f"request {index} needs {len(pieces)} chunks; stream it instead")
            generator = torch.Generator(self._engine.weights.device)
            seed = seeds[index] if seeds is not None else settings.seed
            generator.manual_seed(secrets.randbits(62) if seed is None else seed)
            jobs.append(self.job(pieces[0], voice, settings, generator, settings.fix_duration_s))
        made = self._engine.render(jobs, tables, cancelled=cancelled, progress=progress)
        return [
            item.wave * np.float32(min(voice.rms / settings.target_rms, 1.0))
            for item, (_, voice) in zip(made, requests, strict=True)
        ]

    def warm(
        self, *, full: bool = False, progress: Callable[[str], None] = lambda stage: None
    ) -> None:
        """Capture what a first request needs; with `full` every bucket up to 22 s."""
        from f5_tts.fast.warmup import warm

        warm(self._engine, full=full, progress=progress)

    def stats(self) -> dict[str, float | int]:
        """Counters and memory since the start; all numbers."""
        return {
            **self._engine.stats(),
            "voices": len(self._voices),
            "voice_hits": self._voices.hits,
        }


def _fixed_durations(
    pieces: Sequence[str], voice: Voice, settings: SynthesisSettings
) -> list[float | None]:
    """Per chunk, reference included: the speech is shared out by length, as 1.1.22 does."""
    total = settings.fix_duration_s
    if total is None or len(pieces) == 1:
        return [total] * len(pieces)
    reference = voice.frames / mel.FRAMES_PER_SECOND
    speech = total - reference + settings.cross_fade_s * (len(pieces) - 1)
    sizes = [texts.byte_length(piece) for piece in pieces]
    return [reference + speech * size / sum(sizes) for size in sizes]


def _state_source(
    ckpt_file: Path | None, seed: int | None, arch: Arch, symbols: int
) -> tuple[Path | str, Callable[[], Mapping[str, Tensor]]]:
    if ckpt_file is not None:
        path = ckpt_file
        if not path.is_file():
            raise ValueError(f"no checkpoint at {path}; give the path of model_*.safetensors")
        return path, lambda: weights.read_checkpoint(path)
    number = seed if seed is not None else 0
    return f"random:{number}:{symbols}", lambda: weights.random_state(arch, symbols, number)


def _vocab_path(vocab_file: Path | None) -> Path:
    path = vocab_file
    if path is None:
        path = Path(str(files("f5_tts").joinpath("infer/examples/vocab.txt")))
    if not path.is_file():
        raise ValueError(f"no vocabulary at {path}; give F5-TTS's vocab.txt")
    return path


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, and this torch sees no GPU")
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"device {name!r} is neither cpu nor cuda")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name not in known:
        raise ValueError(f"dtype {name!r} is none of auto, {', '.join(known)}")
    return known[name]
