"""What can be said of the GPU code without a GPU: it compiles, and the proof and counter work."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
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
    before = kept.stat()
    assert nvrtc.compiled(source, "sm_87", {"N": 1}, tmp_path) == first
    # Read, not written again; and another constant is another file.
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert nvrtc.compiled(source, "sm_87", {"N": 2}, tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("left", ["nothing", "half", "zeros", "another kernel"])
def test_a_file_cut_short_is_made_again(newest: Path, tmp_path: Path, left: str) -> None:
    """A box that lost power may keep the file's name without its contents: such a file must not
    cost the kernels of every later start."""
    from f5_tts.fast import nvrtc

    source = 'extern "C" __global__ void f(int *a) { a[0] = 1; }'
    compiled(source, "sm_87", {})
    code = nvrtc.compiled(source, "sm_87", {}, tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    assert code in whole
    kept.write_bytes(
        {
            "nothing": b"",
            "half": whole[: len(whole) // 2],
            "zeros": b"\0" * len(whole),
            "another kernel": whole[:16] + bytes(len(code)),
        }[left]
    )
    assert nvrtc.compiled(source, "sm_87", {}, tmp_path) == code
    assert kept.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [kept], "nothing half-written is left behind"


def test_a_folder_that_takes_no_files_costs_no_start(
    newest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from f5_tts.fast import nvrtc

    source = 'extern "C" __global__ void f(int *a) { a[0] = 3; }'
    want = compiled(source, "sm_87", {})
    (tmp_path / "file").write_text("no folder can be made here")
    with caplog.at_level(logging.WARNING):
        assert nvrtc.compiled(source, "sm_87", {}, tmp_path / "file" / "cache") == want
    (line,) = caplog.records
    assert "compiled kernels are not kept" in line.getMessage()


def test_many_compile_side_by_side(newest: Path, tmp_path: Path) -> None:
    """The same kernels wanted by several threads at once, as by two engines in one process."""
    from f5_tts.fast import nvrtc

    source = 'extern "C" __global__ void f(int *a) { a[0] = N; }'
    compiled(source, "sm_87", {"N": 0})
    wanted = [(source, {"N": number}) for number in (1, 2, 3)] * 4
    codes = nvrtc.compiled_all(wanted, "sm_87", tmp_path)
    assert codes[:3] * 4 == codes and len(set(codes)) == 3
    assert len(list(tmp_path.iterdir())) == 3
    bad = [*wanted[:2], ("__global__ void f() { nothing(); }", {})]
    with pytest.raises(nvrtc.KernelsUnavailable, match="undefined"):
        nvrtc.compiled_all(bad, "sm_87", tmp_path)


def test_a_library_that_says_no_is_quoted(newest: Path) -> None:
    """Which function it was, and what it returned."""
    from f5_tts.fast import nvrtc

    library = nvrtc._library(["libc.so.6"])
    nvrtc.check(library, "abs", 0)
    with pytest.raises(nvrtc.KernelsUnavailable, match=r"^abs returned 2$"):
        nvrtc.check(library, "abs", -2)
    with pytest.raises(nvrtc.KernelsUnavailable, match=r"libc\.so\.6 has no cuNothing"):
        nvrtc.check(library, "cuNothing")


def test_the_bridge_keeps_what_it_compiles(
    newest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from f5_tts.fast.bridge import kernels_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_folder() == tmp_path / "f5-tts-fast"
    monkeypatch.setenv("F5_FAST_CACHE", str(tmp_path / "mine"))
    assert kernels_folder() == tmp_path / "mine"
    monkeypatch.delenv("F5_FAST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kernels_folder() == tmp_path / ".cache" / "f5-tts-fast"


def test_tables_are_made_in_full_precision(newest: Path) -> None:
    """TF32 is a setting of the process: on elsewhere, or for the moment a vocoder is captured."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[tuple[str, bool]] = set()

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call,unused-ignore]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.add((func.overloadpacket.__name__, torch.backends.cuda.matmul.allow_tf32))
            return func(*args, **(kwargs or {}))

    engine = small.synthesizer().engine
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with Watch():  # type: ignore[no-untyped-call,unused-ignore]
            engine.tables(engine.schedule(7, -1.0))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    products = {(name, tf32) for name, tf32 in seen if name in ("mm", "addmm", "linear")}
    assert products and not any(tf32 for _, tf32 in products), seen


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


