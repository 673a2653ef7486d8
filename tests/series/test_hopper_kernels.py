"""The Hopper products and convolution as far as no GPU is needed: they compile, tiles fit, and what
is folded or reordered for them is the same arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def built(source: str, sizes: dict[str, int]) -> bytes:
    from f5_tts.fast import nvrtc

    try:
        nvrtc._library(nvrtc._nvrtc_names())
    except nvrtc.KernelsUnavailable as reason:
        pytest.skip(f"no NVRTC here: {reason}")
    return nvrtc.compiled(source, "sm_90a", sizes, None)


@pytest.mark.parametrize("norm", [False, True])
def test_products_compile(newest: Path, norm: bool) -> None:
    from f5_tts.fast import cuda_gemm
    from f5_tts.fast.gemm import MENU

    for kind, tiles in MENU.items():
        for tile in (tiles[0], tiles[-1]):
            sizes = tile.defines(kind, norm, 16)
            assert b"gemm" in built(cuda_gemm.source(tile.tokens), sizes), (kind, tile)


@pytest.mark.parametrize("second", [0, 1])
def test_convolution_compiles(newest: Path, second: int) -> None:
    from f5_tts.fast import conv, cuda_conv_hopper

    for frames in conv.FRAMES:
        sizes = {"BN": frames, "STAGES": conv.STAGES, "SECOND": second}
        assert b"conv_hopper" in built(cuda_conv_hopper.source(frames), sizes)
        # Two blocks share a multiprocessor; a box of the copy engine has at most 256 rows.
        assert 2 * cuda_conv_hopper.shared_bytes(frames, conv.STAGES) <= 227 * 1024
        assert frames + 32 <= 256


def test_tiles_fit_a_multiprocessor(newest: Path) -> None:
    from f5_tts.fast.gemm import MENU, SHARED_LIMIT

    for tiles in MENU.values():
        for tile in tiles:
            assert tile.shared <= SHARED_LIMIT and tile.stages >= 4, tile
            assert tile.tokens % 8 == 0 and 16 <= tile.tokens <= 256
            assert tile.features % (8 * tile.ct) == 0
            # Accumulators and addresses in what 65536 registers give to each thread.
            assert tile.tokens // 2 <= (84 if tile.groups == 3 else 124), tile


@pytest.mark.parametrize("tokens", [64, 960, 1536, 2688, 43008])
def test_a_tile_for_every_shape_of_the_network(newest: Path, tokens: int) -> None:
    from f5_tts.fast.gemm import GATED, GELU, ROTARY, microseconds, tile_for

    for kind, features, k in (
        (ROTARY, 3072, 1024),
        (GATED, 1024, 1024),
        (GELU, 2048, 1024),
        (GATED, 1024, 2048),
    ):
        tile = tile_for(kind, tokens, features, k)
        assert tile is not None and features % tile.features == 0
        least = 2 * tokens * features * k / 990e6
        assert least < microseconds(tile, tokens, features, k) < 3 * least + 12
    assert tile_for(GATED, tokens, 1024, 1000) is None
    assert tile_for(ROTARY, tokens, 1000, 1024) is None


def test_narrow_products_of_common_lengths_are_one_wave(newest: Path) -> None:
    from f5_tts.fast.gemm import GATED, tile_for

    for tokens in (960, 2688):
        for k in (1024, 2048):
            tile = tile_for(GATED, tokens, 1024, k)
            assert tile is not None
            assert 112 <= 1024 // tile.features * -(-tokens // tile.tokens) <= 132


def test_pairs_in_folded_order_turn_as_upstream_turns_them(newest: Path) -> None:
    from f5_tts.fast.ops import TorchOps, rotary_table
    from f5_tts.fast.weights import paired_rows, rotary_group

    # One pair is two neighbours upstream, and as far apart as the kernels want them here.
    assert paired_rows(2, 64)[:16].tolist() == [*range(0, 16, 2), *range(1, 16, 2)]
    assert rotary_group(64) == 8 and rotary_group(8) == 4
    for width, heads in ((64, 3), (8, 1)):
        generator = torch.Generator().manual_seed(width)
        qkv = torch.randn(2, 10, 3, 3, width, generator=generator)
        table = rotary_table(width, 10, torch.device("cpu"))
        cos, sin = (part.repeat_interleave(2, -1)[None, :, None, None] for part in table)
        swapped = torch.stack((-qkv[..., 1::2], qkv[..., ::2]), -1).flatten(-2)
        want = qkv.clone()
        want[:, :, :2, :heads] = (qkv * cos + swapped * sin)[:, :, :2, :heads]
        order = paired_rows(1, width)
        ops = TorchOps.__new__(TorchOps)
        got = ops.rotate(qkv[..., order].contiguous(), table, heads)
        torch.testing.assert_close(got, want[..., order])


def test_a_norm_folded_into_two_products_is_the_norm(newest: Path) -> None:
    """What the kernels do with `Row.folds`, moments of 64 features and the scaled residual."""
    from f5_tts.fast import arch, modulation, weights
    from f5_tts.fast.schedule import build

    sizes = arch.from_mapping(
        {"dim": 128, "depth": 2, "heads": 2, "ff_mult": 2, "text_dim": 32, "conv_layers": 0}
    )
    folded = weights.fold(
        weights.random_state(sizes, 10, 3), sizes, device=torch.device("cpu"), dtype=torch.float32
    )
    plain = modulation.evaluate(folded, build(7, -1.0))
    tables = modulation.evaluate(folded, build(7, -1.0), folded=True)
    assert torch.equal(tables.rows[:, : plain.rows.shape[1]], plain.rows)
    assert modulation.split(plain.rows[0], sizes, torch.float32).folds is None
    row = modulation.split(tables.rows[4], sizes, torch.float32)
    assert row.folds is not None
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(1)) * 3 + 0.5
    layer, inner = folded.layers[1], 3 * sizes.inner
    through_qkv = row.folds[1, : 2 * inner].view(2, inner)
    through_ff = row.folds[1, 2 * inner :].view(2, sizes.ff_dim)
    parts = x.view(5, 2, 64)
    means, inside = parts.mean(-1), (parts - parts.mean(-1, keepdim=True)).square().sum(-1)
    mean = means.mean(-1, keepdim=True)
    spread = inside.sum(-1, keepdim=True) / 128 + means.square().mean(-1, keepdim=True) - mean**2
    inverse = (spread + 1e-6).rsqrt()
    for at, fold, matrix, bias in (
        (0, through_qkv, layer.qkv_w, layer.qkv_b),
        (3, through_ff, layer.ff1_w, layer.ff1_b),
    ):
        scale, shift = row.blocks[1, at], row.blocks[1, at + 1]
        want = torch.nn.functional.layer_norm(x, (128,), scale, shift, 1e-6) @ matrix.T + bias
        got = inverse * ((x * scale) @ matrix.T) - mean * inverse * fold[0] + fold[1]
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_code_is_compiled_once_in_a_process(newest: Path) -> None:
    source = 'extern "C" __global__ void once(int *a) { a[0] = N; }'
    assert built(source, {"N": 1}) is built(source, {"N": 1})
    assert built(source, {"N": 1}) != built(source, {"N": 2})
