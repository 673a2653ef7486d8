"""How the Hopper attention is launched: which of its shapes, over how many blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from f5_tts.fast.cuda_attention_kernel import PART_FLOATS, ROWS, shared_bytes, source
from f5_tts.fast.nvrtc import Module, TensorMap, compiled_all
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Warpgroups of 64 queries in a block, keys in a tile, tiles in flight, and what a block costs
    on an H200: microseconds per tile of keys."""

    groups: int
    keys: int
    stages: int
    per_tile: float


WIDE = Shape(groups=3, keys=96, stages=4, per_tile=1.07)
NARROW = Shape(groups=2, keys=96, stages=4, per_tile=0.79)
# Microseconds to begin and end an item, and to hand a part of one to another block.
PER_ITEM, PER_SPLIT = 0.8, 1.2


@dataclass(frozen=True)
class Launch:
    """`items`: groups * 64 queries of one head of one row each. `split`: blocks get equal runs of
    tiles instead of whole items in turn."""

    shape: Shape
    blocks: int
    items: int
    split: bool


def plan(rows: int, frames: int, heads: int, multiprocessors: int) -> Launch:
    """The cheapest launch for a batch of this size. What is in the batch does not matter, so an
    item's result does not depend on its neighbours."""
    choices: list[tuple[float, Launch]] = []
    for shape in (WIDE, NARROW):
        items = -(-frames // (ROWS * shape.groups)) * heads * rows
        tiles = -(-frames // shape.keys)
        rounds = -(-items // multiprocessors)
        whole = Launch(shape, min(items, multiprocessors), items, split=False)
        choices.append((rounds * (tiles * shape.per_tile + PER_ITEM), whole))
        # Runs are equal in the bucket's tiles. The rows of more than one request differ in length,
        # and then items in turn even out better. With fewer items than blocks, an item would be
        # shared by more than two.
        if rows <= 2 and items >= multiprocessors:
            run = -(-items * tiles // multiprocessors)
            split = Launch(shape, multiprocessors, items, split=True)
            parts = items / multiprocessors + 2
            choices.append((run * shape.per_tile + parts * PER_ITEM + PER_SPLIT, split))
    return min(choices, key=lambda choice: choice[0])[1]


class HopperAttention:
    """Attention over rows of known length: compute capability 9.0, head dimension 64, fp16.

    One caller at a time: blocks that share an item meet in buffers of this object.
    """

    def __init__(self, heads: int, cache_dir: Path | None, *, dependent: bool) -> None:
        """`dependent`: the kernel may be set up while the one before it ends."""
        self._heads = heads
        self._dependent = dependent
        device = torch.device("cuda", torch.cuda.current_device())
        self._blocks = torch.cuda.get_device_properties(device).multi_processor_count
        shapes = (WIDE, NARROW)
        code = compiled_all(
            [
                (
                    source(shape.keys),
                    {"HEADS": heads, "GROUPS": shape.groups, "KEYS": shape.keys,
                     "STAGES": shape.stages},
                )
                for shape in shapes
            ],
            "sm_90a",
            cache_dir,
        )  # fmt: skip
        self._modules = {shape: Module(cubin) for shape, cubin in zip(shapes, code, strict=True)}
        for shape, module in self._modules.items():
            module.ready("attend_hopper", shared_bytes(shape.groups, shape.keys, shape.stages))
        # A driver too old for the maps is found out here, and not by the first request.
        TensorMap(torch.empty(64, 64, dtype=torch.float16, device=device), ROWS)
        part = WIDE.groups * PART_FLOATS * 128
        self._parts = torch.empty(self._blocks, part, device=device)
        self._flags = torch.zeros(self._blocks, dtype=torch.int32, device=device)

    def __call__(self, qkv: Tensor, lengths: Tensor) -> Tensor:
        """qkv (rows, frames, 3, heads, 64) and lengths (rows,) int32 to (rows, frames, heads, 64),
        zero past a row's length."""
        rows, frames = qkv.shape[:2]
        launch = plan(rows, frames, self._heads, self._blocks)
        shape = launch.shape
        flat = qkv.view(rows, frames, -1)
        out = torch.empty(rows, frames, self._heads, 64, dtype=qkv.dtype, device=qkv.device)
        width = 2 * 64 * self._heads * rows * frames
        self._modules[shape].launch(
            "attend_hopper", (launch.blocks, 1, 1), 128 * (shape.groups + 1),
            TensorMap(flat, ROWS), TensorMap(flat, shape.keys), lengths, out,
            frames, launch.items, int(launch.split), self._parts, self._flags,
            shared=shared_bytes(shape.groups, shape.keys, shape.stages),
            dependent=self._dependent, work=(4 * width, 2 * width * frames),
        )  # fmt: skip
        return out
