"""The Hopper attention on a real GPU, against plain torch in fp32."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
    pytest.skip("no GPU of compute capability 9.0", allow_module_level=True)

SOURCE = Path(
    os.environ.get("F5_SOURCE") or Path(__file__).parents[2] / "patches/f5-tts/files/src"
).resolve()
HEADS = 16


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(SOURCE))
    yield
    sys.path.remove(str(SOURCE))


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "dependent"])
def attend(request: pytest.FixtureRequest) -> Any:
    from f5_tts.fast.cuda_attention import HopperAttention

    return HopperAttention(HEADS, None, dependent=request.param)


def draw(rows: int, frames: int, scale: float) -> Any:
    generator = torch.Generator("cuda").manual_seed(rows + frames)
    values = torch.randn(rows, frames, 3, HEADS, 64, generator=generator, device="cuda")
    return (scale * values).half()


def exact(qkv: Any, lengths: list[int]) -> list[Any]:
    """Each row over its own keys, (length, heads, 64) fp32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for row, length in enumerate(lengths):
        q, k, v = (qkv[row, :length, part].float().transpose(0, 1) for part in range(3))
        weights = torch.softmax(q @ k.transpose(1, 2) / 8, dim=-1)
        rows.append((weights @ v).transpose(0, 1))
    return rows


def run(attend: Any, qkv: Any, lengths: list[int]) -> Any:
    valid = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    # The allocator hands this memory out again: what is not written stays wrong.
    torch.full_like(qkv[:, :, 0], float("nan"))
    return attend(qkv, valid)


def worst(got: Any, want: list[Any]) -> float:
    return max(
        float((got[row, : part.shape[0]].float() - part).norm() / part.norm())
        for row, part in enumerate(want)
    )


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
@pytest.mark.parametrize(
    ("frames", "lengths"),
    [
        (32, [1]),
        (64, [1, 33, 64]),
        (128, [65, 32, 128, 97]),
        (480, [468, 468]),
        (512, [468, 100, 300, 512]),
        (704, [700, 650, 1, 200] * 4),
        (1088, [1025, 1088]),
        (1344, [1312, 1312]),
        (1344, [1312, 64]),
        (1920, [1875, 1873]),
        (2112, [2112, 97]),
        (3520, [3493, 3493]),
    ],
)
def test_exact_whatever_lies_past_a_row(
    attend: Any, frames: int, lengths: list[int], scale: float
) -> None:
    qkv = draw(len(lengths), frames, scale)
    want = exact(qkv, lengths)
    for row, length in enumerate(lengths):
        qkv[row, length:, 1:] = float("nan")
    got = run(attend, qkv, lengths)
    assert worst(got, want) < 5e-4
    for row, length in enumerate(lengths):
        assert (got[row, length:] == 0).all()
    for _ in range(5):
        assert torch.equal(run(attend, qkv, lengths), got)


@pytest.mark.parametrize(("frames", "length"), [(480, 468), (1344, 1312)])
def test_references_that_have_to_move(attend: Any, frames: int, length: int) -> None:
    """Scores that grow by far more than a power of two from tile to tile, in either direction,
    and scores that are all far below zero."""
    base = draw(2, frames, 1.0)
    ramp = torch.linspace(1, 12, frames, device="cuda")[None, :, None, None]
    for factor in (ramp, ramp.flip(1)):
        qkv = base.clone()
        qkv[:, :, 1] = (qkv[:, :, 1].float() * factor).half()
        assert worst(run(attend, qkv, [length, length]), exact(qkv, [length, length])) < 5e-4
    below = base.clone()
    below[:, :, 0] = below[:, :, 0].abs() + 1
    below[:, :, 1] = -(below[:, :, 1].abs() + 1)
    assert worst(run(attend, below, [length, length]), exact(below, [length, length])) < 5e-4


@pytest.mark.parametrize(("frames", "rows"), [(480, 2), (1344, 2), (1344, 6)])
def test_a_row_does_not_depend_on_its_neighbours(attend: Any, frames: int, rows: int) -> None:
    qkv = draw(rows, frames, 1.0)
    first = run(attend, qkv, [frames - 20] * rows)
    other = qkv.clone()
    other[1:] = other[1:].flip(1) * 3
    second = run(attend, other, [frames - 20] + [frames // 3] * (rows - 1))
    assert torch.equal(first[0], second[0])


def test_shapes_are_all_met(attend: Any) -> None:
    from f5_tts.fast.cuda_attention import NARROW, WIDE, plan

    blocks = torch.cuda.get_device_properties(0).multi_processor_count
    plans = [plan(rows, frames, HEADS, blocks) for rows, frames in ((2, 480), (2, 1344), (6, 1344))]
    assert [(p.shape, p.split) for p in plans] == [(NARROW, False), (WIDE, True), (WIDE, False)]


def test_in_a_graph(attend: Any) -> None:
    """Replays read lengths and inputs anew, and blocks that share an item find their flags."""
    qkv, lengths = draw(2, 1344, 1.0), torch.tensor([1312, 1312], dtype=torch.int32, device="cuda")
    attend(qkv, lengths)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            out = attend(qkv, lengths)
    for length in (1312, 1290, 700, 1344):
        qkv.copy_(draw(2, 1344, 1.0 + length / 1000))
        lengths.fill_(length)
        graph.replay()
        assert worst(out, exact(qkv, [length, length])) < 5e-4
