"""Times of our attention against the library's, on captured graphs. Compute capability 9.0.

    python tests/gpu/bench_attention.py --out result.json

The library's kernels get full rows: they know nothing of lengths. Ours get buckets and lengths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, LAUNCHES, REPLAYS = 16, 20, 15
# Bucket and length of every row; with guidance a request has two.
SIZES = {
    "S": (480, [468] * 2),
    "750 frames": (768, [750] * 2),
    "M": (1344, [1312] * 2),
    "1875 frames": (1920, [1875] * 2),
    "16 of S": (480, [468] * 32),
    "16 of M": (1344, [1312] * 32),
    "16 mixed": (1344, [1312, 900, 700, 1100] * 8),
}

Work = Callable[[Any, Any], Any]


def microseconds(work: Work, inputs: list[tuple[Any, Any]]) -> float:
    """Median time of one launch, launched one behind the other over alternating inputs."""
    for pair in inputs:
        work(*pair)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(LAUNCHES):
            work(*inputs[index % len(inputs)])
    for _ in range(5):
        graph.replay()
    times: list[float] = []
    new_event: Any = torch.cuda.Event
    for _ in range(REPLAYS):
        begin, end = (new_event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / LAUNCHES)
    return round(statistics.median(times), 2)


def library(backend: SDPBackend, length: int) -> Work:
    def work(qkv: Any, _: Any) -> Any:
        q, k, v = (qkv[:, :length, part].transpose(1, 2) for part in range(3))
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return work


def measure() -> dict[str, Any]:
    from f5_tts.fast.cuda_attention import HopperAttention, plan

    ours = HopperAttention(HEADS, None, dependent=False)
    dependent = HopperAttention(HEADS, None, dependent=True)
    properties = torch.cuda.get_device_properties(0)
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "gpu": properties.name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "command": "python tests/gpu/bench_attention.py --out result.json",
        "unit": "us",
    }
    for name, (frames, lengths) in SIZES.items():
        rows = len(lengths)
        inputs = []
        for seed in range(2):
            generator = torch.Generator("cuda").manual_seed(seed)
            shape = (rows, frames, 3, HEADS, 64)
            qkv = torch.randn(shape, generator=generator, device="cuda", dtype=torch.float16)
            inputs.append((qkv, torch.tensor(lengths, dtype=torch.int32, device="cuda")))
        launch = plan(rows, frames, HEADS, properties.multi_processor_count)
        row: dict[str, Any] = {
            "groups": launch.shape.groups,
            "split": launch.split,
            "ours": microseconds(ours, inputs),
            "ours, dependent launches": microseconds(dependent, inputs),
        }
        if len(set(lengths)) == 1:
            for kind in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
                row[kind.name.lower()] = microseconds(library(kind, lengths[0]), inputs)
        operations = 4 * HEADS * 64 * sum(length * length for length in lengths)
        row["tflops"] = round(operations / row["ours"] / 1e6, 1)
        result[name] = row
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=None, help="folder that holds f5_tts")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    here = Path(__file__).parents[2] / "patches/f5-tts/files/src"
    sys.path.insert(0, str(arguments.source or here))
    result = measure()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
