"""Our matrix products and convolution on a real Hopper GPU, against plain torch in fp32."""

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
BOUND = 5e-4


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(SOURCE))
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    sys.path.remove(str(SOURCE))


@pytest.fixture(scope="module")
def gemm(_importable: None) -> Any:
    from f5_tts.fast.gemm import Gemm

    return Gemm(16, None)


def draw(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, generator=generator, device="cuda", dtype=torch.float16)


def relative(got: Any, want: Any) -> float:
    return float(torch.linalg.vector_norm(got.float() - want) / torch.linalg.vector_norm(want))


def turned(want: Any, table: Any, frames: int) -> Any:
    """Rotary positions in fp32 on (tokens, 3 * 1024), as the folded weights order the pairs."""
    parts = want.clone().view(-1, frames, 3, 16, 4, 2, 8)
    cos, sin = (part.view(1, frames, 1, 1, 4, 8) for part in table)
    first, second = parts[:, :, :2, :, :, 0].clone(), parts[:, :, :2, :, :, 1].clone()
    parts[:, :, :2, :, :, 0] = first * cos - second * sin
    parts[:, :, :2, :, :, 1] = second * cos + first * sin
    return parts.view(want.shape)


# Rows of two items: S and M, the shortest bucket, one that no tile divides, and a batch.
@pytest.mark.parametrize("frames", [32, 480, 608, 1344, 4096])
def test_products_are_exact_to_rounding(gemm: Any, frames: int) -> None:
    from f5_tts.fast.gemm import GATED, GELU, ROTARY, tile_for
    from f5_tts.fast.ops import rotary_table

    tokens = 2 * frames
    table = rotary_table(64, frames, torch.device("cuda"))
    for kind, features, k in (
        (ROTARY, 3072, 1024), (GATED, 1024, 1024), (GELU, 2048, 1024), (GATED, 1024, 2048),
    ):  # fmt: skip
        x, w = draw(tokens, k), draw(features, k, seed=1) * k**-0.5
        bias, gate, residual = (
            draw(features, seed=2),
            draw(features, seed=3),
            draw(tokens, features),
        )
        want = x.float() @ w.float().T + bias.float()
        if kind == GELU:
            want = torch.nn.functional.gelu(want, approximate="tanh")
        elif kind == GATED:
            want = residual.float() + gate.float() * want
        else:
            want = turned(want, table, frames)
        out = residual.clone() if kind == GATED else torch.full_like(residual, float("nan"))
        tile = tile_for(kind, tokens, features, k)
        gemm(
            tile, kind, x, w, bias, out, gate=gate, table=table, frames=frames, rotated=16
        )  # fmt: skip
        assert relative(out, want) < BOUND, (kind, tile)


@pytest.mark.parametrize(("frames", "mean"), [(32, 0.0), (480, 0.0), (1344, 3.0), (4096, 0.0)])
def test_a_folded_norm_is_a_norm(gemm: Any, frames: int, mean: float) -> None:
    """Product, residual, LayerNorm with modulation, product: without a kernel for the norm."""
    from f5_tts.fast.gemm import GATED, GELU, ROTARY, Norm, tile_for
    from f5_tts.fast.ops import rotary_table

    tokens = 2 * frames
    table = rotary_table(64, frames, torch.device("cuda"))
    x, w = draw(tokens, 1024), draw(1024, 1024, seed=1) / 32
    bias, gate = draw(1024, seed=2), draw(1024, seed=3)
    residual = draw(tokens, 1024, seed=4) + mean
    scale, shift = 1 + draw(1024, seed=5) / 4, draw(1024, seed=6)
    summed = residual.float() + gate.float() * (x.float() @ w.float().T + bias.float())
    normed = torch.nn.functional.layer_norm(summed, (1024,), scale.float(), shift.float(), 1e-6)
    out, scaled = residual.clone(), torch.full_like(residual, float("nan"))
    moments = torch.full((16, tokens, 2), float("nan"), device="cuda")
    tile = tile_for(GATED, tokens, 1024, 1024)
    gemm(tile, GATED, x, w, bias, out, gate=gate, norm=Norm(moments, scale, scaled))
    assert relative(out, summed) < BOUND
    for kind, features in ((GELU, 2048), (ROTARY, 3072)):
        behind, offset = draw(features, 1024, seed=7) / 32, draw(features, seed=8)
        fold = torch.stack(
            (
                behind.float() @ scale.float(),
                behind.float() @ shift.float() + offset.float(),
            )
        )
        want = normed @ behind.float().T + offset.float()
        if kind == GELU:
            want = torch.nn.functional.gelu(want, approximate="tanh")
        else:
            want = turned(want, table, frames)
        result = torch.full((tokens, features), float("nan"), device="cuda", dtype=torch.float16)
        tile = tile_for(kind, tokens, features, 1024)
        gemm(
            tile, kind, scaled, behind, offset, result,
            norm=Norm(moments, fold=fold), table=table, frames=frames, rotated=16,
        )  # fmt: skip
        # Rounded before the norm instead of behind it: the mean counts in the rounding.
        assert relative(result, want) < BOUND * (1 + mean), (kind, tile)


def test_a_product_behind_another_waits_for_it(gemm: Any) -> None:
    """A chain in which each kernel is set up while the one before runs, many times over."""
    from f5_tts.fast.gemm import GELU, tile_for

    first, second = draw(2048, 1024, seed=1) / 32, draw(2048, 2048, seed=2) / 45
    bias = draw(2048, seed=3)
    for frames in (64, 480, 1344):
        x = draw(2 * frames, 1024, seed=4)
        tiles = (tile_for(GELU, 2 * frames, 2048, k) for k in (1024, 2048))
        one, two = tiles
        wants = []
        for _ in range(40):
            middle, out = torch.empty(2, 2 * frames, 2048, device="cuda", dtype=torch.float16)
            gemm(one, GELU, x, first, bias, middle)
            gemm(two, GELU, middle, second, bias, out)
            wants.append(out)
        assert all(torch.equal(wants[0], other) for other in wants[1:])


@pytest.mark.parametrize(("rows", "frames"), [(2, 32), (2, 480), (4, 608), (2, 1344)])
def test_convolution_is_exact_to_rounding(rows: int, frames: int) -> None:
    from f5_tts.fast.conv import HopperConv
    from f5_tts.fast.kernels import _by_tap

    functional = torch.nn.functional
    weights = [draw(1024, 64, 31, seed=n) / 45 for n in (1, 2)]
    biases = (draw(1024, seed=3), draw(1024, seed=4))
    lengths = torch.arange(rows, device="cuda", dtype=torch.int32) * -5 + frames - 3
    outside = torch.arange(frames, device="cuda") >= lengths.unsqueeze(1)
    h = draw(rows, frames, 1024).masked_fill(outside.unsqueeze(-1), 0.0)
    c = h.float()
    for w, b in zip(weights, biases, strict=True):
        c = c.masked_fill(outside.unsqueeze(-1), 0.0).transpose(1, 2)
        c = functional.conv1d(c, w.float(), b.float(), padding=15, groups=16)
        c = functional.mish(c).transpose(1, 2)
    conv = HopperConv([_by_tap(w) for w in weights], biases, None, dependent=True)
    got = conv(h.clone(), lengths)
    for row, length in enumerate(lengths.tolist()):
        assert relative(got[row, :length], (h.float() + c)[row, :length]) < BOUND
