"""What can be said of the GPU code without a GPU: it compiles, and the proof and counter work."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import f5_small as small
import pytest
import torch

SIZES = {"DIM": 1024, "HEADS": 16, "HALF": 32, "MEL": 100, "MELP": 104, "BLOCKS": 2}


def compiled(source: str, target: str, sizes: dict[str, int]) -> bytes:
    from f5_tts.fast import nvrtc

    try:
        nvrtc._library(nvrtc._nvrtc_names())
    except nvrtc.KernelsUnavailable as reason:
        pytest.skip(f"no NVRTC here: {reason}")
    return nvrtc.compile_source(source, target, sizes)


@pytest.mark.parametrize("target", ["sm_80", "sm_87", "sm_90"])
def test_kernels_compile_for(newest: Path, target: str) -> None:
    from f5_tts.fast import cuda_source

    code = compiled(cuda_source.SOURCE, target, SIZES)
    names = (
        b"add_norm",
        b"rotate",
        b"attend",
        b"join_input",
        b"advance",
        b"conv_first",
        b"conv_second",
    )
    assert all(name in code for name in names)


def test_kernels_compile_for_the_small_model(newest: Path) -> None:
    from f5_tts.fast import cuda_source

    sizes = {**SIZES, "DIM": 768, "HEADS": 12}
    assert b"conv_first" not in compiled(cuda_source.SOURCE, "sm_87", sizes)


def test_a_compile_error_is_told(newest: Path) -> None:
    from f5_tts.fast import nvrtc

    compiled("", "sm_87", {})
    with pytest.raises(nvrtc.KernelsUnavailable, match="undefined"):
        nvrtc.compile_source("__global__ void f() { nothing(); }", "sm_87", {})


def test_compiled_code_is_kept(newest: Path, tmp_path: Path) -> None:
    from f5_tts.fast import nvrtc

    source = 'extern "C" __global__ void f(int *a) { a[0] = N; }'
    compiled(source, "sm_87", {"N": 1})
    first = nvrtc.compiled(source, "sm_87", {"N": 1}, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"seen")
    assert nvrtc.compiled(source, "sm_87", {"N": 1}, tmp_path) == b"seen"
    assert nvrtc.compiled(source, "sm_87", {"N": 2}, tmp_path) not in (b"seen", first)


def test_counter_counts_bytes_and_flops(newest: Path) -> None:
    from f5_tts.fast import count

    x, w = torch.ones(8, 16), torch.ones(4, 16)
    with count.watching() as tally:
        torch.nn.functional.linear(x, w).view(4, 8)
    assert tally.flops == 2 * 8 * 16 * 4
    assert tally.moved >= 4 * (8 * 16 + 4 * 16 + 8 * 4)
    with count.watching() as nothing:
        x.view(128).unsqueeze(0)
    assert (nothing.launches, nothing.moved) == (0, 0)


def test_proof_passes_on_a_patched_tree(newest: Path) -> None:
    from f5_tts.fast import verify

    results = {result["check"]: result for result in verify.run("cpu")}
    assert results["voices"]["state"] == "ok"
    assert results["fidelity"]["state"] == "ok", results["fidelity"]
    assert results["graphs"]["state"] == results["kernels"]["state"] == "unknown"
    if importlib.util.find_spec("pydub"):
        assert results["hooks"]["state"] == "ok", results["hooks"]


def test_proof_fails_on_a_wrong_result(newest: Path) -> None:
    from f5_tts.fast import verify

    proof: Any = verify.Proof("cpu")
    proof.engine._rotary = proof.engine._rotary.roll(1, dims=1)
    with pytest.raises(AssertionError, match="dB from"):
        proof.fidelity()


@pytest.mark.parametrize(
    "switch", ["fused_qkv", "schedule", "istft", "batching", "voices", "first_chunk"]
)
def test_every_switch_off_gives_the_same_speech(
    newest: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    import numpy as np
    from f5_tts.fast.synthesizer import SynthesisSettings

    words = "This is a first sentence of some length. " * 5
    settings = SynthesisSettings(nfe=5, seed=7)
    on = small.synthesizer()
    want = on.synthesize(words, on.voice(small.clip(0), 24000, small.TRANSCRIPT), settings)
    monkeypatch.setenv(f"F5_FAST_{switch.upper()}", "0")
    off = small.synthesizer()
    assert not getattr(off.engine.switches, switch)
    got = off.synthesize(words, off.voice(small.clip(0), 24000, small.TRANSCRIPT), settings)
    if switch == "first_chunk":
        assert abs(got.size - want.size) < 2 * 24000
    else:
        assert got.shape == want.shape
        assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()
