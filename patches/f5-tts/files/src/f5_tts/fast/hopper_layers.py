"""The blocks of the network on Hopper with their norms folded into the products: five kernels each.

Query, key and value; attention; its output with gate and residual; both halves of the feed-forward.
What a norm is made of travels beside the residual: the residual times the next scale, and moments
of every 64 features (see `cuda_gemm`).
"""

from __future__ import annotations

import torch
from f5_tts.fast.attention import Attend, Lengths
from f5_tts.fast.gemm import GATED, GELU, ROTARY, Gemm, Norm, Tile, tile_for
from f5_tts.fast.weights import Weights
from torch import Tensor

# Above, products are long beside a norm's own kernel, and what folding adds to them costs more:
# 1 % less at 2176 tokens and 1 % more at 2432.
MOST_TOKENS = 2200


def fits(weights: Weights) -> bool:
    """Whether every product of a block has a tile."""
    arch = weights.arch
    shapes = (
        (ROTARY, 3 * arch.inner, arch.dim),
        (GATED, arch.dim, arch.inner),
        (GELU, arch.ff_dim, arch.dim),
        (GATED, arch.dim, arch.ff_dim),
    )
    return all(tile_for(kind, 128, features, k) is not None for kind, features, k in shapes)


def run(
    weights: Weights,
    gemm: Gemm,
    x: Tensor,
    normed: Tensor,
    blocks: Tensor,
    folds: Tensor,
    table: Tensor,
    lengths: Lengths,
    attend: Attend,
) -> None:
    """All blocks, in place on x (rows, frames, dim); `normed`: x after the first norm. The rest as
    in `TorchOps.layers`."""
    arch = weights.arch
    rows, frames, dim = x.shape
    tokens = rows * frames
    rotated = arch.heads if arch.pe_attn_head is None else arch.pe_attn_head
    flat = x.view(tokens, dim)
    scaled = normed.view(tokens, dim)
    moments = torch.empty(dim // 64, tokens, 2, dtype=torch.float32, device=x.device)
    inner = 3 * arch.inner

    def tile(epilogue: int, weight: Tensor) -> Tile:
        chosen = tile_for(epilogue, tokens, *weight.shape)
        assert chosen is not None
        return chosen

    for index, layer in enumerate(weights.layers):
        fold = folds[index]
        through_qkv = fold[: 2 * inner].view(2, inner)
        through_ff = fold[2 * inner :].view(2, arch.ff_dim)
        # The first norm was a kernel of its own; the others come from the product before.
        before = Norm(moments, fold=through_qkv) if index else None
        qkv = torch.empty(tokens, inner, dtype=x.dtype, device=x.device)
        gemm(
            tile(ROTARY, layer.qkv_w), ROTARY, scaled, layer.qkv_w, layer.qkv_b, qkv,
            norm=before, table=table, frames=frames, rotated=rotated,
        )  # fmt: skip
        shaped = qkv.view(rows, frames, 3, arch.heads, arch.dim_head)
        attended = attend(shaped, lengths).reshape(tokens, arch.inner)
        gemm(
            tile(GATED, layer.out_w), GATED, attended, layer.out_w, layer.out_b, flat,
            gate=blocks[index, 2], norm=Norm(moments, blocks[index, 3], scaled),
        )  # fmt: skip
        hidden = torch.empty(tokens, arch.ff_dim, dtype=x.dtype, device=x.device)
        gemm(
            tile(GELU, layer.ff1_w), GELU, scaled, layer.ff1_w, layer.ff1_b, hidden,
            norm=Norm(moments, fold=through_ff),
        )  # fmt: skip
        # The last norm is a kernel of its own again.
        last = index + 1 == arch.depth
        after = None if last else Norm(moments, blocks[index + 1, 0], scaled)
        gemm(
            tile(GATED, layer.ff2_w), GATED, hidden, layer.ff2_w, layer.ff2_b, flat,
            gate=blocks[index, 5], norm=after,
        )  # fmt: skip
