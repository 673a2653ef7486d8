"""What can be said of the Hopper attention without a GPU: it compiles, and how it is launched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

H200 = 132
PER_BLOCK = 227 * 1024  # dynamic shared memory a block may have, compute capability 9.0


@pytest.mark.parametrize("heads", [16, 12])
def test_both_shapes_compile_and_fit(newest: Path, heads: int) -> None:
    from f5_tts.fast import nvrtc
    from f5_tts.fast.cuda_attention import NARROW, WIDE
    from f5_tts.fast.cuda_attention_kernel import shared_bytes, source

    try:
        nvrtc._library(nvrtc._nvrtc_names())
    except nvrtc.KernelsUnavailable as reason:
        pytest.skip(f"no NVRTC here: {reason}")
    for shape in (WIDE, NARROW):
        sizes = {
            "HEADS": heads, "GROUPS": shape.groups, "KEYS": shape.keys, "STAGES": shape.stages,
        }  # fmt: skip
        assert b"attend_hopper" in nvrtc.compile_source(source(shape.keys), "sm_90a", sizes)
        assert shared_bytes(shape.groups, shape.keys, shape.stages) <= PER_BLOCK
        # Tiles must start on the swizzle's boundaries, and products take 16 keys at a time.
        assert shape.keys * 128 % 1024 == 0 and shape.keys % 16 == 0


def test_a_short_request_takes_one_round_of_small_blocks(newest: Path) -> None:
    from f5_tts.fast.cuda_attention import NARROW, plan

    launch = plan(2, 480, 16, H200)
    assert (launch.shape, launch.blocks, launch.items, launch.split) == (NARROW, 128, 128, False)


@pytest.mark.parametrize("blocks", [20, 78, 114, 132])
def test_launches_keep_their_promises(newest: Path, blocks: int) -> None:
    """What the kernel takes for granted, for every bucket and batch."""
    from f5_tts.fast.cuda_attention import plan

    splits = 0
    for frames in [*range(32, 640, 32), *range(640, 8192, 64)]:
        for rows in (1, 2, 4, 16, 32):
            launch = plan(rows, frames, 16, blocks)
            queries = 64 * launch.shape.groups
            assert launch.items == -(-frames // queries) * 16 * rows
            assert 1 <= launch.blocks <= min(launch.items, blocks)
            if launch.split:
                splits += 1
                tiles = -(-frames // launch.shape.keys)
                steps = launch.items * tiles
                edges = [block * steps // blocks for block in range(blocks + 1)]
                # An item is never shared by more than two blocks.
                assert min(b - a for a, b in pairwise(edges)) >= tiles
                assert rows <= 2 and launch.blocks == blocks
                assert steps < 2**31
    assert splits > 0
