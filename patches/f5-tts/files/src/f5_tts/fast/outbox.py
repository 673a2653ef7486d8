"""Samples on their way to the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from f5_tts.fast.audio import Wave
from torch import Tensor


class Outbox:
    """Page-locked memory that is kept from one request to the next, as large as the largest so far.

    One for an engine and not one for a plan: requests leave one after the other, and on a Jetson
    such memory is the GPU's own. One caller at a time.
    """

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def __call__(self, waves: Sequence[Tensor]) -> list[Wave]:
        """Copies of the waves (samples,) fp32, on the host; waits for them once."""
        if not any(wave.is_cuda for wave in waves):
            return [np.array(wave.numpy(), dtype=np.float32) for wave in waves]
        sizes = [wave.numel() for wave in waves]
        if self._kept.numel() < sum(sizes):
            # In powers of two, so that slightly longer requests do not each ask for more.
            self._kept = torch.empty(1 << (sum(sizes) - 1).bit_length(), pin_memory=True)
        parts = self._kept[: sum(sizes)].split(sizes)
        for part, wave in zip(parts, waves, strict=True):
            part.copy_(wave, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
        arrived.record()
        arrived.synchronize()
        return [np.array(part.numpy(), dtype=np.float32) for part in parts]
