"""AdaLN evaluated once per schedule: 142 of F5TTS_v1_Base's 337 million parameters.

Time steps and their embedding are computed in fp32. Upstream does it in the model's fp16, where
a time step near 1 is off by up to 12 % of the distance to its neighbour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from f5_tts.fast.schedule import Schedule
from f5_tts.fast.weights import Modulation, Weights
from torch import Tensor

EMBED_DIM = 256
TIME_SCALE = 1000.0


@dataclass(frozen=True)
class Tables:
    """Modulation of every step of one schedule.

    `blocks`: (steps, depth, 6, dim), rows 1 + scale, shift, gate of attention, then of the
    feed-forward. `final`: (steps, 2, dim), rows 1 + scale and shift. `deltas`: (steps,) fp32.
    """

    schedule: Schedule
    blocks: Tensor
    final: Tensor
    deltas: Tensor


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
def evaluate(weights: Weights, schedule: Schedule) -> Tables:
    """The tables of `schedule`, computed in fp32 and rounded once to the weights' type."""
    part = weights.modulation
    device = weights.device
    times = torch.tensor(schedule.times, dtype=torch.float32, device=device)
    activated = F.silu(time_embedding(times, part))
    steps, dim = activated.shape[0], weights.arch.dim
    blocks = torch.empty(steps, weights.arch.depth, 6, dim, dtype=weights.dtype, device=device)
    for index, (matrix, bias) in enumerate(zip(part.block_w, part.block_b, strict=True)):
        rows = F.linear(activated, *_fp32(device, matrix, bias)).view(steps, 6, dim)
        # Upstream's order: shift, scale, gate of attention, then of the feed-forward.
        for half in (0, 3):
            blocks[:, index, half] = 1 + rows[:, half + 1]
            blocks[:, index, half + 1] = rows[:, half]
            blocks[:, index, half + 2] = rows[:, half + 2]
    last = F.linear(activated, *_fp32(device, part.final_w, part.final_b)).view(steps, 2, dim)
    final = torch.stack((1 + last[:, 0], last[:, 1]), dim=1).to(weights.dtype)
    deltas = torch.tensor(schedule.deltas, dtype=torch.float32, device=device)
    return Tables(schedule, blocks, final, deltas)
