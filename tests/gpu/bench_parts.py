"""The parts of `bench_series.py`: one function each, which gives what goes into the document."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_sides import WORKLOADS, Ours, Upstream, first_of, spread, text_of
from f5_tts.fast.compare.figures import decibels, relative
from f5_tts.fast.compare.ours import timed


def latency(ours: Ours, upstream: Upstream | None, runs: int) -> dict[str, Any]:
    """Both sides interleaved, S and M; upstream a fifth as often, because it is slow."""
    os.environ["F5_FAST_BRIDGE"] = "0"
    result: dict[str, Any] = {}
    for name in ("S", "M", "R3", "L"):
        ours_s: list[float] = []
        upstream_s: list[float] = []
        for _ in range(20):
            ours.run(name)
        if upstream is not None and name in ("S", "M"):
            for _ in range(3):
                upstream.run(name)
        for index in range(runs):
            ours_s.append(timed(lambda n=name: ours.run(n)))
            if upstream is not None and name in ("S", "M") and index % 5 == 0:
                upstream_s.append(timed(lambda n=name: upstream.run(n)))
        seconds = WORKLOADS[name][1] - WORKLOADS[name][0]
        result[name] = {"ours": spread(ours_s)}
        result[name]["ours"]["rtf"] = round(result[name]["ours"]["p50_ms"] / 1e3 / seconds, 5)
        if upstream_s:
            result[name]["upstream_fp16"] = spread(upstream_s)
    return result


def bridge(ours: Ours, upstream: Upstream, runs: int) -> dict[str, Any]:
    """Upstream's own `infer_batch_process` with the hook on: what iShowTTS gets."""
    os.environ["F5_FAST_BRIDGE"] = "1"
    result = {}
    for name in ("S", "M"):
        for _ in range(5):
            upstream.run(name)
        result[name] = spread([timed(lambda n=name: upstream.run(n)) for _ in range(runs)])
    os.environ["F5_FAST_BRIDGE"] = "0"
    upstream.cfm.__dict__.pop("_f5_fast_bridge", None)
    return result


def ablation(ours: Ours, runs: int) -> dict[str, Any]:
    """One switch turned at a time: what each is worth."""
    turned: dict[str, dict[str, bool]] = {
        "everything on": {},
        "own attention off": {"attention": False},
        "varlen off (mask)": {"varlen": False},
        "conv kernel off": {"conv": False},
        "text and vocoder kernels off": {"text_kernels": False},
        "GELU epilogue off": {"gelu_epilogue": False},
        "fused QKV off": {"fused_qkv": False},
        "own products off": {"gemm": False},
        "norms in products off": {"norms": False},
        "dependent launches off": {"pdl": False},
        "all own kernels off": {"kernels": False},
        "graphs off": {"graphs": False},
        "schedule off": {"schedule": False},
        "own istft off": {"istft": False},
        "vocoder TF32 off": {"vocoder_tf32": False},
        "own kernels and graphs off": {"kernels": False, "graphs": False},
    }
    engines = {name: ours.with_switches(**off) for name, off in turned.items()}
    result: dict[str, Any] = {}
    for name, engine in engines.items():
        with ours.engine(engine):
            for workload in ("S", "M"):
                for _ in range(3):
                    ours.run(workload)
                times = [timed(lambda w=workload: ours.run(w)) for _ in range(runs)]
                result.setdefault(name, {})[workload] = spread(times)
        engine._step_plans.clear()
        engine._vocoder_plans.clear()
    return result


def compiled(ours: Ours, runs: int) -> dict[str, Any]:
    """The optional compiler on the static step (switch `compile`), and what it costs to start."""
    engine = ours.with_switches(compile=True)
    result: dict[str, Any] = {}
    with ours.engine(engine):
        for name in ("S", "M"):
            frames = round(WORKLOADS[name][1] * 93.75)
            result[f"compile_{name}_s"] = round(timed(lambda n=frames: engine.compile_plan(n)), 2)
            ours.run(name)
            result[name] = spread([timed(lambda n=name: ours.run(n)) for _ in range(runs)])
    return result


def work(ours: Ours, upstream: Upstream | None) -> dict[str, Any]:
    """Kernels, summed GPU time, counted bytes and FLOPs of one step at N = 1312."""
    sides = {"ours": ours.side, "upstream_fp16": upstream}
    return {name: _step(side) for name, side in sides.items() if side is not None}


