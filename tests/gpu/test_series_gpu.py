"""The series on a real GPU: our kernels against plain torch, and the full-size network.

Needs CUDA, and for the comparison with upstream a patched F5-TTS: `F5_SOURCE=PATCHED/src`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

SOURCE = Path(
    os.environ.get("F5_SOURCE") or Path(__file__).parents[2] / "patches/f5-tts/files/src"
).resolve()
HERE = Path(__file__).parent


def relative(got: Any, want: Any) -> float:
    return float(torch.linalg.vector_norm(got.float() - want) / torch.linalg.vector_norm(want))


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    added = [str(SOURCE), str(HERE)]
    sys.path[:0] = added
    yield
    for path in added:
        sys.path.remove(path)


@pytest.fixture(scope="module")
def parts() -> Any:
    """Weights of two layers at full width, our operators, and plain torch in fp16 and fp32."""
    from f5_tts.fast import arch, weights
    from f5_tts.fast.kernels import FusedOps
    from f5_tts.fast.ops import TorchOps

    sizes = arch.from_mapping(
        {"dim": 1024, "depth": 2, "heads": 16, "ff_mult": 2, "text_dim": 512, "conv_layers": 1}
    )
    state = weights.random_state(sizes, 100, 1)
    device = torch.device("cuda")
    half = weights.fold(state, sizes, device=device, dtype=torch.float16)
    full = weights.fold(
        {k: v.half().float() for k, v in state.items()}, sizes, device=device, dtype=torch.float32
    )
    torch.backends.cudnn.allow_tf32 = False
    yield FusedOps(half), TorchOps(half), TorchOps(full)
    torch.backends.cudnn.allow_tf32 = True


def draw(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, generator=generator, device="cuda", dtype=torch.float16)


@pytest.mark.parametrize(("frames", "valid"), [(64, 33), (512, 468), (1344, 1312)])
def test_kernels_are_plain_torch_to_rounding(parts: Any, frames: int, valid: int) -> None:
    from f5_tts.fast.ops import rotary_table

    own, _, exact = parts
    lengths = torch.tensor([valid, valid - 5], dtype=torch.int32, device="cuda")
    x, y, gate, modulation = (
        draw(2, frames, 1024),
        draw(2, frames, 1024, seed=1),
        draw(1024),
        draw(2, 1024),
    )
    want_x, want_n = exact.add_norm(x.float(), y.float(), gate.float(), modulation.float())
    got_x, got_n = own.add_norm(x.clone(), y, gate, modulation)
    assert relative(got_x, want_x) < 5e-4
    assert relative(got_n, want_n) < 5e-4
    assert relative(own.norm(x, modulation), exact.norm(x.float(), modulation.float())) < 5e-4
    table, qkv = rotary_table(64, frames, torch.device("cuda")), draw(2, frames, 3, 16, 64)
    for heads in (16, 1):
        want = exact.rotate(qkv.float(), table, heads)
        assert relative(own.rotate(qkv.clone(), table, heads), want) < 5e-4
    noise = draw(1, frames, 100).float()
    h = own.input(noise, x.clone(), lengths)
    assert relative(h, exact.input(noise, x.float(), lengths)) < 5e-4
    assert (h[0, valid:] == 0).all() and (h[1, valid - 5 :] == 0).all()
    want = exact.positions(h.float(), lengths)
    hopper = own._hopper_conv
    for conv in {hopper, None}:  # the one for this chip, and the portable one
        own._hopper_conv = conv
        try:
            got = own.positions(h.clone(), lengths)
        finally:
            own._hopper_conv = hopper
        for row, length in enumerate(lengths.tolist()):
            assert relative(got[row, :length], want[row, :length]) < 5e-4
    delta = torch.full((1,), 0.1, device="cuda")
    strength = torch.full((1, 1, 1), 2.0, device="cuda")
    for guidance, rows in ((strength, 2), (None, 1)):
        mine, theirs = noise.clone(), noise.clone()
        own.advance(mine, own.project(x[:rows]), delta, guidance)
        exact.advance(theirs, exact.project(x[:rows].float()), delta, guidance)
        assert relative(mine, theirs) < 1e-3


@pytest.mark.parametrize("hopper", [True, False])
@pytest.mark.parametrize(
    ("frames", "valid"), [(64, 1), (64, 64), (128, 65), (512, 468), (1344, 1312), (2112, 2112)]
)
def test_attention_is_exact_at_every_length(
    parts: Any, hopper: bool, frames: int, valid: int
) -> None:
    from f5_tts.fast import attention

    own = parts[0]
    if hopper and own._hopper is None:
        pytest.skip("not a Hopper GPU")
    qkv = 2 * draw(3, frames, 3, 16, 64)
    lengths = attention.make_lengths(3, frames, torch.device("cuda"))
    lengths.valid.copy_(torch.tensor([valid, max(1, valid // 2), 1], dtype=torch.int32))
    attention.update_lengths(lengths, frames)
    # What lies past a row's length must not matter, whatever it is.
    for row, length in enumerate(lengths.valid.tolist()):
        qkv[row, length:, 1:] = float("nan")
    clean = torch.nan_to_num(qkv, nan=0.0)
    kept, own._hopper = own._hopper, own._hopper if hopper else None
    try:
        got = own.attention()(qkv, lengths)
    finally:
        own._hopper = kept
    want = attention.attend_masked(clean.float(), lengths)
    for row, length in enumerate(lengths.valid.tolist()):
        assert relative(got[row, :length], want[row, :length]) < 5e-4


@pytest.fixture(scope="module")
def ours() -> Any:
    import bench_sides

    return bench_sides.Ours(None)


def test_everything_is_on(ours: Any) -> None:
    machine = ours.synthesizer.engine.machine
    assert machine.ops.fused and machine.graphs and machine.attend_name == "own"
    assert machine.ops.missing == ()
    assert machine.ops._text and ours.synthesizer.engine._vocos_blocks
    if torch.cuda.get_device_capability() == (9, 0):
        assert machine.folds_norms() and machine.ops._gemm and machine.ops._hopper_conv


def test_the_trials_pass_what_is_right(parts: Any) -> None:
    from f5_tts.fast import conv, trial

    own, plain, _ = parts
    assert trial.operators(own, plain) == []
    if own._hopper is None:
        pytest.skip("not a Hopper GPU")
    assert trial.products(own._gemm, plain, 16) == []
    assert trial.convolutions(own._hopper_conv, plain, conv.FRAMES)


def broken(folder: Path) -> None:
    """Whole files, as the digest in front of them says, of what no driver can load."""
    for path in folder.glob("*.cubin"):
        code = b"no machine code" * 100
        path.write_bytes(hashlib.blake2b(code, digest_size=16).digest() + code)


def test_products_that_cannot_be_loaded_are_the_librarys(
    parts: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from f5_tts.fast.gemm import Gemm
    from f5_tts.fast.kernels import FusedOps

    own, plain, _ = parts
    if own._hopper is None:
        pytest.skip("not a Hopper GPU")
    Gemm(16, tmp_path)
    broken(tmp_path)
    without = FusedOps(plain._weights, cache_dir=tmp_path)
    assert without._gemm is None and without._hopper_conv is not None
    assert [line.partition(":")[0] for line in without.missing] == ["products"]
    assert len([r for r in caplog.records if "which costs time" in r.getMessage()]) == 1
    x, layer = draw(2, 480, 1024), plain._weights.layers[0]
    got, want = (ops.gelu_linear(x, layer.ff1_w, layer.ff1_b) for ops in (without, own))
    assert relative(got, want.float()) < 1e-3


def test_kernels_that_cannot_be_loaded_are_plain_torch(
    ours: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from f5_tts.fast import kernels
    from f5_tts.fast.engine import Engine

    engine = ours.synthesizer.engine
    kernels.FusedOps(engine.weights, cache_dir=tmp_path)
    broken(tmp_path)
    plain = Engine(engine.weights, engine.vocos, engine.switches, cache_dir=tmp_path)
    assert not plain.machine.ops.fused
    (said,) = [r for r in caplog.records if "plain torch computes" in r.getMessage()]
    assert "CUDA error" in said.getMessage()
    want = ours.run("S")[0]
    with ours.engine(plain):
        got = ours.run("S")[0]
    assert relative(torch.from_numpy(got), torch.from_numpy(want)) < 0.05


@pytest.mark.parametrize(
    "switch",
    ["attention", "varlen", "conv", "gemm", "norms", "pdl", "gelu_epilogue", "fused_qkv", "kernels",
     "text_kernels", "graphs", "schedule", "istft", "vocoder_tf32"],
)  # fmt: skip
def test_each_switch_off_speaks_the_same(ours: Any, switch: str) -> None:
    """What takes over where a part is off, or not to be had, gives the same to rounding."""
    want = ours.run("S")[0]
    with ours.engine(ours.with_switches(**{switch: False})):
        got = ours.run("S")[0]
    assert relative(torch.from_numpy(got), torch.from_numpy(want)) < 0.05


def test_no_step_waits_for_the_device(ours: Any) -> None:
    """From loading the jobs to their mels: the host is held back by the pace alone."""
    import bench_sides

    engine = ours.synthesizer.engine
    ((_, job),) = ours.side.jobs(*bench_sides.first_of("S"))
    tables = engine.tables(engine.schedule(7, -1.0))
    engine.mels([job], tables)
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.mels([job], tables)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_other_buckets_in_between_change_nothing(ours: Any) -> None:
    """Short and long, alone and in batches, on both sides of the limit of folded norms."""
    import numpy as np

    alone = {name: ours.run(name)[0] for name in ("S", "M", "R3")}
    for name, count in (("M", 2), ("S", 3), ("R3", 1), ("S", 1), ("M", 1), ("S", 4)):
        ours.run(name, count=count)
    assert all(np.array_equal(ours.run(name)[0], wave) for name, wave in alone.items())


def test_seeds_batches_and_voices(ours: Any) -> None:
    import numpy as np

    first, again = ours.run("S")[0], ours.run("S")[0]
    assert np.array_equal(first, again)
    together = ours.run("S", count=3)
    alone = ours.run("S", count=1)[0]
    noise = np.linalg.norm(together[0] - alone) / np.linalg.norm(alone)
    assert noise < 0.02
    assert not np.array_equal(together[0], together[1])


def test_work_of_a_step(ours: Any) -> None:
    import bench_parts

    counted = bench_parts.work(ours, None)["ours"]
    assert counted["kernels_per_nfe"] <= 250
    assert counted["counted_gb_per_nfe"] <= 4.2


@pytest.mark.skipif(importlib.util.find_spec("vocos") is None, reason="vocos is not installed")
@pytest.mark.skipif("F5_SOURCE" not in os.environ, reason="F5_SOURCE names no patched F5-TTS")
def test_full_size_fidelity(ours: Any) -> None:
    import bench_parts
    import bench_sides

    half = bench_sides.Upstream(SOURCE)
    for name, found in bench_parts.fidelity(ours, half).items():
        assert found["ours_fp16_snr_db"] >= 40.0, name
        assert found["ours_fp16_snr_db"] >= found["upstream_fp16_snr_db"], name
        assert found["ours_fp32_relative_error"] <= 1e-5, name
        assert found["same_seed_bit_equal"], name
        assert found["batched_against_single_snr_db"] >= found["upstream_fp16_snr_db"], name
        assert found["vocoder_snr_db"] >= 50.0, name


def test_memory_is_bounded(ours: Any) -> None:
    torch.cuda.reset_peak_memory_stats()
    ours.run("M")
    engine = dataclasses.asdict(ours.synthesizer.engine.switches)
    assert engine["graphs"]
    assert torch.cuda.max_memory_allocated() < 3e9
