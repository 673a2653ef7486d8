"""The side that this series is: its synthesizer, as a daemon uses it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from f5_tts.fast import weights
from f5_tts.fast.arch import Arch
from f5_tts.fast.compare import counting
from f5_tts.fast.compare.work import PRESETS, RATE, SEED, Utterance, Work, clip, text_of
from f5_tts.fast.engine import Engine
from f5_tts.fast.plan import Job
from f5_tts.fast.synthesizer import SynthesisSettings, Synthesizer, Voice

# What preprocessing adds to the end of a clip is part of the reference.
ADDED_S = 0.05


@dataclass(frozen=True)
class Model:
    """What both sides load. `ckpt_file` None: seeded random weights of the preset's size."""

    preset: str = "full"
    device: str = "auto"
    ckpt_file: Path | None = None
    vocab_file: Path | None = None
    vocoder_dir: Path | None = None
    cache_dir: Path | None = None
    cfg_strength: float = 2.0


@dataclass(frozen=True)
class Spoken:
    """One utterance measured: until all samples were on the host, and until the first were."""

    seconds: float
    first_s: float
    samples: int


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes, the device's part included."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


class Ours:
    """The synthesizer, loaded as a daemon loads it."""

    name = "ours"

    def __init__(self, model: Model) -> None:
        self.model = model
        self.synthesizer = Synthesizer.load(
            model=PRESETS[model.preset],
            ckpt_file=model.ckpt_file,
            vocab_file=model.vocab_file,
            vocoder_dir=model.vocoder_dir,
            device=model.device,
            random_weights_seed=SEED if model.ckpt_file is None else None,
            cache_dir=model.cache_dir,
        )
        self._voices: dict[tuple[float, int], Voice] = {}

    @property
    def engine(self) -> Engine:
        return self.synthesizer.engine

    @property
    def arch(self) -> Arch:
        return self.engine.weights.arch

    def voice(self, seconds: float, number: int = 0) -> Voice:
        """The voice of this number, its reference `seconds` long."""
        key = (seconds, number)
        if key not in self._voices:
            wave = clip(seconds - ADDED_S, number)
            self._voices[key] = self.synthesizer.voice(wave, RATE, text_of(seconds))
        return self._voices[key]

    def settings(self, work: Work, utterance: Utterance) -> SynthesisSettings:
        return SynthesisSettings(
            nfe=work.nfe,
            cfg_strength=self.model.cfg_strength,
            seed=work.seed,
            fix_duration_s=work.total_s(utterance),
        )

    def pieces(self, work: Work, utterance: Utterance, *, streaming: bool) -> list[str]:
        voice = self.voice(work.reference_s, utterance.voice)
        settings = self.settings(work, utterance)
        return self.synthesizer.chunks(utterance.text, voice, settings, streaming=streaming)

    def speak(self, work: Work, utterance: Utterance) -> Spoken:
        """All of it at once where it fits one piece, else as it is streamed."""
        if len(self.pieces(work, utterance, streaming=False)) > 1:
            return self.stream(work, utterance)
        voice = self.voice(work.reference_s, utterance.voice)
        settings = self.settings(work, utterance)
        made: list[Any] = []
        request = [(utterance.text, voice)]
        seconds = timed(lambda: made.extend(self.synthesizer.batch(request, settings)))
        return Spoken(seconds, seconds, len(made[0]))

    def stream(self, work: Work, utterance: Utterance) -> Spoken:
        """As somebody meets it who listens while the rest is made."""
        voice = self.voice(work.reference_s, utterance.voice)
        synchronize()
        start = time.perf_counter()
        first = 0.0
        samples = 0
        stream = self.synthesizer.stream(utterance.text, voice, self.settings(work, utterance))
        for piece in stream:
            first = first or time.perf_counter() - start
            samples += len(piece)
        return Spoken(time.perf_counter() - start, first, samples)

    def all_at_once(self, work: Work, utterance: Utterance) -> bool:
        """Does all of its audio come with the first?"""
        return len(self.pieces(work, utterance, streaming=True)) == 1

    def jobs(self, work: Work, utterance: Utterance) -> list[tuple[str, Job]]:
        """What `speak` computes: each piece's words, transcript included, and its numbers."""
        voice = self.voice(work.reference_s, utterance.voice)
        settings = self.settings(work, utterance)
        whole = self.pieces(work, utterance, streaming=False)
        pieces = whole if len(whole) == 1 else self.pieces(work, utterance, streaming=True)
        generator = torch.Generator(self.engine.weights.device).manual_seed(work.seed)
        fixed = work.total_s(utterance) if len(pieces) == 1 else None
        return [
            (voice.text + piece, self.synthesizer.job(piece, voice, settings, generator, fixed))
            for piece in pieces
        ]

    def flops(self, work: Work) -> float:
        """Of the network, for one pass."""
        rows = 2 if self.model.cfg_strength > 0 else 1
        frames = [job.frames for u in work.utterances for _, job in self.jobs(work, u)]
        return sum(work.nfe * counting.flops(self.arch, rows, count) for count in frames)

    @torch.inference_mode()
    def step(self, work: Work) -> counting.Step:
        """The work of one network evaluation, of the longest piece of the first utterance."""
        engine = self.engine
        frames = max(job.frames for _, job in self.jobs(work, work.utterances[0]))
        tables = engine.tables(engine.schedule(work.nfe, -1.0))
        guided = self.model.cfg_strength > 0
        plan = engine.step_plan(engine.rounded(frames), 1, guided)
        # A graph's replay is opaque to whoever counts operators.
        plain = Engine(engine.weights, None, dataclasses.replace(engine.switches, graphs=False))
        bare = plain.step_plan(engine.rounded(frames), 1, guided)
        return counting.step(
            lambda: plan.step(tables, 0),
            lambda: bare.step(tables, 0),
            frames,
            counting.flops(self.arch, 2 if guided else 1, frames),
        )

    def made(self, work: Work, pieces: int) -> list[dict[str, Any]]:
        """The first utterance's first pieces with everything that upstream needs to make them too:
        words, reference, noise and length, and what came out here."""
        jobs = self.jobs(work, work.utterances[0])[:pieces]
        schedule = self.engine.schedule(work.nfe, -1.0)
        tables = self.engine.tables(schedule)
        found = []
        for words, job in jobs:
            mel = self.engine.mels([job], tables)[0]
            again = self.engine.mels([job], tables)[0]
            found.append(
                {
                    "words": words,
                    "reference": job.mel.float().cpu().numpy(),
                    "reference_frames": job.reference_frames,
                    "frames": job.frames,
                    "noise": job.noise.float().cpu().numpy(),
                    "mel": mel.cpu().numpy(),
                    "wave": self.engine.waves([mel])[0],
                    "bit_equal": bool(torch.equal(mel, again)),
                }
            )
        if self.engine.weights.dtype != torch.float32:
            for row, mel in zip(found, self._precise([job for _, job in jobs], work), strict=True):
                row["fp32_mel"] = mel
        return found

    def _precise(self, jobs: Sequence[Job], work: Work) -> list[Any]:
        """Mels of an engine in fp32 with TF32 off, which is gone again afterwards."""
        engine = self.engine
        if self.model.ckpt_file is None:
            symbols = len(self.synthesizer._vocabulary)
            state = weights.random_state(self.arch, symbols, SEED)
        else:
            state = weights.read_checkpoint(self.model.ckpt_file)
        folded = weights.fold(state, self.arch, device=engine.weights.device, dtype=torch.float32)
        with counting.exact_products():
            full = Engine(folded, None, engine.switches)
            tables = full.tables(full.schedule(work.nfe, -1.0))
            made = []
            for job in jobs:
                exact = dataclasses.replace(job, mel=job.mel.float(), noise=job.noise.float())
                made.append(full.mels([exact], tables)[0].cpu().numpy())
        return made

    def about(self) -> dict[str, Any]:
        machine = self.engine.machine
        return {
            "dtype": str(self.engine.weights.dtype).removeprefix("torch."),
            "attention": machine.attend_name,
            "fused_kernels": bool(machine.ops.fused),
            "graphs": bool(machine.graphs),
        }