def _step(side: Any) -> dict[str, Any]:
    found = side.step(first_of("M")[0])
    return {
        "kernels_per_nfe": found.kernels,
        "gpu_ms_per_nfe": round(found.device_ms, 3),
        "counted_gb_per_nfe": round(found.gb, 3),
        "tflop_per_nfe": round(found.tflop, 4),
        "tflop_per_s": round(found.tflop / found.device_ms * 1e3, 1),
        "floor_ms_at_790_tflop_per_s": round(found.tflop / 0.79, 3),
    }


def around(ours: Ours, runs: int) -> dict[str, Any]:
    """What precedes and follows the steps, with our kernels there and without: kernels, time of a
    replay, where it goes; and whole requests of both in turns."""
    import torch
    from f5_tts.fast import count

    engines = {"on": ours.with_switches(), "off": ours.with_switches(text_kernels=False)}
    result: dict[str, Any] = {"missing": list(engines["on"].machine.ops.missing)}
    for workload in ("S", "M"):
        first, seconds = WORKLOADS[workload]
        found = result[workload] = {}
        for name, engine in engines.items():
            with ours.engine(engine):
                for _ in range(5):
                    ours.run(workload)
            frames, spoken = (round(length * 93.75) for length in (seconds, seconds - first))
            with torch.inference_mode():
                plan = engine.step_plan(engine.rounded(frames), 1, True)
                decode = engine.vocoder_plan(engine.rounded(spoken), 1)
                for part, replay in (("text", plan._prepare), ("vocoder", decode._decode)):
                    launched, busy = count.kernels(replay)
                    found[f"{part}, {name}"] = {
                        "kernels": launched,
                        "busy_us": round(busy, 1),
                        "replay_us": round(_replayed(replay), 1),
                        "kernels_us": _by_kernel(replay),
                    }
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(runs):
            for name, engine in engines.items():
                with ours.engine(engine):
                    times[name].append(timed(lambda w=workload: ours.run(w)))
        found["request"] = {name: spread(values) for name, values in times.items()}
    return result


def _replayed(replay: Callable[[], None], times: int = 50) -> float:
    """Microseconds of one, back to back."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        replay()
    end.record()
    end.synchronize()
    return float(1e3 * start.elapsed_time(end) / times)


def profile(ours: Ours) -> dict[str, Any]:
    """Where one step's GPU time goes: kernel name to total microseconds and calls."""
    import torch

    engine = ours.synthesizer.engine
    with torch.inference_mode():
        tables = engine.tables(engine.schedule(7, -1.0))
        plan = engine.step_plan(engine.rounded(1312), 1, True)
        return _by_kernel(lambda: plan.step(tables, 0))


def _by_kernel(work: Callable[[], None]) -> dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    rows = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)
    return {
        e.key[:80]: {"us": round(e.self_device_time_total, 1), "calls": e.count}
        for e in rows
        if e.self_device_time_total > 0
    }


