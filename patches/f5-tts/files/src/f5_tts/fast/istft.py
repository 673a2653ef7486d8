"""The vocoder's last part, from its head to samples, around torch's inverse FFT, on any chip.

Held against its definition in plain torch, `vocoder.polar` and `vocoder.inverse_stft`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from f5_tts.fast.cuda_istft import SOURCE
from f5_tts.fast.nvrtc import KernelsUnavailable, Launches, blocks_of, loaded
from f5_tts.fast.vocoder import MAX_MAGNITUDE, VocosWeights, samples_for, trim_of
from torch import Tensor

__all__ = ["InverseStft", "inverse_stft"]

NAMES = ("head_bins", "overlap_add")
_THREADS = 256


def defines_for(w: VocosWeights) -> dict[str, int]:
    """Compile-time constants. KernelsUnavailable where the sizes do not fit."""
    if w.hop % 8 or w.n_fft != 4 * w.hop:
        raise KernelsUnavailable(f"no kernels for windows of {w.n_fft} and a hop of {w.hop}")
    most = int(MAX_MAGNITUDE)
    return {"BINS": w.n_fft // 2 + 1, "HOP": w.hop, "TRIM": trim_of(w), "MOST": most}


class InverseStft:
    """`vocoder.polar` and `vocoder.inverse_stft` in two launches and an inverse FFT."""

    def __init__(self, w: VocosWeights, module: Launches) -> None:
        self._w, self._module = w, module

    def __call__(self, head: Tensor, lengths: Tensor, out: Tensor | None = None) -> Tensor:
        """head (items, frames, 2 * bins) fp32 and frames per item (items,) int64 to samples (items,
        samples of a full bucket), in `out` where it is given, which is contiguous."""
        items, frames, columns = head.shape
        tokens, samples = items * frames, samples_for(self._w, frames)
        bins = torch.empty(items, frames, columns // 2, dtype=torch.complex64, device=head.device)
        self._module.launch(
            "head_bins", (blocks_of(tokens * columns // 2, _THREADS), 1, 1), _THREADS,
            head.contiguous(), bins, tokens,
        )  # fmt: skip
        # Not scaled: that is done behind it, where the samples are read anyway.
        pieces = torch.fft.irfft(bins, self._w.n_fft, dim=-1, norm="forward")
        if out is None:
            out = torch.empty(items, samples, dtype=head.dtype, device=head.device)
        if samples:
            self._module.launch(
                "overlap_add", (blocks_of(samples // 4, _THREADS), items, 1), _THREADS,
                pieces, self._w.window, lengths, out, frames, samples // 4,
            )  # fmt: skip
        return out


def inverse_stft(w: VocosWeights, cache_dir: Path | None) -> InverseStft:
    """For this vocoder, compiled or read from `cache_dir`. KernelsUnavailable says why not."""
    return InverseStft(w, loaded(SOURCE, NAMES, defines_for(w), w.window.device, cache_dir))
