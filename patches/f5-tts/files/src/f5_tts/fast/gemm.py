"""Our matrix products on Hopper: which tile for which shape, and the launch.

`Gemm` computes with what follows a product in the network done before it leaves the chip. Where no
tile fits (or measured slower than cuBLAS), `tile_for` gives None and the caller uses the library.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from f5_tts.fast.count import size
from f5_tts.fast.cuda_gemm import GATED, GELU, PLAIN, ROTARY, source
from f5_tts.fast.nvrtc import Module, TensorMap, compiled_all
from torch import Tensor

__all__ = ["GATED", "GELU", "PLAIN", "ROTARY", "Gemm", "Tile", "tile_for"]

SHARED_LIMIT = 232448
BARRIERS = 256
_MAPS_KEPT = 4096


@dataclass(frozen=True)
class Tile:
    """How a product is cut up: `tokens` by 64 * `groups` features; `ct` blocks share weights."""

    tokens: int
    groups: int = 2
    ct: int = 1
    most_stages: int = 8

    @property
    def features(self) -> int:
        return 64 * self.groups

    @property
    def _stage(self) -> int:
        return (self.features + self.tokens) * 128

    @property
    def _rest(self) -> int:
        """Bytes beside the stages: the result on its way, norms of two tiles, barriers."""
        return self.features * self.tokens * 2 + 16 * self.tokens + BARRIERS

    @property
    def stages(self) -> int:
        """As many as fit."""
        return min(self.most_stages, (SHARED_LIMIT - self._rest) // self._stage)

    @property
    def shared(self) -> int:
        return self.stages * self._stage + self._rest

    def defines(self, epilogue: int, norm: bool, heads: int) -> dict[str, int]:
        return {
            "BN": self.tokens, "WGS": self.groups, "STAGES": self.stages, "CT": self.ct,
            "EPI": epilogue, "NORM": int(norm), "HEADS": heads,
        }  # fmt: skip


@dataclass(frozen=True)
class Norm:
    """A norm folded into two products, see `cuda_gemm`.

    `moments`: (blocks of 64 features, tokens, 2) fp32 of the normed tensor. The product before
    also takes `scale` (features,) and `scaled` (tokens, features); the one behind `fold`
    (2, features) fp32.
    """

    moments: Tensor
    scale: Tensor | None = None
    scaled: Tensor | None = None
    fold: Tensor | None = None


class Gemm:
    """Compiled tiles, and the maps through which the copy engine reads and writes."""

    def __init__(self, heads: int, cache_dir: Path | None, *, dependent: bool = True) -> None:
        """Compiles and loads the whole menu, or reads it from `cache_dir`: no request waits for
        it, and nothing is loaded while a graph is captured.

        KernelsUnavailable where NVRTC or the driver cannot.
        """
        self._dependent = dependent
        self._maps: dict[tuple[int, ...], TensorMap] = {}
        self._processors = torch.cuda.get_device_properties().multi_processor_count
        TensorMap(torch.empty(64, 64, dtype=torch.float16, device="cuda"), 64)
        keys = [
            (tile, kind, norm) for kind in MENU for tile in MENU[kind] for norm in (False, True)
        ]
        code = compiled_all(
            [(source(tile.tokens), tile.defines(kind, norm, heads)) for tile, kind, norm in keys],
            "sm_90a",
            cache_dir,
        )
        self._modules = {key: Module(cubin) for key, cubin in zip(keys, code, strict=True)}
        for (tile, _, _), module in self._modules.items():
            module.ready("gemm", tile.shared)

    def _map(self, matrix: Tensor, rows: int) -> TensorMap:
        key = (matrix.data_ptr(), *matrix.shape, matrix.stride(0), rows)
        found = self._maps.get(key)
        if found is None:
            if len(self._maps) >= _MAPS_KEPT:
                self._maps.clear()
            found = self._maps[key] = TensorMap(matrix, rows)
        return found

    def __call__(
        self,
        tile: Tile,
        epilogue: int,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        out: Tensor,
        *,
        gate: Tensor | None = None,
        norm: Norm | None = None,
        table: Tensor | None = None,
        frames: int = 0,
        rotated: int = 0,
    ) -> None:
        """out (tokens, features) from x (tokens, k) and weight (features, k); `out` is added to
        where the epilogue is GATED. `table`: (2, frames, 32) fp32 for ROTARY."""
        tokens, features = out.shape
        module = self._modules[tile, epilogue, norm is not None]
        feature_groups = features // tile.features
        token_groups = -(-tokens // (tile.tokens * tile.ct))
        clusters = min(feature_groups * token_groups, self._processors // tile.ct)
        scaled = out if norm is None or norm.scaled is None else norm.scaled
        moved = sum(map(size, (x, weight, bias, out)))
        if epilogue == GATED:
            moved += size(out) + (0 if norm is None else size(scaled))
        module.launch(
            "gemm",
            (clusters * tile.ct, 1, 1),
            128 * tile.groups + (64 if norm is not None and epilogue != GATED else 32),
            self._map(weight, tile.features // tile.ct),
            self._map(x, tile.tokens),
            self._map(out, tile.tokens),
            self._map(scaled, tile.tokens),
            bias,
            gate,
            None if norm is None else norm.scale,
            None if norm is None else norm.fold,
            None if norm is None else norm.moments,
            table,
            x.shape[1] // 64,
            feature_groups,
            token_groups,
            tokens,
            frames,
            rotated,
            shared=tile.shared,
            cluster=tile.ct,
            dependent=self._dependent,
            work=(moved, 2 * tokens * weight.numel()),
        )


# Few token counts, so that few kernels are compiled; together they fill 132 multiprocessors in
# whole waves for most lengths.
MENU: dict[int, tuple[Tile, ...]] = {
    GATED: (
        *(Tile(n) for n in (64, 96, 128, 144, 168)),
        *(Tile(n, groups=1) for n in (96, 120)),
    ),
    GELU: (*(Tile(n) for n in (64, 96, 120, 144)), Tile(168, ct=2)),
    ROTARY: (
        *(Tile(n, groups=3) for n in (96, 120)),
        *(Tile(n) for n in (96, 128, 168)),
    ),
}
# Fitted to 158 measurements on an H200 (tiles at 960 to 43,008 tokens, 8 % apart in the mean):
# microseconds of a tile beside its products, cycles in a microsecond at the clock that long work
# leaves, and microseconds for a million results, which are the same for all tiles.
TILE_US = 0.98
CYCLES_PER_US = 1450
RESULTS_US = 0.63


def microseconds(tile: Tile, tokens: int, features: int, k: int, processors: int = 132) -> float:
    """What the product should take with this tile: whole waves of tiles."""
    groups = features // tile.features * -(-tokens // (tile.tokens * tile.ct))
    waves = -(-groups // (processors // tile.ct))
    # Of a stage: its products, or 80 bytes a cycle that reach a multiprocessor; what takes longer.
    products = 2 * tile.groups * tile.tokens
    stage = max(products, (tile.features + tile.tokens) * 128 / 80) / CYCLES_PER_US
    return waves * (TILE_US + stage * k / 64) + RESULTS_US * tokens * features / 1e6


@functools.cache
def tile_for(epilogue: int, tokens: int, features: int, k: int) -> Tile | None:
    """The tile that should be fastest for such a shape; None where the library is to be used."""
    fitting = [tile for tile in MENU[epilogue] if features % tile.features == 0 and k % 64 == 0]
    if not fitting:
        return None
    return min(fitting, key=lambda tile: microseconds(tile, tokens, features, k))
