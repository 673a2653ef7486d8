"""The element-wise arithmetic of a step, in plain torch.

`TorchOps` runs anywhere and is what the fused kernels are held against. Modulation is the same
for every row of a batch, so LayerNorm and modulation are one LayerNorm whose weight is 1 + scale
and whose bias is the shift.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from f5_tts.fast import embed
from f5_tts.fast.attention import Attend, Lengths
from f5_tts.fast.weights import CONV_GROUPS, CONV_KERNEL, Weights, rotary_group
from torch import Tensor

log = logging.getLogger(__name__)

NORM_EPS = 1e-6


def rotary_table(dim_head: int, frames: int, device: torch.device) -> Tensor:
    """(2, frames, dim_head / 2) fp32: cosines and sines. In fp16 the angle is off by 0.46 rad."""
    steps = torch.arange(0, dim_head, 2, device=device, dtype=torch.float32)
    frequencies = 1.0 / (10000.0 ** (steps / dim_head))
    angles = torch.outer(torch.arange(frames, device=device, dtype=torch.float32), frequencies)
    return torch.stack((angles.cos(), angles.sin()))


def first_line(why: object) -> str:
    """Of what an error says, what fits a line of the log; compilers say pages."""
    return str(why).strip().splitlines()[0][:300]


class TorchOps:
    """Plain torch. `fused` tells whether these are the CUDA kernels; `folds_norms_to`, up to how
    many tokens `layers` runs the blocks with their norms folded into the products (-1: never);
    `missing`, which kernels were asked for and are not in use, and why."""

    fused = False
    folds_norms_to = -1
    missing: tuple[str, ...] = ()

    def __init__(self, weights: Weights, *, gelu_epilogue: bool = True) -> None:
        self._weights = weights
        self._epilogue = gelu_epilogue and weights.device.type == "cuda"

    def miss(self, what: str, why: object, *, called: str = "") -> None:
        """Remember that our own `what` is not in use, and say it once in the log, where it may be
        `called` something else."""
        reason = first_line(why)
        self.missing = (*self.missing, f"{what}: {reason}")
        log.warning("not in use, which costs time: our %s: %s", called or what, reason)

    def attention(self) -> Attend | None:
        """An attention of these operators' own; plain torch has the ones in `attention`."""
        return None

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
        """All blocks and the last norm, (rows, frames, dim), in place on x; the modulation as in
        `modulation.Row`."""
        raise NotImplementedError("these operators have no folded norms")

    def rotary_form(self, table: Tensor) -> Tensor:
        """The rotary table as `rotate` wants it; here in the weights' type for fp16 products."""
        return table

    def take_row(self, row: Tensor, to: Tensor) -> None:
        """Copies a step's modulation (bytes) to where the step reads it."""
        to.copy_(row)

    def input(self, y: Tensor, constant: Tensor, lengths: Tensor) -> Tensor:
        """Noise (items, frames, mel) fp32 and the constant half to (2 * items, frames, dim).

        Rows past an item's length come out as zero: the convolution behind reads them.
        """
        h = F.linear(y.to(constant.dtype), self._weights.in_x)
        halves = constant.shape[0] // h.shape[0]
        h = constant.view(halves, *h.shape) + h
        return h.view(constant.shape).masked_fill_(_outside(constant, lengths), 0.0)

    def positions(self, h: Tensor, lengths: Tensor) -> Tensor:
        """The convolutional position embedding, added to its input."""
        w = self._weights
        outside = _outside(h, lengths).transpose(1, 2)
        c = h.transpose(1, 2)
        pad = CONV_KERNEL // 2
        c = F.mish(F.conv1d(c, w.conv_w[0], w.conv_b[0], padding=pad, groups=CONV_GROUPS))
        c = c.masked_fill(outside, 0.0)
        c = F.mish(F.conv1d(c, w.conv_w[1], w.conv_b[1], padding=pad, groups=CONV_GROUPS))
        return h + c.transpose(1, 2)

    def norm(self, x: Tensor, modulation: Tensor) -> Tensor:
        """LayerNorm(x) * (1 + scale) + shift; `modulation` rows: 1 + scale, shift."""
        return F.layer_norm(x, (x.shape[-1],), modulation[0], modulation[1], NORM_EPS)

    def add_norm(
        self, x: Tensor, y: Tensor, gate: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x + gate * y, and its modulated LayerNorm."""
        x = torch.addcmul(x, y, gate)
        return x, self.norm(x, modulation)

    def branch(
        self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x + gate * (a linear layer of y), and its modulated LayerNorm."""
        return self.add_norm(x, F.linear(y, weight, bias), gate, modulation)

    def qkv(self, x: Tensor, weight: Tensor, bias: Tensor, table: Tensor, heads: int) -> Tensor:
        """Query, key and value (rows, frames, 3, heads, dim_head), the first two rotated."""
        arch = self._weights.arch
        out = F.linear(x, weight, bias)
        return self.rotate(out.view(*x.shape[:2], 3, arch.heads, arch.dim_head), table, heads)

    def rotate(self, qkv: Tensor, table: Tensor, heads: int) -> Tensor:
        """Rotary positions on query and key of the first `heads` heads, in place.

        `qkv`: (rows, frames, 3, heads, dim_head), pairs as `weights.paired_rows` puts them.
        """
        group = rotary_group(qkv.shape[-1])
        # A view: folded weights keep the two halves of a pair `group` columns apart.
        pairs = qkv.view(*qkv.shape[:-1], -1, 2, group)[:, :, :2, :heads]
        shape = (1, table.shape[1], 1, 1, *pairs.shape[-3::2])
        cos, sin = table.view(2, *shape).unbind(0)
        first, second = pairs[..., 0, :].float(), pairs[..., 1, :].float()
        turned = (first * cos - second * sin, second * cos + first * sin)
        pairs[..., 0, :], pairs[..., 1, :] = turned
        return qkv

    def gelu_linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """GELU (tanh form) of a linear layer, inside the GEMM where cuBLASLt offers it."""
        if self._epilogue:
            flat = x.reshape(-1, x.shape[-1])
            out = torch.ops.aten._addmm_activation(bias, flat, weight.t(), use_gelu=True)
            result: Tensor = out.view(*x.shape[:-1], weight.shape[0])
            return result
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")

    def add_linear(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> None:
        """A linear layer of y, added to x in place."""
        x.add_(F.linear(y, weight, bias))

    def text(self, tokens: Tensor, lengths: Tensor, positions: Tensor) -> Tensor:
        """The text with and without itself, as `embed.encode_text`."""
        return embed.encode_text(self._weights, tokens, lengths, positions)

    def project(self, x: Tensor) -> Tensor:
        """The last projection: (rows, frames, dim) to (rows, frames, mel or wider)."""
        return F.linear(x, self._weights.proj_w, self._weights.proj_b)

    def advance(self, y: Tensor, flow: Tensor, delta: Tensor, guidance: Tensor | None) -> None:
        """One Euler step of y (items, frames, mel) fp32, in place.

        `flow`: (items or 2 * items, frames, mel); `guidance`: (items, 1, 1) fp32, or None
        where the second half was not computed; `delta`: (1,) fp32.
        """
        if guidance is None:
            y.addcmul_(flow.float(), delta)
            return
        with_cond, without = flow.view(2, *y.shape).float().unbind(0)
        y.addcmul_(with_cond + (with_cond - without) * guidance, delta)


def _outside(x: Tensor, lengths: Tensor) -> Tensor:
    """(rows, frames, 1) bool: past the row's length."""
    steps = torch.arange(x.shape[1], device=x.device)
    return (steps.unsqueeze(0) >= lengths.unsqueeze(1)).unsqueeze(-1)
