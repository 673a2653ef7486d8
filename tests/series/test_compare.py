"""The comparison with upstream, really run: unpatched sources of each version, a small network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import f5_sources
import numpy as np
import pytest

pytest.importorskip("vocos", reason="upstream speaks with the package vocos")
pytestmark = pytest.mark.timeout(900)

CHUNKED = "It goes on and on, over all the hills and all the valleys, until nobody listens. " * 6
WORKS = [
    {"name": "one", "reference_s": 1.0, "nfe": 3, "seed": 1,
     "utterances": [["Hello there, chat of mine.", 0, 0.6]]},
    {"name": "long", "reference_s": 1.5, "nfe": 3, "seed": 1, "utterances": [[CHUNKED, 1, None]]},
]  # fmt: skip


def compare(patched: Path, upstream: Path, works: list[Any], folder: Path, *more: str) -> Any:
    """(exit code, the document or None, stderr)."""
    (folder / "work.json").write_text(json.dumps(works))
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "f5_tts.fast.compare", "--upstream", str(upstream), "--work",
         str(folder / "work.json"), "--preset", "small", "--device", "cpu", "--runs", "3",
         "--warm-up", "1", "--out", str(out), *more],
        env={**os.environ, "PYTHONPATH": str(patched), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(out.read_text()) if out.is_file() else None, done.stderr


@pytest.mark.parametrize("number", f5_sources.VERSIONS)
def test_both_sides_in_turns(number: str, sources: Callable[[str], Path], tmp_path: Path) -> None:
    upstream = f5_sources.unpack(number, tmp_path / "upstream") / "src"
    works = WORKS if number == f5_sources.VERSIONS[-1] else WORKS[:1]
    code, found, told = compare(sources(number), upstream, works, tmp_path)
    assert code == 0, told
    assert found["failed"] == {}
    assert (found["kind"], found["about"]["gpu"]) == ("f5-comparison", "cpu")
    one = found["workloads"]["one"]
    for side in ("ours", "upstream"):
        assert one[side]["total"]["runs"] == len(one[side]["total_s"]) == 3
        assert one[side]["audio_s"] == pytest.approx(0.6, abs=0.02)
        assert one[side]["rtf"] > 0 and one[side]["times_floor"] > 0
        assert one[side]["step"]["gb_per_nfe"] > 0
    # The same work by both: FLOPs of the pass, by the shape there and by the calls seen here.
    assert one["ours"]["tflop"] == pytest.approx(one["upstream"]["tflop"])
    assert one["ours"]["step"]["tflop_per_nfe"] * 3 == pytest.approx(one["ours"]["tflop"], rel=0.01)
    assert one["ours"]["step"]["kernels_per_nfe"] < one["upstream"]["step"]["kernels_per_nfe"]
    assert one["faster"]["upstream"]["total"]["times"] > 0
    for workload in found["workloads"].values():
        fidelity = workload["fidelity"]
        assert fidelity["passed"] is True, fidelity
        assert fidelity["mel_snr_db"] > 90 and fidelity["wave_snr_db"] > 80
        assert fidelity["same_seed_bit_equal"] is True
    if len(works) > 1:
        long = found["workloads"]["long"]
        assert long["fidelity"]["pieces"] == 2
        assert long["ours"]["audio_s"] == pytest.approx(long["upstream"]["audio_s"], rel=0.1)
        # Streamed, so the first audio does not wait for the last; by the same clock in one pass.
        assert min(long["ours"]["first_audio_s"]) < max(long["ours"]["total_s"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_upstream_compiled_is_a_side_of_its_own(
    sources: Callable[[str], Path], tmp_path: Path
) -> None:
    version = f5_sources.VERSIONS[-1]
    upstream = f5_sources.unpack(version, tmp_path / "upstream") / "src"
    sides = ("--side", "ours", "--side", "upstream-compiled")
    code, found, told = compare(sources(version), upstream, WORKS[:1], tmp_path, *sides)
    assert code == 0 and found["failed"] == {}, told
    assert found["sides"]["upstream-compiled"]["compiled"] is True
    one = found["workloads"]["one"]
    assert one["upstream-compiled"]["audio_s"] == pytest.approx(0.6, abs=0.02)
    opaque = one["upstream-compiled"]["step"]
    assert (opaque["gb_per_nfe"], opaque["kernels_per_nfe"]) == (None, None)
    assert "takes the sides" in one["fidelity"]["unknown"]


def test_a_patched_tree_is_no_upstream(sources: Callable[[str], Path], tmp_path: Path) -> None:
    version = f5_sources.VERSIONS[-1]
    copy = tmp_path / "copy"
    shutil.copytree(sources(version), copy)
    code, found, _ = compare(sources(version), copy, WORKS[:1], tmp_path)
    assert code == 0
    assert "give an unpatched tree" in found["failed"]["upstream"]
    assert "upstream" not in found["workloads"]["one"]


def test_what_cannot_be_compared_is_said(sources: Callable[[str], Path], tmp_path: Path) -> None:
    version = f5_sources.VERSIONS[-1]
    empty = {**WORKS[0], "utterances": [["  ", 0, None]]}
    code, found, told = compare(sources(version), tmp_path, [empty], tmp_path)
    assert (code, found) == (2, None)
    assert "has nothing to speak" in told
    code, _, told = compare(sources(version), tmp_path, [{"name": "x"}], tmp_path)
    assert code == 2 and "this is no work" in told


def rows(error: float) -> tuple[list[Mapping[str, Any]], list[Any], list[Any]]:
    """Ours and upstream's as `fidelity` takes them; ours is off by `error`, upstream by 0.05."""
    rng = np.random.default_rng(3)
    mel, wave = rng.standard_normal((50, 100)), rng.standard_normal(5000)

    def off(values: Any, by: float) -> Any:
        noise = rng.standard_normal(values.shape)
        return values + by * noise * np.linalg.norm(values) / np.linalg.norm(noise)

    ours = {"mel": off(mel, error), "wave": off(wave, error), "fp32_mel": off(mel, 1e-6),
            "frames": 50, "bit_equal": True}  # fmt: skip
    return [ours], [(off(mel, 0.05), off(wave, 0.05))], [(mel, wave)]


