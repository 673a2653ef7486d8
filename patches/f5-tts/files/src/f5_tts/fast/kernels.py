"""The element-wise arithmetic of a step as fused CUDA kernels, held against `TorchOps`."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from f5_tts.fast import hopper_layers, trial
from f5_tts.fast.attention import Attend, Lengths
from f5_tts.fast.conv import FRAMES, HopperConv
from f5_tts.fast.convnext import TextEncoder, text_encoder
from f5_tts.fast.cuda_attention import HopperAttention
from f5_tts.fast.cuda_source import SOURCE
from f5_tts.fast.gemm import GATED, GELU, ROTARY, Gemm, Tile, tile_for
from f5_tts.fast.nvrtc import (
    MIN_CAPABILITY,
    KernelsUnavailable,
    Module,
    blocks_of,
    capability_of,
    compiled,
    dependent_in_graphs,
)
from f5_tts.fast.ops import TorchOps
from f5_tts.fast.weights import CONV_GROUPS, CONV_KERNEL, Weights
from torch import Tensor

__all__ = ["FusedOps", "KernelsUnavailable"]

HOPPER = (9, 0)
MAX_DIM = 2048


def defines_for(weights: Weights) -> dict[str, int]:
    """Compile-time constants of the kernels. KernelsUnavailable where the sizes do not fit."""
    arch = weights.arch
    half = arch.dim_head // 2
    if arch.dim % 8 or arch.dim > MAX_DIM or half not in (8, 16, 32, 64):
        raise KernelsUnavailable(f"no kernels for dim {arch.dim} with heads of {arch.dim_head}")
    padded = -(-arch.mel_dim // 8) * 8
    return {
        "DIM": arch.dim,
        "HEADS": arch.heads,
        "HALF": half,
        "MEL": arch.mel_dim,
        "MELP": padded,
        "BLOCKS": 2,
    }


class FusedOps(TorchOps):
    """fp16 on CUDA, compute capability 8.0 and up."""

    fused = True

    def __init__(
        self,
        weights: Weights,
        *,
        gelu_epilogue: bool = True,
        conv: bool = True,
        gemm: bool = True,
        norms: bool = True,
        pdl: bool = True,
        text_kernels: bool = True,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__(weights, gelu_epilogue=gelu_epilogue)
        capability = capability_of(weights.device)
        if capability < MIN_CAPABILITY or weights.dtype != torch.float16:
            raise KernelsUnavailable(
                f"no kernels for compute capability {capability}, {weights.dtype}"
            )
        defines = defines_for(weights)
        self._melp = defines["MELP"]
        target = f"sm_{capability[0]}{capability[1]}"
        self._module = Module(compiled(SOURCE, target, defines, cache_dir))
        self._pdl = pdl and capability >= HOPPER and dependent_in_graphs()
        extra = self._melp - weights.arch.mel_dim
        # Columns and rows of zeros: 16-byte rows let the GEMM use its fast loads.
        self._in_x = F.pad(weights.in_x, (0, extra)).contiguous()
        self._proj_w = F.pad(weights.proj_w, (0, 0, 0, extra)).contiguous()
        self._proj_b = F.pad(weights.proj_b, (0, extra)).contiguous()
        self._conv_w = (
            [_by_tap(w) for w in weights.conv_w] if conv and weights.arch.dim == 1024 else None
        )
        self._hopper: HopperAttention | None = None
        self._gemm: Gemm | None = None
        self._hopper_conv: HopperConv | None = None
        self._text: TextEncoder | None = None
        self._ones = torch.ones(weights.arch.text_dim, dtype=weights.dtype, device=weights.device)
        plain = TorchOps(weights)
        wrong = trial.operators(self, plain)
        if wrong:
            raise KernelsUnavailable(f"{', '.join(wrong)} compute wrongly here")
        if capability == HOPPER:
            self._add_hopper_parts(plain, defines["HEADS"], gemm=gemm, cache_dir=cache_dir)
        if norms and self._gemm is not None and hopper_layers.fits(weights):
            self.folds_norms_to = hopper_layers.MOST_TOKENS
        if text_kernels and weights.text_blocks:
            try:
                text = text_encoder(weights, self, cache_dir)
                if not trial.text(text, plain):
                    raise KernelsUnavailable("it computes wrongly here")
                self._text = text
            except KernelsUnavailable as error:
                self.miss("text encoder", error)
        # What the trials held belongs to the requests now.
        torch.cuda.empty_cache()

    def _add_hopper_parts(
        self, plain: TorchOps, heads: int, *, gemm: bool, cache_dir: Path | None
    ) -> None:
        """What this chip has kernels of its own for. Each stands alone: where NVRTC or the driver
        is too old for one, or it is wrong, the portable kernel or the library does the same."""
        weights, pdl = self._weights, self._pdl
        if weights.arch.dim_head == 64:
            try:
                self._hopper = HopperAttention(heads, cache_dir, dependent=pdl)
            except KernelsUnavailable as error:
                self.miss("attention of Hopper", error)
        if gemm and weights.arch.dim_head == 64:
            try:
                made = Gemm(heads, cache_dir, dependent=pdl)
                if wrong := trial.products(made, plain, heads):
                    raise KernelsUnavailable(f"{wrong[0]} computes wrongly here")
                self._gemm = made
            except KernelsUnavailable as error:
                self.miss("products", error)
        if self._conv_w is not None:
            try:
                conv = HopperConv(self._conv_w, weights.conv_b, cache_dir, dependent=pdl)
                if not trial.convolutions(conv, plain, FRAMES):
                    raise KernelsUnavailable("it computes wrongly here")
                self._hopper_conv = conv
            except KernelsUnavailable as error:
                self.miss("convolution of Hopper", error)

    def take_row(self, row: Tensor, to: Tensor) -> None:
        # A tenth of what the driver's copy takes for a megabyte.
        if row.numel() % 16:
            super().take_row(row, to)
            return
        vectors = row.numel() // 16
        self._module.launch("take_row", (blocks_of(vectors, 256), 1, 1), 256, row, to, vectors)

    def input(self, y: Tensor, constant: Tensor, lengths: Tensor) -> Tensor:
        items, frames, _ = y.shape
        half = torch.empty(items * frames, self._melp, dtype=constant.dtype, device=y.device)
        pairs = items * frames * self._melp // 2
        self._module.launch("cast_pad", (blocks_of(pairs, 256), 1, 1), 256, y, half, items * frames)
        h = F.linear(half, self._in_x)
        out = torch.empty_like(constant)
        vectors = constant.numel() // 8
        self._module.launch(
            "join_input", (blocks_of(vectors, 256), 1, 1), 256,
            h, constant, lengths, out, items, constant.shape[0], frames, dependent=self._pdl,
        )  # fmt: skip
        return out

    def layers(
        self,
        x: Tensor,
        blocks: Tensor,
        final: Tensor,
        folds: Tensor,
        table: Tensor,
        lengths: Lengths,
        attend: Attend,
    ) -> Tensor:
        assert self._gemm is not None
        normed = self.norm(x, blocks[0])
        hopper_layers.run(
            self._weights, self._gemm, x, normed, blocks, folds, table, lengths, attend
        )
        return self.norm(x, final)

    def attention(self) -> Attend | None:
        """Our own attention, where the kernels cover this head size."""
        return self._attend if self._weights.arch.dim_head == 64 else None

    def _attend(self, qkv: Tensor, lengths: Lengths) -> Tensor:
        if self._hopper is not None:
            return self._hopper(qkv, lengths.valid)
        rows, frames, _, heads, dim_head = qkv.shape
        out = torch.empty(rows, frames, heads, dim_head, dtype=qkv.dtype, device=qkv.device)
        grid = (blocks_of(frames, 128), heads, rows)
        self._module.launch(
            "attend", grid, 128, qkv, lengths.valid, out, frames, dependent=self._pdl
        )
        return out

    def positions(self, h: Tensor, lengths: Tensor) -> Tensor:
        if self._conv_w is None:
            return super().positions(h, lengths)
        if self._hopper_conv is not None:
            return self._hopper_conv(h, lengths)
        rows, frames, _ = h.shape
        grid = (blocks_of(frames, 128), CONV_GROUPS, rows)
        middle = torch.empty_like(h)
        w, bias = self._conv_w, self._weights.conv_b
        self._module.launch(
            "conv_first", grid, 128, h, w[0], bias[0], lengths, middle, frames, dependent=self._pdl
        )
        self._module.launch(
            "conv_second", grid, 128, middle, w[1], bias[1], lengths, h, frames,
            dependent=self._pdl,
        )  # fmt: skip
        return h

    def norm(self, x: Tensor, modulation: Tensor) -> Tensor:
        out = torch.empty_like(x)
        rows = x.numel() // x.shape[-1]
        self._module.launch(
            "norm_only", (blocks_of(rows, 4), 1, 1), 128, x, modulation, out, rows,
            dependent=self._pdl,
        )  # fmt: skip
        return out

    def add_norm(
        self, x: Tensor, y: Tensor, gate: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(x)
        rows = x.numel() // x.shape[-1]
        self._module.launch(
            "add_norm", (blocks_of(rows, 4), 1, 1), 128, x, y, gate, modulation, out, rows,
            dependent=self._pdl,
        )  # fmt: skip
        return x, out

    def _tile(self, epilogue: int, x: Tensor, weight: Tensor) -> tuple[Gemm, Tile] | None:
        """Our product for this shape, or None where the library's is used."""
        if self._gemm is None:
            return None
        tile = tile_for(epilogue, x.numel() // x.shape[-1], *weight.shape)
        return None if tile is None else (self._gemm, tile)

    def branch(
        self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = self._tile(GATED, y, weight)
        if own is None:
            return super().branch(x, y, weight, bias, gate, modulation)
        gemm, tile = own
        gemm(
            tile, GATED, y.reshape(-1, y.shape[-1]), weight, bias, x.view(-1, x.shape[-1]),
            gate=gate,
        )  # fmt: skip
        return x, self.norm(x, modulation)

    def qkv(self, x: Tensor, weight: Tensor, bias: Tensor, table: Tensor, heads: int) -> Tensor:
        rows, frames, dim = x.shape
        own = self._tile(ROTARY, x, weight)
        # The angles of a tile are carried along by eights, and a pair of tokens shares a row.
        if own is None or frames % 8:
            return super().qkv(x, weight, bias, table, heads)
        gemm, tile = own
        out = torch.empty(rows * frames, weight.shape[0], dtype=x.dtype, device=x.device)
        gemm(
            tile, ROTARY, x.reshape(-1, dim), weight, bias, out,
            table=table, frames=frames, rotated=heads,
        )  # fmt: skip
        arch = self._weights.arch
        return out.view(rows, frames, 3, arch.heads, arch.dim_head)

    def gelu_linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        own = self._tile(GELU, x, weight)
        if own is None:
            return super().gelu_linear(x, weight, bias)
        gemm, tile = own
        out = torch.empty(*x.shape[:-1], weight.shape[0], dtype=x.dtype, device=x.device)
        flat = out.view(-1, weight.shape[0])
        gemm(tile, GELU, x.reshape(-1, x.shape[-1]), weight, bias, flat)
        return out

    def add_linear(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> None:
        own = self._tile(GATED, y, weight) if weight.shape[0] == self._ones.shape[0] else None
        if own is None:
            super().add_linear(x, y, weight, bias)
            return
        gemm, tile = own
        gemm(
            tile, GATED, y.reshape(-1, y.shape[-1]), weight, bias, x.view(-1, x.shape[-1]),
            gate=self._ones,
        )  # fmt: skip

    def text(self, tokens: Tensor, lengths: Tensor, positions: Tensor) -> Tensor:
        encode = super().text if self._text is None else self._text
        return encode(tokens, lengths, positions)

    def rotate(self, qkv: Tensor, table: Tensor, heads: int) -> Tensor:
        tokens = qkv.shape[0] * qkv.shape[1]
        self._module.launch(
            "rotate", (blocks_of(tokens, 4), 1, 1), 128, qkv, table, tokens, qkv.shape[1], heads,
            dependent=self._pdl,
        )  # fmt: skip
        return qkv

    def project(self, x: Tensor) -> Tensor:
        return F.linear(x, self._proj_w, self._proj_b)

    def advance(self, y: Tensor, flow: Tensor, delta: Tensor, guidance: Tensor | None) -> None:
        items, frames, _ = y.shape
        self._module.launch(
            "advance", (blocks_of(y.numel(), 256), 1, 1), 256,
            y, flow, delta, guidance, items, frames,
            dependent=self._pdl,
        )  # fmt: skip


def _by_tap(weight: Tensor) -> Tensor:
    """(dim, 64, 31) to (16 groups, 31 taps, 64 out, 64 in)."""
    dim, inner, taps = weight.shape
    grouped = weight.view(CONV_GROUPS, dim // CONV_GROUPS, inner, taps)
    assert taps == CONV_KERNEL
    return grouped.permute(0, 3, 1, 2).contiguous()
