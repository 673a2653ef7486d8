"""What a step costs and what the device could do: FLOPs by shape, kernels, bytes, and the peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from f5_tts.fast import count
from f5_tts.fast.arch import Arch
from f5_tts.fast.weights import CONV_GROUPS, CONV_KERNEL

# Of the square matrices whose product measures the peak.
CUDA_SIDE, CPU_SIDE = 8192, 768


@dataclass(frozen=True)
class Step:
    """One network evaluation (both halves of guidance).

    `kernels`: kernels and copies the device ran; on a CPU, operators. `device_ms`: their summed
    time. `gb`: what the operators read and write, counted. None where they cannot be watched.
    `tflop`: by the network's shape, whatever the code does.
    """

    frames: int
    kernels: int | None
    device_ms: float
    gb: float | None
    tflop: float
    counted_by: str

    def to_json(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "kernels_per_nfe": self.kernels,
            "device_ms_per_nfe": round(self.device_ms, 3),
            "gb_per_nfe": None if self.gb is None else round(self.gb, 4),
            "tflop_per_nfe": round(self.tflop, 6),
            "tflop_per_s": round(self.tflop / self.device_ms * 1e3, 3),
            "counted_by": self.counted_by,
        }


def flops(arch: Arch, rows: int, frames: int) -> float:
    """Of one evaluation: the products of the parameters with every frame, and attention's."""
    blocks = arch.depth * (4 * arch.dim * arch.inner + 2 * arch.dim * arch.ff_dim)
    ends = arch.dim * (2 * arch.mel_dim + arch.text_dim) + arch.dim * arch.mel_dim
    positions = 2 * arch.dim * (arch.dim // CONV_GROUPS) * CONV_KERNEL
    attention = 4 * arch.depth * arch.inner * frames
    return float(rows * frames * (2 * (blocks + ends + positions) + attention))


def step(
    work: Callable[[], None], plain: Callable[[], None] | None, frames: int, total: float
) -> Step:
    """Count `work`, which is warm. `plain` does the same where operators can be seen doing it."""
    tally = None
    if plain is not None:
        plain()
        with count.watching() as tally:
            plain()
    work()
    launched: int | None
    if torch.cuda.is_available():
        launched, micros = count.kernels(work)
        how, milliseconds = "kernels by the profiler", micros / 1e3
    else:
        launched = tally.launches if tally is not None else None
        how, milliseconds = "operators, on the CPU", _best_ms(work)
    gigabytes = tally.moved / 1e9 if tally is not None else None
    return Step(frames, launched, milliseconds, gigabytes, total / 1e12, how)


def _best_ms(work: Callable[[], None]) -> float:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1e3 * min(taken)


def peak(device: torch.device) -> float:
    """FLOP/s of one large matrix product of random numbers, fp16 on CUDA and fp32 on a CPU: what
    this device reaches, not what its maker says."""
    cuda = device.type == "cuda"
    side = CUDA_SIDE if cuda else CPU_SIDE
    options: dict[str, Any] = {"device": device, "dtype": torch.float16 if cuda else torch.float32}
    a, b = torch.randn(side, side, **options), torch.randn(side, side, **options)
    out = torch.empty_like(a)

    def products() -> float:
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b, out=out)
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / 10

    products()
    # The best: whatever else the machine does only takes from it.
    return 2 * float(side) ** 3 / min(products() for _ in range(5))


@contextmanager
def exact_products() -> Iterator[None]:
    """No TF32 inside."""
    matrix, convolution = (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matrix
        torch.backends.cudnn.allow_tf32 = convolution