def test_fidelity_has_bounds_on_mel_and_wave(newest: Path) -> None:
    from f5_tts.fast.compare import figures

    fine = figures.fidelity(*rows(0.003))
    assert fine["passed"] is True
    assert fine["mel_snr_db"] == pytest.approx(50.46, abs=0.05)
    assert fine["wave_snr_db"] == pytest.approx(50.46, abs=0.05)
    assert figures.fidelity(*rows(0.012))["passed"] is False, "38 dB is below the bound of mel"
    ours, native, exact = rows(0.003)
    deaf = [{**ours[0], "wave": np.zeros(5000)}]
    assert figures.fidelity(deaf, native, exact)["passed"] is False
    short = [{**ours[0], "mel": np.zeros((49, 100))}]
    assert figures.fidelity(short, native, exact)["passed"] is False
    unsteady = [{**ours[0], "bit_equal": False}]
    assert figures.fidelity(unsteady, native, exact)["passed"] is False
    # Better than the bound and still worse than upstream's own fp16: not good enough.
    precise = [(exact[0][0] * (1 + 1e-5), exact[0][1])]
    assert figures.fidelity(ours, precise, exact)["passed"] is False


def test_ratios_have_intervals(newest: Path) -> None:
    from f5_tts.fast.compare import figures

    rng = np.random.default_rng(1)
    ours, other = 0.02 + 1e-4 * rng.random(20), 0.3 + 1e-2 * rng.random(20)
    found = figures.faster(list(ours), list(other))
    low, times, high = found["low"], found["times"], found["high"]
    assert low is not None and times is not None and high is not None
    assert low < times < high
    assert times == pytest.approx(15.2, rel=0.03)
    assert figures.faster([1.0], [2.0]) == {"times": 2.0, "low": None, "high": None}
    assert figures.spread([0.001, 0.002])["low_ms"] is None


def test_flops_by_shape(newest: Path) -> None:
    """The published figure, and what torch's own counter sees in upstream's network."""
    import torch
    from f5_small import ARCH, upstream_model
    from f5_tts.fast import arch
    from f5_tts.fast.compare import counting
    from torch.utils.flop_counter import FlopCounterMode

    base = arch.from_name("F5TTS_v1_Base")
    assert 7 * counting.flops(base, 2, 1312) == pytest.approx(9.13e12, rel=0.005)
    frames = 300
    network = upstream_model(newest).transformer
    x, cond = torch.randn(1, frames, 100), torch.randn(1, frames, 100)
    text, moment = torch.ones(1, 40, dtype=torch.long), torch.full((), 0.3)

    def call() -> None:
        network(x=x, cond=cond, text=text, time=moment, cfg_infer=True, cache=True)

    with torch.no_grad():
        call()  # the text, which is encoded once and not in every step
        with FlopCounterMode(display=False) as counter:
            call()
    sizes = arch.from_mapping(ARCH)
    # torch counts no attention on a CPU: two products of (frames, 64) and (64, frames) a head.
    attention = 2 * sizes.depth * sizes.heads * 2 * (2 * frames * frames * sizes.dim_head)
    wanted = counting.flops(sizes, 2, frames) - attention
    # The time embedding and AdaLN are no part of it: they depend on the schedule alone.
    assert wanted <= counter.get_total_flops() <= 1.02 * wanted
