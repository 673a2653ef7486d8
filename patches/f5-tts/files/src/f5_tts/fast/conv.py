"""The position convolution on Hopper: which tile for how many frames, and the launch."""

from __future__ import annotations

from pathlib import Path

import torch
from f5_tts.fast.count import size
from f5_tts.fast.cuda_conv_hopper import TAPS, THREADS, shared_bytes, source
from f5_tts.fast.nvrtc import Module, TensorMap, compiled_all
from f5_tts.fast.weights import CONV_GROUPS
from torch import Tensor

FRAMES = (64, 96, 120, 168)
STAGES = 6


def tile_for(rows: int, frames: int, processors: int = 132) -> int:
    """Frames of a tile, so that the tiles fill the chip in whole rounds."""

    def rounds(tile: int) -> int:
        tiles = -(-frames // tile) * CONV_GROUPS * rows
        return -(-tiles // processors) * (tile + 40)

    return min(FRAMES, key=rounds)


class HopperConv:
    """Both convolutions, mish, and the sum with their input. Compute capability 9.0, dim 1024."""

    def __init__(
        self,
        taps: list[Tensor],
        biases: tuple[Tensor, Tensor],
        cache_dir: Path | None,
        *,
        dependent: bool,
    ) -> None:
        """`taps`: weights (16 groups, 31, 64 out, 64 in) of each, as `kernels` orders them."""
        self._taps = [weight.view(-1, weight.shape[-1]) for weight in taps]
        self._weights = [TensorMap(weight, 64) for weight in self._taps]
        self._biases, self._dependent = biases, dependent
        keys = [(frames, second) for frames in FRAMES for second in (0, 1)]
        code = compiled_all(
            [
                (source(frames), {"BN": frames, "STAGES": STAGES, "SECOND": second})
                for frames, second in keys
            ],
            "sm_90a",
            cache_dir,
        )
        self._modules = {key: Module(cubin) for key, cubin in zip(keys, code, strict=True)}
        for (frames, _), module in self._modules.items():
            module.ready("conv_hopper", shared_bytes(frames, STAGES))

    def __call__(self, h: Tensor, lengths: Tensor, tile: int | None = None) -> Tensor:
        """h (rows, frames, 1024) plus its convolutions, in place; `lengths`: (rows,) int32.
        `tile`: one of FRAMES, by default the best."""
        middle = torch.empty_like(h)
        rows, frames, _ = h.shape
        tile = tile_for(rows, frames) if tile is None else tile
        around = -(-(tile + TAPS - 1) // 8) * 8
        for second, (x, out) in enumerate(((h, middle), (middle, h))):
            self._modules[tile, second].launch(
                "conv_hopper", (-(-frames // tile), CONV_GROUPS, rows), THREADS,
                TensorMap(x, around), self._weights[second], TensorMap(out, tile),
                self._biases[second], lengths,
                shared=shared_bytes(tile, STAGES), dependent=self._dependent,
                work=(
                    (2 + second) * size(h) + size(self._taps[second]),
                    2 * h.numel() * 64 * TAPS,
                ),
            )  # fmt: skip
        return h
