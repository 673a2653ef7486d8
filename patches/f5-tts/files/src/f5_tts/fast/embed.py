"""What precedes the first step: the text, encoded at its exact length, and the constant input.

Rows past an item's length (when it sits in a larger bucket) never reach a valid row: they are
zeroed before every convolution and left out of the response normalisation, so a bucketed result
is the exact-length one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from f5_tts.fast.weights import TextBlock, Weights
from torch import Tensor

GRN_EPS = 1e-6
NORM_EPS = 1e-6


def text_positions(text_dim: int, length: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (length, text_dim) fp32: cosines, then sines."""
    steps = torch.arange(0, text_dim, 2, device=device, dtype=torch.float32)[: text_dim // 2]
    frequencies = 1.0 / (10000.0 ** (steps / text_dim))
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def response_norm(h: Tensor, gamma: Tensor, beta: Tensor, valid: Tensor) -> Tensor:
    """beta + h * (1 + gamma * the share of each channel in its row's energy); `valid` as in
    `_block`: what lies outside counts as 0."""
    h = h * valid
    # Sums over up to thousands of frames: in fp32, or fp16 overflows on loud channels.
    energy = torch.linalg.vector_norm(h, dim=1, keepdim=True, dtype=torch.float32)
    response = energy / (energy.mean(dim=-1, keepdim=True) + GRN_EPS)
    scale = (gamma * response + 1).to(h.dtype)
    return torch.addcmul(beta, h, scale)


def _block(x: Tensor, w: TextBlock, valid: Tensor) -> Tensor:
    """(rows, frames, dim); `valid` (rows, frames, 1) in x's type, 1 within an item's length."""
    h = F.conv1d(x.transpose(1, 2), w.dw_w, w.dw_b, padding=3, groups=x.shape[-1]).transpose(1, 2)
    h = F.layer_norm(h, (x.shape[-1],), w.norm_w, w.norm_b, NORM_EPS)
    h = response_norm(F.gelu(F.linear(h, w.up_w, w.up_b)), w.grn_gamma, w.grn_beta, valid)
    return x + F.linear(h, w.down_w, w.down_b)


def encode_text(weights: Weights, tokens: Tensor, lengths: Tensor, positions: Tensor) -> Tensor:
    """Text embedding with and without text: (2 * items, frames, text_dim), conditioned first.

    `tokens`: (items, frames) int64, upstream's index plus one, 0 where there is none.
    `lengths`: (items,) int64 frames. `positions`: (frames, text_dim) in the weights' type.
    """
    frames = tokens.shape[1]
    inside = torch.arange(frames, device=tokens.device).unsqueeze(0) < lengths.unsqueeze(1)
    both = torch.cat((tokens, torch.zeros_like(tokens)))
    valid = torch.cat((inside, inside)).unsqueeze(-1).to(weights.dtype)
    kept = valid
    if weights.arch.text_mask_padding:
        # Filler positions are silenced by the text's own mask, also in the half without text.
        present = inside & (tokens > 0)
        kept = torch.cat((present, present)).unsqueeze(-1).to(weights.dtype)
    x = F.embedding(both, weights.text_table)
    if not weights.text_blocks:
        return x * valid
    x = (x + positions) * kept
    for block in weights.text_blocks:
        x = _block(x, block, valid) * kept
    return x


def constant_input(weights: Weights, text: Tensor, cond: Tensor) -> Tensor:
    """The part of the input projection that no step changes: (2 * items, frames, dim).

    `text`: what `encode_text` gives. `cond`: (items, frames, mel) reference mel, zero past its
    end. The half without conditioning has neither the reference nor the text.
    """
    constant = F.linear(text, weights.in_text, weights.in_b)
    constant[: cond.shape[0]] += F.linear(cond, weights.in_cond)
    return constant
