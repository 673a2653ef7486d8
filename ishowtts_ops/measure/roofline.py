"""How close to the hardware: the least time a GPU needs for a piece of speech, and what an Orin
would need, as a projection.

FLOPs of F5TTS_v1_Base by its shape (dim 1024, depth 22, heads 16, feed-forward ×2), with classifier
free guidance: 2 N (378.9e6 + 90112 N) a step, N = reference and generated frames. An Orin's tensor
cores do 2,048 dense fp16 operations a clock and SM, which gives NVIDIA's published figures
(42.6 TFLOP/s for 16 SM at 1.3005 GHz); the H200's figure was measured with plain matrix products.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts.modules import Module
from ishowtts_ops.measure.workloads import FRAMES_PER_SECOND, LONGEST_PIECE_S

LINEAR = 378.9e6
QUADRATIC = 90112
ORIN_FLOP_PER_SM_CLOCK = 2048

MEASURED_PEAK = {"H200": 790e12, "H100": 798e12}
"""FLOP/s of dense half-precision matrix products, by a word of the GPU's name; only what was
measured with one large product."""
PUBLISHED_BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12}
"""Bytes per second, by NVIDIA's data sheets (the SXM modules)."""
USUAL_BANDWIDTH = 0.75
"""Share of it that kernels of this kind reach."""
ORIN_LAUNCH_S = 3e-6
"""Between two kernels of a CUDA graph on an Orin. An assumption: nobody measured it here."""

_SM = {"agx-orin-64": 16, "agx-orin-32": 14, "orin-nx-16": 8, "orin-nx-8": 8, "orin-nano-8": 8,
       "orin-nano-4": 4}  # fmt: skip
_BYTES_PER_EMC_CLOCK = {"agx": 64, "nx": 32, "nano": 32}
"""Both edges of a 256-bit and a 128-bit LPDDR5 bus: 204.8 and 102.4 GB/s at 3199 MHz."""


@dataclass(frozen=True)
class Gpu:
    """What bounds a GPU.

    Attributes:
        flops: dense fp16, per second.
        bandwidth: bytes per second; None where it does not matter or is not known.
    """

    name: str
    flops: float
    bandwidth: float | None = None


@dataclass(frozen=True)
class Counted:
    """What one synthesis was counted to do.

    Attributes:
        flops, bytes: in all.
        launches: kernels, in all.
    """

    flops: float
    bytes: float
    launches: int


@dataclass(frozen=True)
class Calibration:
    """How real code compares to bounds.

    Attributes:
        compute: share of the peak that its products reach.
        bandwidth: share of the memory's published rate that is reached.
        launch_s: between two kernels of a graph.
        in_turn: products, memory and launches are taken one after the other; else the slowest hides
            the others.
    """

    compute: float = 0.6
    bandwidth: float = USUAL_BANDWIDTH
    launch_s: float = 0.0
    in_turn: bool = False


@dataclass(frozen=True)
class Projection:
    """A projected time, never a measurement; `text` says so.

    Attributes:
        bound: compute, memory or launches: what takes longest.
    """

    gpu: str
    seconds: float
    bound: str

    @property
    def text(self) -> str:
        return f"projection for {self.gpu}: {self.seconds * 1000:.0f} ms ({self.bound} bound)"


def synthesis_flops(
    reference_s: float, generated_s: float, nfe: int, *, guided: bool = True
) -> float:
    """FLOPs of the network for one text, in as few pieces as it can be spoken in."""
    room = max(LONGEST_PIECE_S - reference_s, 1.0)
    pieces = max(1, -(-int(generated_s * 1000) // int(room * 1000)))
    frames = (reference_s + generated_s / pieces) * FRAMES_PER_SECOND
    step = 2 * frames * (LINEAR + QUADRATIC * frames) * (1.0 if guided else 0.5)
    return pieces * nfe * step


def orin(module: Module, gpu_hz: int | None = None, emc_hz: int | None = None) -> Gpu | None:
    """An Orin's bounds at a clock; at its own maximum where none is given. None for a module whose
    size is not known."""
    key = module.key.removesuffix("-super")
    clock = gpu_hz or module.max_gpu_hz
    if key not in _SM or clock is None:
        return None
    family = next((name for name in _BYTES_PER_EMC_CLOCK if name in key), "nx")
    memory = emc_hz or module.max_emc_hz
    bandwidth = memory * float(_BYTES_PER_EMC_CLOCK[family]) if memory else None
    return Gpu(module.name, _SM[key] * float(ORIN_FLOP_PER_SM_CLOCK) * clock, bandwidth)


def by_name(device_name: str) -> Gpu | None:
    """A GPU that is not a Jetson's, by the name its driver gives; None where nobody measured it."""
    for word, flops in MEASURED_PEAK.items():
        if re.search(rf"\b{word}\b", device_name):
            return Gpu(device_name, flops, PUBLISHED_BANDWIDTH.get(word))
    return None


def floor_seconds(
    gpu: Gpu, reference_s: float, generated_s: float, nfe: int, *, guided: bool = True
) -> float:
    """The least engine time for one text: its FLOPs at the GPU's peak."""
    return synthesis_flops(reference_s, generated_s, nfe, guided=guided) / gpu.flops


def calibrate(
    counted: Counted, gpu: Gpu, measured_s: float, *, in_turn: bool = False
) -> Calibration:
    """What makes this GPU's bounds come to the time that was measured on it. Memory keeps its usual
    share: a large cache hides it on big GPUs."""
    hidden = 0.0
    if in_turn and gpu.bandwidth:
        hidden = min(counted.bytes / (gpu.bandwidth * USUAL_BANDWIDTH), 0.9 * measured_s)
    share = counted.flops / gpu.flops / (measured_s - hidden)
    launch = ORIN_LAUNCH_S if in_turn else 0.0
    return Calibration(compute=min(1.0, share), launch_s=launch, in_turn=in_turn)


def project(counted: Counted, gpu: Gpu, calibration: Calibration) -> Projection:
    """What `counted` would take on `gpu`, by the calibration's rule."""
    parts = {
        "compute": counted.flops / (gpu.flops * calibration.compute),
        "memory": counted.bytes / (gpu.bandwidth * calibration.bandwidth) if gpu.bandwidth else 0.0,
        "launch": counted.launches * calibration.launch_s,
    }
    bound = max(parts, key=lambda name: parts[name])
    return Projection(gpu.name, sum(parts.values()) if calibration.in_turn else parts[bound], bound)