def test_the_folded_file_can_be_turned_off(
    newest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from f5_tts.fast.synthesizer import Synthesizer

    for value, files in (("0", 0), ("1", 2)):
        monkeypatch.setenv("F5_FAST_FOLDED", value)
        Synthesizer.load(
            model=small.ARCH, ckpt_file=None, device="cpu", random_weights_seed=1,
            cache_dir=tmp_path,
        )  # fmt: skip
        assert len(list(tmp_path.iterdir())) == files


def test_every_switch_is_read_from_its_own_variable(newest: Path) -> None:
    """One variable an optimisation, each of which turns that one alone."""
    import dataclasses

    from f5_tts.fast import switches

    usual = dataclasses.asdict(switches.read({}))
    assert {name for name, on in usual.items() if not on} == {"compile"}
    for name, on in usual.items():
        turned = switches.read({f"F5_FAST_{name.upper()}": str(int(not on))})
        changed = {n for n, value in dataclasses.asdict(turned).items() if value != usual[n]}
        assert changed == {name}


def test_every_switch_is_used_and_explained() -> None:
    """A switch that nothing asks for turns nothing off."""
    import ast

    import f5_sources

    folder = f5_sources.SERIES / "files/src/f5_tts/fast"
    source = {path.name: path.read_text() for path in folder.rglob("*.py")}
    asked = "\n".join(text for name, text in source.items() if name != "switches.py")
    (declared,) = (
        node
        for node in ast.parse(source["switches.py"]).body
        if isinstance(node, ast.ClassDef) and node.name == "Switches"
    )
    names = [n.target.id for n in declared.body if isinstance(n, ast.AnnAssign)]  # type: ignore[union-attr]
    assert "graphs" in names and "compile" in names
    docs = (Path(__file__).parents[2] / "docs/speed-series.md").read_text()
    for name in names:
        assert f"switches.{name}" in asked or f"on.{name}" in asked or f").{name}" in asked, name
        assert f"`{name}`" in (ast.get_docstring(declared) or ""), name
        assert name.upper() in docs, f"docs/speed-series.md says nothing about {name}"


@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_the_compiler_is_in_nobodys_way(newest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the switch on a start and its first request compile nothing; a bucket is the
    compiler's when somebody had it made, and speaks the same."""
    monkeypatch.setenv("F5_FAST_COMPILE", "1")
    # A process of its own: the compiler imports setuptools, which refuses to load where pip or
    # distutils were imported before, as other tests do.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        difference = alone.submit(_start_speak_compile_speak).result()
    assert difference < 1e-3


def _start_speak_compile_speak() -> float:
    """How far what the compiler's bucket says is from what was said before, relative."""
    from f5_tts.fast.engine import Engine
    from f5_tts.fast.step import velocity
    from f5_tts.fast.synthesizer import SynthesisSettings
    from torch._dynamo.utils import counters

    torch.set_num_threads(1)
    synthesizer = small.synthesizer(depth=1, conv_layers=1)
    old = synthesizer.engine
    assert old.switches.compile
    engine = Engine(old.weights, old.vocos, old.switches, bucket=192)
    synthesizer._engine = engine
    voice = synthesizer.voice(small.clip(0, 1.2), 24000, "Some call me so.")
    settings = SynthesisSettings(seed=1, nfe=5)
    counters.clear()
    synthesizer.warm(full=True)
    want = synthesizer.synthesize("It is I.", voice, settings)
    assert not counters["stats"].get("unique_graphs")
    job = synthesizer.job("It is I.", voice, settings, torch.Generator())
    assert engine.step_plan(engine.rounded(job.frames), 1, True)._machine.network is velocity

    engine.compile_plan(job.frames)
    assert engine.step_plan(engine.rounded(job.frames), 1, True)._machine.network is not velocity
    got = synthesizer.synthesize("It is I.", voice, settings)
    assert counters["stats"]["unique_graphs"] > 0
    return float(small.relative(torch.from_numpy(got), torch.from_numpy(want)))
