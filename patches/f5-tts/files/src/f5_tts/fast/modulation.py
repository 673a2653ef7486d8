"""AdaLN evaluated once per schedule: 142 of F5TTS_v1_Base's 337 million parameters.

Time steps and their embedding are computed in fp32. Upstream does it in the model's fp16, where
a time step near 1 is off by up to 12 % of the distance to its neighbour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from f5_tts.fast.arch import Arch
from f5_tts.fast.schedule import Schedule
from f5_tts.fast.weights import Modulation, Weights
from torch import Tensor

EMBED_DIM = 256
TIME_SCALE = 1000.0


@dataclass(frozen=True)
class Tables:
    """Modulation of every step of one schedule: what `split` takes apart, as (steps, bytes).

    A step copies its row in one piece.
    """

    schedule: Schedule
    rows: Tensor


@dataclass(frozen=True)
class Row:
    """A step's modulation, as views of its bytes.

    `blocks`: (depth, 6, dim), rows 1 + scale, shift, gate of attention, then of the feed-forward.
    `final`: (2, dim), rows 1 + scale and shift of the last norm. `delta`: (1,) fp32, the step.
    `folds`: (depth, 2 * (3 * inner + ff_dim)) fp32, or None: what is left of the two norms of a
    block where their products take them over; scale and shift through query, key and value, then
    through the feed-forward's first matrix.
    """

    blocks: Tensor
    final: Tensor
    delta: Tensor
    folds: Tensor | None


# The step, and what keeps the folded norms at a multiple of 16 bytes.
_DELTA_BYTES = 16


def row_bytes(arch: Arch, dtype: torch.dtype, *, folded: bool) -> int:
    """Bytes of a step's modulation."""
    folds = 8 * arch.depth * (3 * arch.inner + arch.ff_dim) if folded else 0
    return (6 * arch.depth + 2) * arch.dim * dtype.itemsize + _DELTA_BYTES + folds


def split(row: Tensor, arch: Arch, dtype: torch.dtype) -> Row:
    """The parts of a step's bytes."""
    end = row_bytes(arch, dtype, folded=False)
    values = row[: end - _DELTA_BYTES].view(dtype).view(-1, arch.dim)
    return Row(
        blocks=values[: 6 * arch.depth].view(arch.depth, 6, arch.dim),
        final=values[6 * arch.depth :],
        delta=row[end - _DELTA_BYTES : end].view(torch.float32)[:1],
        folds=row[end:].view(torch.float32).view(arch.depth, -1) if row.shape[0] > end else None,
    )


def time_embedding(times: Tensor, weights: Modulation) -> Tensor:
    """(steps,) fp32 to (steps, dim) fp32: sinusoid, linear, SiLU, linear."""
    half = EMBED_DIM // 2
    frequencies = torch.exp(
        torch.arange(half, device=times.device, dtype=torch.float32)
        * -(math.log(10000) / (half - 1))
    )
    angles = TIME_SCALE * times.unsqueeze(1) * frequencies.unsqueeze(0)
    hidden = torch.cat((angles.sin(), angles.cos()), dim=-1)
    hidden = F.linear(hidden, *_fp32(times.device, weights.mlp0_w, weights.mlp0_b))
    return F.linear(F.silu(hidden), *_fp32(times.device, weights.mlp2_w, weights.mlp2_b))


def _fp32(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    return [tensor.to(device).float() for tensor in tensors]


@torch.inference_mode()
def evaluate(weights: Weights, schedule: Schedule, *, folded: bool = False) -> Tables:
    """The tables of `schedule`, computed in fp32 and rounded once to the weights' type; `folded`:
    with what folded norms need, which stays in fp32."""
    part = weights.modulation
    device = weights.device
    times = torch.tensor(schedule.times, dtype=torch.float32, device=device)
    activated = F.silu(time_embedding(times, part))
    steps, dim = activated.shape[0], weights.arch.dim
    size = row_bytes(weights.arch, weights.dtype, folded=folded)
    table = torch.zeros(steps, size, dtype=torch.uint8, device=device)
    views = [split(row, weights.arch, weights.dtype) for row in table]
    for index, (matrix, bias) in enumerate(zip(part.block_w, part.block_b, strict=True)):
        rows = F.linear(activated, *_fp32(device, matrix, bias)).view(steps, 6, dim)
        # Upstream's order: shift, scale, gate of attention, then of the feed-forward.
        shift, scale, gate = rows.view(steps, 2, 3, dim).unbind(2)
        ordered = torch.stack((1 + scale, shift, gate), dim=2).view(steps, 6, dim)
        for row, values in zip(views, ordered, strict=True):
            row.blocks[index] = values
    last = F.linear(activated, *_fp32(device, part.final_w, part.final_b)).view(steps, 2, dim)
    for row, values, step in zip(views, last, schedule.deltas, strict=True):
        row.final[0], row.final[1] = 1 + values[0], values[1]
        row.delta.fill_(step)
    if folded:
        _fold_norms(weights, views)
    return Tables(schedule, table)


def _fold_norms(weights: Weights, rows: list[Row]) -> None:
    """Scale and shift, as rounded, through the matrices behind them."""
    for index, layer in enumerate(weights.layers):
        used = torch.stack([row.blocks[index] for row in rows]).float()
        parts = []
        for at, matrix, bias in ((0, layer.qkv_w, layer.qkv_b), (3, layer.ff1_w, layer.ff1_b)):
            parts.append(F.linear(used[:, at], matrix.float()))
            parts.append(F.linear(used[:, at + 1], matrix.float(), bias.float()))
        for row, values in zip(rows, torch.cat(parts, dim=1), strict=True):
            assert row.folds is not None
            row.folds[index] = values
