"""The same speed behind upstream's `infer_batch_process`, and so behind `f5_tts.api.F5TTS.infer`.

Signature and results stay upstream's: waveform, sample rate and spectrogram; noise comes from
torch's global generator, which `infer` seeds, so a seed gives the noise it gave before. What this
package does not restructure (other backbones, solvers or vocoders) runs as it always did.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from f5_tts.fast import mel, switches, text, vocoder, weights
from f5_tts.fast.arch import Arch, UnsupportedArch
from f5_tts.fast.audio import Wave, cross_fade, join
from f5_tts.fast.engine import MAX_FRAMES, Engine, Rendered
from f5_tts.fast.plan import Job
from f5_tts.fast.schedule import build
from torch import Tensor

_SLOT = "_f5_fast_bridge"


def arch_of(transformer: Any) -> Arch:
    """The sizes of an upstream DiT, read off the module. UnsupportedArch where it is another."""
    try:
        block = transformer.transformer_blocks[0]
        attn, text_embed = block.attn, transformer.text_embed
        odd = (
            attn.q_norm is not None
            or transformer.long_skip_connection is not None
            or getattr(text_embed, "average_upsampling", False)
        )
        if odd or type(transformer).__name__ != "DiT":
            raise UnsupportedArch(type(transformer).__name__)
        return Arch(
            dim=transformer.dim,
            depth=transformer.depth,
            heads=attn.heads,
            dim_head=attn.inner_dim // attn.heads,
            ff_mult=block.ff.ff[0][0].out_features // transformer.dim,
            text_dim=text_embed.text_embed.embedding_dim,
            mel_dim=transformer.proj_out.out_features,
            conv_layers=len(text_embed.text_blocks) if text_embed.extra_modeling else 0,
            text_mask_padding=text_embed.mask_padding,
            pe_attn_head=attn.processor.pe_attn_head,
        )
    except AttributeError as error:
        raise UnsupportedArch(str(error)) from error


def kernels_folder() -> Path | None:
    """Where compiled kernels are kept, so that only a first start compiles: $F5_FAST_CACHE, else
    the user's cache folder. None for a user without one."""
    chosen = os.environ.get("F5_FAST_CACHE")
    if chosen:
        return Path(chosen)
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "f5-tts-fast"


def fast_path(model: Any, vocos: Any, mel_spec_type: str) -> Bridge | None:
    """The bridge for this model and vocoder, or None where upstream's own path must run."""
    on = switches.read()
    method = getattr(model, "odeint_kwargs", {}).get("method")
    if not on.bridge or mel_spec_type != "vocos" or method != "euler":
        return None
    first = next(model.transformer.parameters())
    # Weights loaded anew into the same module must not meet the folded old ones. Those of a model
    # that was loaded in inference mode count no versions.
    version = 0 if first.is_inference() else first._version
    state = (on, id(vocos), first.data_ptr(), version, first.dtype, str(first.device))
    known = model.__dict__.get(_SLOT)
    if known is not None and known.state == state:
        return known if isinstance(known, Bridge) else None
    try:
        made: Bridge = Bridge(model, vocos, on, state)
    except (UnsupportedArch, weights.WeightsMismatch, vocoder.UnsupportedVocoder):
        return None
    model.__dict__[_SLOT] = made
    return made


def _none() -> None:
    return None


