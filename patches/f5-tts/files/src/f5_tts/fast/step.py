"""One evaluation of the network and one Euler step: the loop body that everything serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from f5_tts.fast.attention import Attend, Lengths
from f5_tts.fast.modulation import Row
from f5_tts.fast.ops import TorchOps
from f5_tts.fast.weights import Weights
from torch import Tensor

Network = Callable[..., Tensor]


@dataclass(frozen=True)
class StepInputs:
    """Buffers that one step reads; `y` is also written. Shapes as in `ops` and `modulation`.

    `guidance`: (items, 1, 1) fp32, or None without classifier-free guidance. `rotary`: what
    `ops.rotary_form` gave.
    """

    y: Tensor
    constant: Tensor
    lengths: Lengths
    rotary: Tensor
    modulation: Row
    guidance: Tensor | None


def velocity(
    weights: Weights, ops: TorchOps, attend: Attend, s: StepInputs, *, fused_qkv: bool = True
) -> Tensor:
    """The network's flow at y: (rows, frames, mel, padding included where `ops` pads);
    rows are items, or items twice with guidance."""
    arch = weights.arch
    rotated = arch.heads if arch.pe_attn_head is None else arch.pe_attn_head
    valid = s.lengths.valid
    x = ops.positions(ops.input(s.y, s.constant, valid), valid)
    rows, frames, _ = x.shape
    blocks, final, folds = s.modulation.blocks, s.modulation.final, s.modulation.folds
    if folds is not None and frames % 8 == 0:
        return ops.project(ops.layers(x, blocks, final, folds, s.rotary, s.lengths, attend))
    normed = ops.norm(x, blocks[0])
    for index, layer in enumerate(weights.layers):
        if fused_qkv:
            qkv = ops.qkv(normed, layer.qkv_w, layer.qkv_b, s.rotary, rotated)
        else:
            qkv = _separate_qkv(normed, layer.qkv_w, layer.qkv_b)
            qkv = qkv.view(rows, frames, 3, arch.heads, arch.dim_head)
            qkv = ops.rotate(qkv, s.rotary, rotated)
        attended = attend(qkv, s.lengths).reshape(rows, frames, arch.inner)
        gate, following = blocks[index, 2], blocks[index, 3:5]
        x, normed = ops.branch(x, attended, layer.out_w, layer.out_b, gate, following)
        hidden = ops.gelu_linear(normed, layer.ff1_w, layer.ff1_b)
        gate = blocks[index, 5]
        following = final if index + 1 == arch.depth else blocks[index + 1]
        x, normed = ops.branch(x, hidden, layer.ff2_w, layer.ff2_b, gate, following)
    return ops.project(normed)


def _separate_qkv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Three GEMMs, as upstream has them (the switch `fused_qkv` off)."""
    thirds = zip(weight.chunk(3), bias.chunk(3), strict=True)
    return torch.cat([F.linear(x, w, b) for w, b in thirds], dim=-1)


def step(
    weights: Weights,
    ops: TorchOps,
    attend: Attend,
    s: StepInputs,
    *,
    fused_qkv: bool = True,
    network: Network = velocity,
) -> None:
    """Move `s.y` one Euler step, in place; `network` is `velocity` or its compiled form."""
    flow = network(weights, ops, attend, s, fused_qkv=fused_qkv)
    ops.advance(s.y, flow, s.modulation.delta, s.guidance)
