"""The ConvNeXt blocks of the text encoder and of the vocoder through our own kernels, on any chip.

Both are held against their definitions in plain torch, `embed.encode_text` and `vocoder.backbone`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from f5_tts.fast.count import size
from f5_tts.fast.cuda_text import ENERGY_VECTORS, NORM_FRAMES, SCALE_FRAMES, SOURCE
from f5_tts.fast.nvrtc import KernelsUnavailable, Launches, blocks_of, loaded
from f5_tts.fast.ops import TorchOps
from f5_tts.fast.vocoder import VocosBlock, VocosWeights
from f5_tts.fast.weights import TextBlock, Weights
from torch import Tensor

__all__ = ["ConvNext", "TextEncoder", "VocosBlocks", "text_encoder", "vocos_blocks"]

# A block of `dw_norm` has a thread for four channels; the response norm's has all in shared memory.
MAX_CHANNELS = 1024
MAX_HIDDEN = 4096
_THREADS = 256
NAMES = ("dw_norm", "embed_text", "clear_frames", "grn_energy", "grn_scale")


def defines_for(channels: int, hidden: int, dtype: torch.dtype) -> dict[str, int]:
    """Compile-time constants. KernelsUnavailable where the sizes do not fit."""
    if channels % 8 or hidden % 8 or not 0 < channels <= MAX_CHANNELS or hidden > MAX_HIDDEN:
        raise KernelsUnavailable(f"no kernels for {channels} channels and {hidden} inside")
    if dtype not in (torch.float16, torch.float32):
        raise KernelsUnavailable(f"no kernels for {dtype}")
    return {"WIDE": int(dtype == torch.float32), "CHANNELS": channels, "HIDDEN": hidden}


def build(
    channels: int, hidden: int, dtype: torch.dtype, device: torch.device, cache_dir: Path | None
) -> ConvNext:
    """Compiled and loaded, or read from `cache_dir`. `hidden`: channels of the response norm, 0 for
    none. KernelsUnavailable says why not."""
    names = NAMES if hidden else NAMES[:3]
    defines = defines_for(channels, hidden, dtype)
    return ConvNext(loaded(SOURCE, names, defines, device, cache_dir), dtype)


class ConvNext:
    """The kernels for one width and type. `lengths` is (items,) int64 everywhere; rows may be a
    multiple of the items, one set behind the other. `symbols`: (items, frames) int64, where a
    frame without a symbol (0) counts as empty, or None."""

    def __init__(self, module: Launches, dtype: torch.dtype) -> None:
        self._module = module
        self._vector = 128 // torch.finfo(dtype).bits

    def dw_norm(self, x: Tensor, about: Tensor, lengths: Tensor, symbols: Tensor | None) -> Tensor:
        """LayerNorm of a depthwise convolution over 7 frames; `about` as `about_block` has it."""
        rows, frames, channels = x.shape
        out = torch.empty_like(x)
        self._module.launch(
            "dw_norm", (blocks_of(frames, NORM_FRAMES), rows, 1), 32 * blocks_of(channels, 4 * 32),
            x, about, lengths, symbols, out, lengths.shape[0], frames,
        )  # fmt: skip
        return out

    def grn(self, h: Tensor, grn: Tensor, lengths: Tensor) -> None:
        """Response norm over the frames within each row's length, in place; grn (2, hidden)."""
        rows, frames, hidden = h.shape
        energy = torch.empty(rows, hidden, dtype=torch.float32, device=h.device)
        items = lengths.shape[0]
        self._module.launch(
            "grn_energy", (blocks_of(hidden, ENERGY_VECTORS * self._vector), rows, 1), 512,
            h, lengths, energy, items, frames,
        )  # fmt: skip
        self._module.launch(
            "grn_scale", (blocks_of(frames, SCALE_FRAMES), rows, 1), _THREADS,
            h, grn, energy, lengths, items, frames,
        )  # fmt: skip

    def embed(
        self,
        tokens: Tensor,
        lengths: Tensor,
        symbols: Tensor | None,
        table: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """(2 * items, frames, channels): the tokens' rows of `table` and the positions, then the
        same without text."""
        items, frames = tokens.shape
        x = torch.empty(2 * items, frames, table.shape[1], dtype=table.dtype, device=table.device)
        self._module.launch(
            "embed_text", (blocks_of(x.numel() // self._vector, _THREADS), 1, 1), _THREADS,
            tokens, lengths, symbols, table, positions, x,
            table.shape[0], items, 2 * items, frames,
            work=(2 * size(x) + size(positions) + size(tokens), x.numel()),
        )  # fmt: skip
        return x

    def clear(self, x: Tensor, lengths: Tensor, symbols: Tensor | None) -> None:
        """Zero, in place, what lies past a row's length or has no symbol."""
        rows, frames, _ = x.shape
        self._module.launch(
            "clear_frames", (blocks_of(x.numel() // self._vector, _THREADS), 1, 1), _THREADS,
            x, lengths, symbols, lengths.shape[0], rows, frames,
        )  # fmt: skip


def about_block(block: TextBlock | VocosBlock, offset: Tensor | None = None) -> Tensor:
    """What `dw_norm` needs of a block, (11, channels): taps, bias, the norm's weight and bias, and
    what is to be added to every frame it reads."""
    channels = block.dw_w.shape[0]
    rest = torch.zeros_like(block.dw_b) if offset is None else offset
    taps = block.dw_w.reshape(channels, -1).t()
    return torch.cat((taps, torch.stack((block.dw_b, block.norm_w, block.norm_b, rest))))


class TextEncoder:
    """`embed.encode_text` in five launches a block. GELU in its tanh form, 76 dB from the other:
    half precision itself leaves 55 of the result."""

    def __init__(self, weights: Weights, ops: TorchOps, kernels: ConvNext) -> None:
        """`ops`: whose linear layers are used."""
        self._kernels, self._weights, self._ops = kernels, weights, ops
        # Kernels read 16 bytes at once; a tensor that was cut out of a file may lie anywhere.
        table = weights.text_table
        self._table = table.clone() if table.data_ptr() % 16 else table
        self._about = [about_block(block) for block in weights.text_blocks]
        self._grn = [
            torch.stack((block.grn_gamma.reshape(-1), block.grn_beta.reshape(-1)))
            for block in weights.text_blocks
        ]

    def __call__(self, tokens: Tensor, lengths: Tensor, positions: Tensor) -> Tensor:
        """As `embed.encode_text`. Frames that are silenced hold anything until the end: no block
        reads them as anything but zero."""
        kernels, w = self._kernels, self._weights
        symbols = tokens if w.arch.text_mask_padding else None
        x = kernels.embed(tokens, lengths, symbols, self._table, positions)
        for block, about, grn in zip(w.text_blocks, self._about, self._grn, strict=True):
            h = kernels.dw_norm(x, about, lengths, symbols)
            h = self._ops.gelu_linear(h, block.up_w, block.up_b)
            kernels.grn(h, grn, lengths)
            self._ops.add_linear(x, h, block.down_w, block.down_b)
        kernels.clear(x, lengths, symbols)
        return x

    def response_norm(self, h: Tensor, grn: Tensor, lengths: Tensor) -> None:
        """As `embed.response_norm`, in place; the only part whose faults the rest may hide."""
        self._kernels.grn(h, grn, lengths)


class VocosBlocks:
    """`vocoder.backbone` in three or four launches a block.

    The bias behind a block is not added to it but carried along: the next convolution adds it to
    what it reads, so that the product itself can add to the block's input.
    """

    def __init__(self, w: VocosWeights, kernels: ConvNext, *, tanh: bool) -> None:
        """`tanh`: GELU in its tanh form inside the product, 83 dB from the other; TF32: 67."""
        self._kernels, self._blocks, self._tanh = kernels, w.blocks, tanh
        self._about: list[Tensor] = []
        offset = torch.zeros_like(w.norm_b)
        for block in w.blocks:
            self._about.append(about_block(block, offset))
            offset = offset + block.down_b
        self._offset = offset

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (items, frames, channels) fp32, which is written over; the result is a new tensor."""
        x = x.contiguous()
        flat = x.view(-1, x.shape[-1])
        for block, about in zip(self._blocks, self._about, strict=True):
            h = self._kernels.dw_norm(x, about, lengths, None).view_as(flat)
            if self._tanh:
                up = block.up_w.t()
                h = torch.ops.aten._addmm_activation(block.up_b, h, up, use_gelu=True)
            else:
                h = F.gelu(F.linear(h, block.up_w, block.up_b))
            flat.addmm_(h, block.down_w.t())
        return x + self._offset


def text_encoder(weights: Weights, ops: TorchOps, cache_dir: Path | None) -> TextEncoder:
    """The encoder for these weights, which have text blocks. KernelsUnavailable says why not."""
    hidden = weights.text_blocks[0].up_w.shape[0]
    kernels = build(weights.arch.text_dim, hidden, weights.dtype, weights.device, cache_dir)
    return TextEncoder(weights, ops, kernels)


def vocos_blocks(w: VocosWeights, cache_dir: Path | None, *, tanh: bool) -> VocosBlocks:
    """The blocks of this vocoder. KernelsUnavailable says why not."""
    kernels = build(w.norm_w.shape[0], 0, torch.float32, w.window.device, cache_dir)
    return VocosBlocks(w, kernels, tanh=tanh)
