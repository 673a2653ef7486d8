"""Kernels that compute wrongly are found before they are used: right ones pass, wrong ones do not.

The ones that run on a GPU are judged there by the same functions (tests/gpu). Here other
implementations of the same contract stand before them, in plain torch, right and wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

HEADS = 2


def plain_ops(dtype: torch.dtype = torch.float16) -> Any:
    """Plain torch over a small network, in the type of the kernels."""
    from f5_tts.fast import arch, weights
    from f5_tts.fast.ops import TorchOps

    sizes = arch.from_mapping(
        {"dim": 128, "depth": 1, "heads": HEADS, "ff_mult": 2, "text_dim": 32, "conv_layers": 0}
    )
    state = weights.random_state(sizes, 10, 3)
    return TorchOps(weights.fold(state, sizes, device=torch.device("cpu"), dtype=dtype))


class Product:
    """What `cuda_gemm` documents, in fp32 with one rounding; a test may spoil one part of it."""

    def __init__(self, **spoiled: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._spoiled = spoiled

    def _told(self, part: str, value: torch.Tensor) -> torch.Tensor:
        return self._spoiled.get(part, lambda same: same)(value)

    def __call__(
        self, tile: Any, epilogue: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
        out: torch.Tensor, *, gate: Any = None, norm: Any = None, table: Any = None,
        frames: int = 0, rotated: int = 0,
    ) -> None:  # fmt: skip
        from f5_tts.fast import gemm

        value = x.float() @ weight.float().T
        if norm is None or epilogue == gemm.GATED:
            value = value + bias.float()
        else:
            means, squares = norm.moments.unbind(-1)
            mean = means.mean(0)
            spread = squares.mean(0) / 64 + means.square().mean(0) - mean.square()
            inverse = self._told("deviation", (spread + 1e-6).rsqrt()).unsqueeze(1)
            value = 16 * inverse * value - mean.unsqueeze(1) * inverse * norm.fold[0] + norm.fold[1]
        if epilogue == gemm.GELU:
            value = F.gelu(value, approximate="tanh")
        elif epilogue == gemm.GATED:
            value = out.float() + self._told("gate", gate.float()) * value
        else:
            value = self._turned(value, self._told("table", table), frames, rotated)
        out.copy_(self._told("result", value))
        if epilogue == gemm.GATED and norm is not None:
            parts = value.view(len(value), -1, 64)
            means = parts.mean(-1)
            squares = (parts - means.unsqueeze(-1)).square().sum(-1)
            moments = torch.stack((means, squares), -1).transpose(0, 1)
            norm.moments.copy_(self._told("moments", moments))
            norm.scaled.copy_(self._told("scaled", value * norm.scale.float() / 16))

    def _turned(self, value: torch.Tensor, table: Any, frames: int, heads: int) -> torch.Tensor:
        pairs = value.clone().view(-1, frames, 3, heads, 4, 2, 8)
        cos, sin = (part.view(1, frames, 1, 1, 4, 8) for part in table)
        first, second = pairs[:, :, :2, :, :, 0].clone(), pairs[:, :, :2, :, :, 1].clone()
        pairs[:, :, :2, :, :, 0] = first * cos - second * sin
        pairs[:, :, :2, :, :, 1] = second * cos + first * sin
        return pairs.view(value.shape)


def judged(product: Product) -> list[str]:
    from f5_tts.fast import trial

    return trial.products(product, plain_ops(), HEADS, frames=48, dim=128)


def test_right_products_pass(newest: Path) -> None:
    assert judged(Product()) == []


def tail_not_written(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value[-3:] = float("nan")
    return value


def last_token_of_another(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value[-1] = value[0]
    return value


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a tail that nobody writes": ({"result": tail_not_written}, "gate"),
    "a tail of another tile": ({"result": last_token_of_another}, "gate"),
    "no gate": ({"gate": torch.ones_like}, "gate"),
    "positions one too far": ({"table": lambda t: t.roll(1, dims=1)}, "rotary positions"),
    "moments of other tokens": ({"moments": lambda m: m.roll(1, dims=1)}, "before a norm"),
    "a scale forgotten": ({"scaled": lambda s: 16 * s}, "before a norm"),
    "a deviation of the wrong size": ({"deviation": lambda d: d * 1.03}, "GELU.*norm True"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_product_is_named(newest: Path, fault: str) -> None:
    spoiled, named = WRONG[fault]
    found = judged(Product(**spoiled))
    assert len(found) == 1
    assert re.search(named, found[0]), found


def test_operators_are_held_against_plain_torch(newest: Path) -> None:
    from f5_tts.fast import trial
    from f5_tts.fast.ops import TorchOps

    plain = plain_ops()
    assert trial.operators(plain_ops(), plain) == []

    class Odd(TorchOps):
        """Every operator a little wrong, in ways kernels are."""

        def norm(self, x: Any, modulation: Any) -> Any:
            return super().norm(x, modulation.flip(0))

        def rotate(self, qkv: Any, table: Any, heads: int) -> Any:
            return super().rotate(qkv, table, max(1, heads - 1))

        def input(self, y: Any, constant: Any, lengths: Any) -> Any:
            return super().input(y, constant, lengths + 1)

        def positions(self, h: Any, lengths: Any) -> Any:
            return super().positions(h, lengths - 1)

        def advance(self, y: Any, flow: Any, delta: Any, guidance: Any) -> None:
            super().advance(y, flow, delta, None if guidance is None else guidance * 1.1)

        def take_row(self, row: Any, to: Any) -> None:
            to[:-16].copy_(row[:-16])

    wrong = trial.operators(Odd(plain._weights), plain)
    assert wrong == ["norm", "add_norm", "rotate", "input", "positions", "advance", "take_row"]


def test_every_tile_of_the_convolution_is_tried(newest: Path) -> None:
    from f5_tts.fast import trial

    plain, tried = plain_ops(), []

    def right(h: torch.Tensor, lengths: torch.Tensor, tile: int | None = None) -> Any:
        tried.append(tile)
        return plain.positions(h, lengths)

    def wrong(h: torch.Tensor, lengths: torch.Tensor, tile: int | None = None) -> Any:
        found = plain.positions(h, lengths)
        return found.roll(1, dims=1) if tile == 120 else found

    tiles = (64, 96, 120, 168)
    assert trial.convolutions(right, plain, tiles)
    assert tuple(tried) == tiles
    assert not trial.convolutions(wrong, plain, tiles)


def test_an_attention_that_is_wrong_is_not_chosen(newest: Path) -> None:
    from f5_tts.fast import attention

    cpu, kind = torch.device("cpu"), torch.float32

    def long_ones_wrong(qkv: torch.Tensor, lengths: Any) -> torch.Tensor:
        """Right for one tile of keys, wrong where a row has many: what a short trial lets pass."""
        out = attention.attend_masked(qkv, lengths)
        return out if qkv.shape[1] < 500 else out.roll(1, dims=1)

    def unmasked(qkv: torch.Tensor, lengths: Any) -> torch.Tensor:
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def missing(qkv: torch.Tensor, lengths: Any) -> torch.Tensor:
        raise RuntimeError("not in this build")

    assert attention.works(attention.attend_masked, 2, 64, cpu, kind)
    for wrong in (long_ones_wrong, unmasked, missing):
        assert not attention.works(wrong, 2, 64, cpu, kind)