class Bridge:
    """An engine over the parameters of upstream's modules.

    It hangs on the model, and stays behind where that is copied or pickled: the other one gets its
    own when it first speaks.
    """

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _none, ()

    def __init__(
        self, model: Any, vocos: Any, on: switches.Switches, state: tuple[object, ...]
    ) -> None:
        self.state = state
        self._vocos = vocos  # kept alive: its identity is part of `state`
        arch = arch_of(model.transformer)
        first = next(model.transformer.parameters())
        folded = weights.fold(
            model.transformer.state_dict(), arch, device=first.device, dtype=first.dtype
        )
        self.engine = Engine(
            folded, vocoder.from_module(vocos, first.device), on, cache_dir=kernels_folder()
        )
        self._characters = model.vocab_char_map

    def infer_batch_process(
        self,
        audio: Tensor,
        rms: Tensor,
        ref_text: str,
        gen_text_batches: Sequence[str],
        *,
        progress: Any,
        target_rms: float,
        cross_fade_duration: float,
        nfe_step: int,
        cfg_strength: float,
        sway_sampling_coef: float | None,
        speed: float,
        fix_duration: float | None,
        streaming: bool,
        chunk_size: int,
    ) -> Iterator[tuple[Any, ...]]:
        """What the hook yields: as upstream, `(wave, rate, spectrogram)` or `(piece, rate)`."""
        if text.byte_length(ref_text[-1]) == 1:
            ref_text += " "
        jobs = self._jobs(
            audio,
            ref_text,
            gen_text_batches,
            cfg_strength,
            speed,
            fix_duration,
            cross_fade_duration,
        )
        tables = self.engine.tables(build(nfe_step, sway_sampling_coef))
        gain = min(float(rms) / target_rms, 1.0)

        def rendered() -> Iterator[Rendered]:
            for job in progress.tqdm(jobs) if progress is not None else jobs:
                (made,) = self.engine.render([job], tables)
                yield Rendered(made.mel, made.wave * np.float32(gain))

        if streaming:
            for made in rendered():
                for start in range(0, len(made.wave), chunk_size):
                    yield made.wave[start : start + chunk_size], mel.SAMPLE_RATE
            return
        all_made = list(rendered())
        if not all_made:
            yield None, mel.SAMPLE_RATE, None
            return
        waves: Iterator[Wave] = iter([made.wave for made in all_made])
        wave = join(cross_fade(waves, max(int(cross_fade_duration * mel.SAMPLE_RATE), 0)))
        spectrogram = np.concatenate([made.mel.T.cpu().numpy() for made in all_made], axis=1)
        yield wave, mel.SAMPLE_RATE, spectrogram

    @torch.inference_mode()
    def _jobs(
        self, audio: Tensor, ref_text: str, texts: Sequence[str], cfg: float, speed: float,
        fix_duration: float | None, overlap: float,
    ) -> list[Job]:  # fmt: skip
        part = self.engine.weights
        spectrogram = mel.log_mel(audio.float(), part.arch.mel_dim)[0].to(part.dtype)
        reference = audio.shape[-1] // mel.HOP
        fixed = _shares(texts, reference, fix_duration, overlap)
        jobs = []
        for words, seconds in zip(texts, fixed, strict=True):
            tokens = [self._characters.get(s, 0) for s in text.to_symbols(ref_text + words)]
            if seconds is not None:
                frames = int(seconds * mel.SAMPLE_RATE / mel.HOP)
            else:
                frames = reference + text.generated_frames(reference, ref_text, words, speed)
            frames = min(max(frames, len(tokens) + 1, spectrogram.shape[0] + 1), MAX_FRAMES)
            # The global generator, as upstream: `infer(seed=...)` has seeded it.
            noise = torch.randn(frames, part.arch.mel_dim, device=part.device, dtype=part.dtype)
            jobs.append(Job(tokens, spectrogram, reference, frames, noise, float(cfg)))
        return jobs


def _shares(
    texts: Sequence[str], reference: int, total: float | None, overlap: float
) -> list[float | None]:
    """A fixed duration shared among chunks by length, reference included, as 1.1.22 does."""
    if total is None or len(texts) == 1:
        return [total] * len(texts)
    seconds = reference / mel.FRAMES_PER_SECOND
    sizes = [text.byte_length(words) for words in texts]
    speech = total - seconds + overlap * (len(texts) - 1)
    return [seconds + speech * size / sum(sizes) for size in sizes]
