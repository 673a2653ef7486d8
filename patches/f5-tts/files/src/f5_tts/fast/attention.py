"""Attention over rows of known length, without a mask where the build offers that.

Rows of a bucket are longer than the items in them. A mask would rule out the fast kernels, so
the kernels are told each row's length instead: as a count of keys in use, or as cumulative
positions in which the valid part and the padding of a row are separate sequences. All of them
take lengths from device memory, so one captured CUDA graph serves every length of its bucket.
cuDNN's ragged attention is not among them: it cannot be captured (torch 2.11, cuDNN 9.19).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Lengths:
    """Lengths of the rows of a batch, in the forms the kernels want. All on the device.

    `valid`: (rows,) int32. `bounds`: (2 * rows + 1,) int32, where valid part and padding of each
    row begin. `starts`: (rows + 1,) int32, multiples of the bucket. `mask`: (rows, 1, 1, frames)
    bool, true where a key counts. `full`: every row fills the bucket (known on the host).
    """

    valid: Tensor
    bounds: Tensor
    starts: Tensor
    mask: Tensor
    full: bool


Attend = Callable[[Tensor, Lengths], Tensor]
log = logging.getLogger(__name__)
# Frames of a trial, and of a row in it: few, and so many that blocks share an item on Hopper.
_TRIALS = ((64, 41), (1344, 1290))


def make_lengths(rows: int, frames: int, device: torch.device) -> Lengths:
    """Lengths of `rows` full rows."""
    lengths = Lengths(
        valid=torch.full((rows,), frames, dtype=torch.int32, device=device),
        bounds=torch.zeros(2 * rows + 1, dtype=torch.int32, device=device),
        starts=torch.arange(rows + 1, dtype=torch.int32, device=device) * frames,
        mask=torch.ones(rows, 1, 1, frames, dtype=torch.bool, device=device),
        full=False,
    )
    update_lengths(lengths, frames)
    return lengths


def update_lengths(lengths: Lengths, frames: int) -> None:
    """Derive the other forms from `valid`, on the device (no synchronisation)."""
    starts = lengths.starts[:-1]
    lengths.bounds[0:-1:2] = starts
    lengths.bounds[1::2] = starts + lengths.valid
    lengths.bounds[-1:] = lengths.starts[-1:]
    inside = torch.arange(frames, device=starts.device).unsqueeze(0) < lengths.valid.unsqueeze(1)
    lengths.mask.copy_(inside[:, None, None, :])


def _split(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


def attend_masked(qkv: Tensor, lengths: Lengths) -> Tensor:
    """Plain torch on any device: (rows, frames, 3, heads, dim) to (rows, frames, heads, dim)."""
    q, k, v = (part.transpose(1, 2) for part in _split(qkv))
    mask = None if lengths.full else lengths.mask
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def attend_flash(qkv: Tensor, lengths: Lengths) -> Tensor:
    """FlashAttention with the number of keys in use per row."""
    rows, frames = qkv.shape[:2]
    q, k, v = (part.reshape(rows * frames, *part.shape[2:]) for part in _split(qkv))
    out = torch.ops.aten._flash_attention_forward(
        q, k, v, lengths.starts, lengths.starts, frames, frames, 0.0, False, False,
        seqused_k=lengths.valid,
    )[0]  # fmt: skip
    result: Tensor = out.view(rows, frames, *out.shape[1:])
    return result


def attend_efficient(qkv: Tensor, lengths: Lengths) -> Tensor:
    """The memory-efficient kernel, which is in builds that lack FlashAttention."""
    rows, frames = qkv.shape[:2]
    q, k, v = (part.reshape(1, rows * frames, *part.shape[2:]) for part in _split(qkv))
    out = torch.ops.aten._efficient_attention_forward(
        q, k, v, None, lengths.bounds, lengths.bounds, frames, frames, 0.0, 0
    )[0]
    result: Tensor = out.view(rows, frames, *out.shape[2:])
    return result


FAST: dict[str, Attend] = {
    "flash": attend_flash,
    "efficient": attend_efficient,
}


def works(
    attend: Attend, heads: int, dim_head: int, device: torch.device, dtype: torch.dtype
) -> bool:
    """Whether this kernel is in this build, and right: compared with plain torch on ragged rows."""
    return all(
        _right(attend, heads, dim_head, device, dtype, frames, length) for frames, length in _TRIALS
    )


def _right(
    attend: Attend, heads: int, dim_head: int, device: torch.device, dtype: torch.dtype,
    frames: int, length: int,
) -> bool:  # fmt: skip
    generator = torch.Generator(device=device).manual_seed(0)
    qkv = torch.randn(2, frames, 3, heads, dim_head, generator=generator, device=device).to(dtype)
    lengths = make_lengths(2, frames, device)
    lengths.valid[0] = length
    update_lengths(lengths, frames)
    # The first and the last head stand for all: scores of all would take a quarter of a gigabyte.
    some = sorted({0, heads - 1})
    want = attend_masked(qkv[:, :, :, some].float(), lengths)
    try:
        got = attend(qkv, lengths)[:, :, some].float()
    except (RuntimeError, NotImplementedError, TypeError):
        # What a build lacks shows only by asking it; the next kernel is tried.
        return False
    near = (got[row, :real] - want[row, :real] for row, real in ((0, length), (1, frames)))
    return all(bool(part.abs().max() < 2e-2) for part in near)


def choose(
    heads: int,
    dim_head: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    varlen: bool,
    own: Attend | None = None,
) -> tuple[str, Attend]:
    """The first kernel that works here, by name, `own` before others; masked where none does."""
    if varlen and device.type == "cuda" and dtype in (torch.float16, torch.bfloat16):
        candidates = {"own": own, **FAST} if own is not None else FAST
        for name, attend in candidates.items():
            if works(attend, heads, dim_head, device, dtype):
                return name, attend
            log.warning("attention %r is not in use: it does not work here", name)
    return "masked", attend_masked