def concurrency(ours: Ours) -> dict[str, Any]:
    """16 callers of M: closed rounds, batched by the engine."""
    result: dict[str, Any] = {}
    for size in (1, 4, 8, 16):
        for _ in range(2):
            ours.run("M", count=size)

        def rounds(size: int = size) -> None:
            for _ in range(16 // size):
                ours.run("M", count=size)

        times = [timed(rounds) for _ in range(3)]
        result[f"batches of {size}"] = {
            "audio_s_per_s": round(16 * 8 / statistics.median(times), 1),
            "round_s": round(statistics.median(times), 4),
        }
    return result


def first_audio(ours: Ours, runs: int) -> dict[str, Any]:
    """Texts streamed: milliseconds to the first piece, and to the last. A 10 s text with and
    without a short first chunk; one of a minute with and without batches of its chunks."""
    result: dict[str, Any] = {}
    for name, seconds, off in (
        ("10 s", 10.0, {}),
        ("10 s, first chunk off", 10.0, {"first_chunk": False}),
        ("60 s", 60.0, {}),
        ("60 s, batching off", 60.0, {"batching": False}),
    ):
        with ours.engine(ours.with_switches(**off)):
            result[name] = _streamed(ours, text_of(seconds), runs)
    return {**result.pop("10 s"), **result}


def _streamed(ours: Ours, words: str, runs: int) -> dict[str, Any]:
    import torch

    times: dict[str, list[float]] = {"first": [], "last": []}
    voice = ours.voice(3.0)
    seconds = 0.0
    for index in range(runs + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        stream = ours.synthesizer.stream(words, voice, ours.settings(seed=index))
        piece = next(stream)
        first = time.perf_counter() - start
        for _ in stream:
            pass
        if index >= 5:
            times["first"].append(first)
            times["last"].append(time.perf_counter() - start)
        seconds = len(piece) / 24000
    return {name: spread(values) for name, values in times.items()} | {
        "first_piece_s": round(seconds, 2)
    }


def fidelity(ours: Ours, half: Upstream) -> dict[str, Any]:
    """SNR against upstream in fp32 with TF32 off, for the same noise, text and reference."""
    engine = ours.synthesizer.engine
    result: dict[str, Any] = {}
    for name in ("S", "M"):
        task, utterance = first_of(name)
        (row,) = ours.side.made(task, 1)
        ((mel, wave),) = half.reference([row], task)
        theirs, their_wave = half.again(row, task)
        tables = engine.tables(engine.schedule(task.nfe, -1.0))
        ((_, job),) = ours.side.jobs(task, utterance)
        ((_, other),) = ours.side.jobs(*first_of("R3"))
        batched = engine.mels([other, job], tables)[1].cpu().numpy()
        vocos = engine.waves([_on(engine, mel)])[0]
        result[name] = {
            "frames": row["frames"],
            "ours_fp16_snr_db": decibels(relative(row["mel"], mel)),
            "upstream_fp16_snr_db": decibels(relative(theirs, mel)),
            "ours_fp16_wave_snr_db": decibels(relative(row["wave"], wave)),
            "upstream_fp16_wave_snr_db": decibels(relative(their_wave, wave)),
            "ours_fp32_relative_error": relative(row["fp32_mel"], mel),
            "batched_against_single_snr_db": decibels(relative(batched, row["mel"])),
            "same_seed_bit_equal": row["bit_equal"],
            "vocoder_snr_db": decibels(relative(vocos, wave)),
        }
    return result


def _on(engine: Any, mel: Any) -> Any:
    import torch

    return torch.from_numpy(mel).to(engine.weights.device)


def memory(source: Path, cache: Path, requests: int) -> dict[str, Any]:
    """In a process of its own: start to ready, peak of M, growth over mixed requests."""
    code = (
        "import sys, time, json; began = time.time(); sys.path[:0] = sys.argv[1:3]\n"
        "import bench_parts; from pathlib import Path\n"
        "bench_parts.child(Path(sys.argv[3]), int(sys.argv[4]), began)"
    )
    here = str(Path(__file__).resolve().parent)
    result: dict[str, Any] = {}
    for label, count, off in (
        ("first start, folded file there", 0, {}),
        ("second start", requests, {}),
        ("start, folded file off", 0, {"F5_FAST_FOLDED": "0"}),
    ):
        start = time.time()
        done = subprocess.run(
            [sys.executable, "-c", code, str(source), here, str(cache), str(count)],
            env={**os.environ, **off}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            result[label] = {"error": done.stderr[-800:]}
            continue
        result[label] = json.loads(done.stdout.strip().splitlines()[-1])
        ready = result[label].pop("ready_at")
        result[label]["process_start_to_ready_s"] = round(ready - start, 2)
    return result


def child(cache: Path, requests: int, began: float) -> None:
    import torch

    ours = Ours(cache)
    loaded = time.time()
    ours.synthesizer.warm()
    wave = ours.run("M")[0]
    assert wave.size
    report: dict[str, Any] = {"ready_at": time.time(), "load_s": round(loaded - began, 2)}
    torch.cuda.reset_peak_memory_stats()
    ours.run("M")
    report["peak_vram_m_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    report["reserved_vram_gb"] = round(torch.cuda.memory_reserved() / 1e9, 3)
    chooser = random.Random(3)
    levels = []
    for index in range(requests):
        seconds = chooser.uniform(1.0, 14.0)
        voice = ours.voice(chooser.choice((3.0, 4.5, 6.0)), chooser.randrange(3))
        ours.synthesizer.synthesize(text_of(seconds), voice, ours.settings(seed=index))
        if (index + 1) % max(requests // 5, 1) == 0:
            levels.append(round(torch.cuda.memory_reserved() / 1e9, 3))
    report["reserved_gb_over_mixed_requests"] = levels
    report["mixed_requests"] = requests
    sys.stdout.write(json.dumps(report) + "\n")
