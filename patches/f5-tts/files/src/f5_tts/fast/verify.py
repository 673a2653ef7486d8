"""Proof on a box that the speed paths are really on: `python -m f5_tts.fast.verify`.

Runs the hooked modules with seeded weights on the device that is there, and writes one JSON list
of `{"check", "state", "text"}` to stdout; a state is ok, failed or unknown. Exit code 1 where one
failed. The network has F5TTS_v1_Base's width and two of its layers: every kernel runs, in
seconds, and nothing needs a checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from f5_tts.fast import count, switches, weights
from f5_tts.fast.arch import from_mapping
from f5_tts.fast.compare import counting
from f5_tts.fast.compare.figures import decibels, relative
from f5_tts.fast.compare.upstream import random_vocos
from f5_tts.fast.synthesizer import SynthesisSettings, Synthesizer
from torch import Tensor

WIDE = {"dim": 1024, "depth": 2, "heads": 16, "ff_mult": 2, "text_dim": 512, "conv_layers": 2}
NARROW = {**WIDE, "dim": 128, "heads": 2, "text_dim": 64}
TRANSCRIPT = "Some call me nature, others call me mother nature."
TEXT = "I do not really care what you call me."
MIN_SNR_DB = 40.0
# A mel this far off gives samples 5 dB nearer; the vocoder itself stays 60 dB away.
MIN_WAVE_SNR_DB = 35.0
FP32_BOUND = 1e-4
FP32_WAVE_BOUND = 1e-3
# Kernels of two layers, with room for a library that splits one.
MAX_KERNELS = 60


class Unknown(Exception):
    """The check cannot be made here; the text says why."""


def _clip(number: int) -> Any:
    noise = np.random.default_rng(number).standard_normal(3 * 24000)
    return (0.05 * noise).astype(np.float32)


class Proof:
    """One synthesizer and the checks on it."""

    def __init__(self, device: str = "auto") -> None:
        cuda = device != "cpu" and torch.cuda.is_available()
        self.arch = WIDE if cuda else NARROW
        self.synthesizer = Synthesizer.load(
            model=self.arch, ckpt_file=None, device=device, random_weights_seed=1
        )
        self.engine = self.synthesizer.engine
        self.cuda = cuda

    def hooks(self) -> str:
        """The patched modules are the ones that get imported."""
        from f5_tts.infer import utils_infer

        missing = [
            name
            for name in ("fast_path", "prepare_reference", "hard_cap", "quietly")
            if not hasattr(utils_infer, name)
        ]
        if missing:
            raise AssertionError(
                f"utils_infer lacks {', '.join(missing)}: the patches are not applied"
            )
        return f"hooked: {utils_infer.__file__}"

    def kernels(self) -> str:
        """The fast implementations were chosen, and one step launches few kernels."""
        if not self.cuda:
            raise Unknown("no GPU: plain torch runs")
        on = switches.read()
        machine = self.engine.machine
        if on.kernels and not machine.ops.fused:
            raise AssertionError("the fused kernels are not in use: NVRTC is missing or failed")
        if machine.ops.missing:
            raise AssertionError(f"not in use: {'; '.join(machine.ops.missing)}")
        if on.varlen and machine.attend_name == "masked":
            raise AssertionError("attention runs with a mask: no faster kernel works here")
        if machine.ops.fused and on.varlen and on.attention and machine.attend_name != "own":
            raise AssertionError(f"attention is the library's ({machine.attend_name}), not ours")
        with torch.inference_mode():
            tables = self.engine.tables(self.engine.schedule(7, -1.0))
            plan = self.engine.step_plan(512, 1, True)
            plan.step(tables, 0)
            launched, _ = count.kernels(lambda: plan.step(tables, 0))
        if launched == 0:
            raise Unknown("the profiler reports no kernels here")
        if machine.ops.fused and launched > MAX_KERNELS:
            raise AssertionError(f"{launched} kernels a step, more than {MAX_KERNELS}")
        return f"attention {machine.attend_name}, {launched} kernels a step of two layers"

    def graphs(self) -> str:
        """A request replays a captured graph and captures nothing the second time."""
        if not self.engine.machine.graphs:
            raise Unknown("graphs are off, or there is no GPU")
        self.speak(0)
        before, steps = self.engine.captures, self.engine.steps_run
        self.speak(0)
        if not self.engine.step_plan(512, 1, True).captured or self.engine.captures != before:
            raise AssertionError("a graph was not captured, or was captured again")
        return f"{self.engine.steps_run - steps} steps replayed, none captured again"

    def voices(self) -> str:
        """Three voices in turn, twice: each is itself both times, and no two are alike."""
        first = [self.speak(number) for number in range(3)]
        again = [self.speak(number) for number in range(3)]
        if not all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)):
            raise AssertionError("a voice changed when others spoke in between")
        if any(np.array_equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2))):
            raise AssertionError("two voices gave the same audio")
        return "three voices in turn, each its own"

    def speak(self, number: int) -> Any:
        voice = self.synthesizer.voice(_clip(number), 24000, TRANSCRIPT)
        return self.synthesizer.synthesize(TEXT, voice, SynthesisSettings(seed=1))

    def fidelity(self) -> str:
        """The result is the unpatched network's, within the bounds of the type in use."""
        try:
            from f5_tts.model import CFM, DiT
            from f5_tts.model.utils import convert_char_to_pinyin
        except ImportError as error:
            raise Unknown(f"upstream's modules do not import: {error}") from error
        symbols = self.synthesizer._vocabulary
        model = CFM(
            transformer=DiT(**self.arch, text_num_embeds=len(symbols), mel_dim=100),
            odeint_kwargs={"method": "euler"},
            vocab_char_map=symbols._index,
        )
        state = weights.random_state(from_mapping(self.arch), len(symbols), 1)
        model.transformer.load_state_dict(state, strict=False)
        device = self.engine.weights.device
        voice = self.synthesizer.voice(_clip(0), 24000, TRANSCRIPT)
        generator = torch.Generator(device).manual_seed(5)
        job = self.synthesizer.job(TEXT, voice, SynthesisSettings(), generator)
        tokens = convert_char_to_pinyin([voice.text + TEXT])
        plain = torch.randn
        try:
            torch.randn = lambda *size, **options: job.noise.float()  # the same noise for both
            with counting.exact_products():
                out, _ = model.to(device).eval().sample(
                    cond=voice.mel.unsqueeze(0).float(), text=tokens, duration=job.frames,
                    steps=7, cfg_strength=2.0, sway_sampling_coef=-1.0,
                )  # fmt: skip
        finally:
            torch.randn = plain
        want = out[0, job.reference_frames :].float()
        got = self.engine.mels([job], self.engine.tables(self.engine.schedule(7, -1.0)))[0]
        return self._within(got, want)

    def _within(self, got: Tensor, want: Tensor) -> str:
        """The bounds on mel and samples; the samples of `want` are the vocos package's own."""
        try:
            with counting.exact_products(), torch.inference_mode():
                vocos = random_vocos(want.device, small=self.arch is NARROW)
                samples = vocos.decode(want.T.unsqueeze(0))[0].cpu().numpy()
        except ImportError as error:
            raise Unknown(f"the vocoder's own package does not import: {error}") from error
        exact = self.engine.weights.dtype == torch.float32
        distances = {
            "mel": (relative(got.cpu().numpy(), want.cpu().numpy()), FP32_BOUND, MIN_SNR_DB),
            "wave": (relative(self.engine.waves([got])[0], samples), FP32_WAVE_BOUND,
                     MIN_WAVE_SNR_DB),
        }  # fmt: skip
        said, wrong = [], []
        for name, (distance, bound, least) in distances.items():
            limit = bound if exact else 10 ** (-least / 20)
            said.append(f"{name} {decibels(distance):.1f} dB")
            if not distance <= limit:
                wrong.append(f"{name} must be within {decibels(limit):.0f} dB")
        text = f"{', '.join(said)} from the unpatched network's fp32 result"
        if wrong:
            raise AssertionError(f"{text}: {', '.join(wrong)}")
        return text


def run(device: str = "auto") -> list[dict[str, str]]:
    """Every check, each with its state; one that fails does not stop the others."""
    results: list[dict[str, str]] = []

    def note(name: str, check: Callable[[], str]) -> None:
        try:
            results.append({"check": name, "state": "ok", "text": check()})
        except Unknown as reason:
            results.append({"check": name, "state": "unknown", "text": str(reason)})
        except (AssertionError, ImportError, RuntimeError, ValueError) as problem:
            text = (
                f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
            )
            results.append({"check": name, "state": "failed", "text": text[:500]})

    proof = Proof(device)
    for name in ("hooks", "kernels", "graphs", "voices", "fidelity"):
        note(name, getattr(proof, name))
    return results


def main() -> int:
    results = run()
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return int(any(result["state"] == "failed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
