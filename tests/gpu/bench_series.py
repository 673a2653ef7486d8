"""Measures the series against upstream, interleaved, on one GPU; prints one JSON document.

    python tests/gpu/bench_series.py --source PATCHED/src [--runs 100] [--out FILE] [--parts ...]

`--source` is the `src` folder of a patched F5-TTS checkout: upstream's own modules in it are what
is compared with. Weights are seeded and not zero; audio is noise; time does not care. Everything
is text to waveform on the host, F5TTS_v1_Base, NFE 7, guidance on, unless a name says otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_sides import SEED, WORKLOADS, Ours, Upstream, spread, text_of, timed


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
    upstream.model.__dict__.pop("_f5_fast_bridge", None)
    return result


def ablation(ours: Ours, runs: int) -> dict[str, Any]:
    """One switch turned at a time: what each is worth."""
    turned: dict[str, dict[str, bool]] = {
        "everything on": {},
        "own attention off": {"attention": False},
        "varlen off (mask)": {"varlen": False},
        "conv kernel off": {"conv": False},
        "GELU epilogue off": {"gelu_epilogue": False},
        "fused QKV off": {"fused_qkv": False},
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


def arithmetic(frames: int, milliseconds: float) -> dict[str, float]:
    """FLOPs of one guided step from the network's sizes, the rate reached, and the floor."""
    flops = 2 * frames * (378.9e6 + 90112 * frames)
    return {
        "tflop_per_nfe": round(flops / 1e12, 4),
        "tflop_per_s": round(flops / milliseconds / 1e9, 1),
        "floor_ms_at_790_tflop_per_s": round(flops / 790e9, 3),
    }


def compiled(ours: Ours, runs: int) -> dict[str, Any]:
    """The optional compiler on the static step (switch `compile`), and what it costs to start."""
    engine = ours.with_switches(compile=True)
    result: dict[str, Any] = {}
    with ours.engine(engine):
        for name in ("S", "M"):
            result[f"first_{name}_s"] = round(timed(lambda n=name: ours.run(n)), 2)
            result[name] = spread([timed(lambda n=name: ours.run(n)) for _ in range(runs)])
    return result


def work(ours: Ours, upstream: Upstream | None) -> dict[str, Any]:
    """Kernels, summed GPU time, counted bytes and FLOPs of one step at N = 1312."""
    import torch
    from f5_tts.fast import count

    engine = ours.synthesizer.engine
    result: dict[str, Any] = {}
    with torch.inference_mode():
        tables = engine.tables(engine.schedule(7, -1.0))
        plan = engine.step_plan(engine.rounded(1312), 1, True)
        plan.step(tables, 0)
        launched, micros = count.kernels(lambda: plan.step(tables, 0))
        plan._run_step()
        with count.watching() as tally:
            plan._run_step()
        result["ours"] = {
            "kernels_per_nfe": launched,
            "gpu_ms_per_nfe": round(micros / 1e3, 3),
            "counted_gb_per_nfe": round(tally.moved / 1e9, 3),
            **arithmetic(1312, micros / 1e3),
        }
        if upstream is not None:
            transformer = upstream.model.transformer
            half = {"device": "cuda", "dtype": torch.float16}
            x, cond = torch.randn(1, 1312, 100, **half), torch.randn(1, 1312, 100, **half)
            tokens = torch.ones(1, 200, dtype=torch.long, device="cuda")

            def one() -> None:
                moment = torch.full((), 0.3, **half)
                transformer(x=x, cond=cond, text=tokens, time=moment, cfg_infer=True, cache=True)

            one()
            launched, micros = count.kernels(one)
            with count.watching() as tally:
                one()
            transformer.clear_cache()
            result["upstream_fp16"] = {
                "kernels_per_nfe": launched,
                "gpu_ms_per_nfe": round(micros / 1e3, 3),
                "counted_gb_per_nfe": round(tally.moved / 1e9, 3),
                **arithmetic(1312, micros / 1e3),
            }
    return result


def profile(ours: Ours) -> dict[str, Any]:
    """Where one step's GPU time goes: kernel name to total microseconds and calls."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    engine = ours.synthesizer.engine
    with torch.inference_mode():
        tables = engine.tables(engine.schedule(7, -1.0))
        plan = engine.step_plan(engine.rounded(1312), 1, True)
        with torch_profile(activities=[ProfilerActivity.CUDA]) as profiler:
            plan.step(tables, 0)
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
    """A 10 s text streamed: milliseconds to the first piece, and to the last."""
    words = text_of(10.0)
    times: dict[str, list[float]] = {"first": [], "last": []}
    import torch

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


def snr(got: Any, want: Any) -> float:
    import torch

    error = torch.linalg.vector_norm(got - want)
    return round(20 * float(torch.log10(torch.linalg.vector_norm(want) / error)), 2)


def fidelity(ours: Ours, source: Path, half: Upstream) -> dict[str, Any]:
    """Mel SNR against upstream in fp32 with TF32 off, for the same noise, text and reference."""
    import torch
    from f5_tts.fast import weights
    from f5_tts.fast.engine import Engine

    torch.backends.cudnn.allow_tf32 = False
    full = Upstream(source, torch.float32)
    engine = ours.synthesizer.engine
    state = weights.random_state(engine.weights.arch, 2545, SEED)
    precise = Engine(
        weights.fold(state, engine.weights.arch, device=torch.device("cuda"), dtype=torch.float32),
        None,
        engine.switches,
    )
    tables = engine.tables(engine.schedule(7, -1.0))
    result: dict[str, Any] = {}
    for name in ("S", "M"):
        reference, total = WORKLOADS[name]
        voice, words = ours.voice(reference), text_of(total - reference)
        generator = torch.Generator("cuda").manual_seed(9)
        job = ours.synthesizer.job(words, voice, ours.settings(), generator, total + 0.005)
        want = full.mel(job, voice.text + words)
        theirs = half.mel(job, voice.text + words)
        mine = engine.mels([job], tables)[0]
        again = engine.mels([job], tables)[0]
        other = ours.synthesizer.job(words[:60], ours.voice(3.0, 1), ours.settings(), generator)
        batched = engine.mels([other, job], tables)[1]
        exact = dataclasses.replace(job, mel=job.mel.float(), noise=job.noise.float())
        fp32 = precise.mels([exact], precise.tables(precise.schedule(7, -1.0)))[0]
        result[name] = {
            "frames": job.frames,
            "ours_fp16_snr_db": snr(mine, want),
            "upstream_fp16_snr_db": snr(theirs, want),
            "ours_fp32_relative_error": float(
                torch.linalg.vector_norm(fp32 - want) / torch.linalg.vector_norm(want)
            ),
            "batched_against_single_snr_db": snr(batched, mine),
            "same_seed_bit_equal": bool(torch.equal(mine, again)),
        }
        vocos = engine.waves([want])[0]
        plain = half.vocos.decode(want.T.unsqueeze(0))[0].cpu()
        result[name]["vocoder_snr_db"] = snr(torch.from_numpy(vocos), plain)
    torch.backends.cudnn.allow_tf32 = True
    return result


def memory(source: Path, cache: Path, requests: int) -> dict[str, Any]:
    """In a process of its own: start to ready, peak of M, growth over mixed requests."""
    code = (
        "import sys, time, json; began = time.time(); sys.path[:0] = sys.argv[1:3]\n"
        "import bench_series; from pathlib import Path\n"
        "bench_series.child(Path(sys.argv[3]), int(sys.argv[4]), began)"
    )
    here = str(Path(__file__).resolve().parent)
    result: dict[str, Any] = {}
    for label, count in (("first start, folded file there", 0), ("second start", requests)):
        start = time.time()
        done = subprocess.run(
            [sys.executable, "-c", code, str(source), here, str(cache), str(count)],
            capture_output=True, text=True, check=False,
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


def about(command: list[str]) -> dict[str, Any]:
    import torch

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "command": " ".join(command),
        "weights": f"random, seed {SEED}, F5TTS_v1_Base",
    }


PARTS = (
    "fidelity",
    "work",
    "profile",
    "latency",
    "bridge",
    "ablation",
    "concurrency",
    "first_audio",
    "memory",
    "compiled",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--mixed", type=int, default=200, help="mixed requests in the memory part")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.source))
    import torch

    parts = chosen.parts.split(",")
    shown = ["python", "tests/gpu/bench_series.py", "--source", "PATCHED/src"]
    shown += ["--runs", str(chosen.runs), "--mixed", str(chosen.mixed), "--parts", chosen.parts]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        ours = Ours(cache)
        upstream = Upstream(chosen.source, torch.float16)
        results: dict[str, Any] = {"about": about(shown)}
        results["engine"] = {"attention": ours.synthesizer.engine.machine.attend_name,
                             "fused": ours.synthesizer.engine.machine.ops.fused}  # fmt: skip
        jobs: dict[str, Callable[[], Any]] = {
            "fidelity": lambda: fidelity(ours, chosen.source, upstream),
            "work": lambda: work(ours, upstream),
            "profile": lambda: profile(ours),
            "latency": lambda: latency(ours, upstream, chosen.runs),
            "bridge": lambda: bridge(ours, upstream, max(chosen.runs // 3, 5)),
            "ablation": lambda: ablation(ours, max(chosen.runs // 5, 5)),
            "concurrency": lambda: concurrency(ours),
            "compiled": lambda: compiled(ours, max(chosen.runs // 5, 5)),
            "first_audio": lambda: first_audio(ours, max(chosen.runs // 3, 5)),
            "memory": lambda: memory(chosen.source, cache, chosen.mixed),
        }
        for part in parts:
            start = time.time()
            try:
                results[part] = jobs[part]()
            except Exception as error:  # noqa: BLE001 - one failed part must not lose the others' figures
                results[part] = {"error": f"{type(error).__name__}: {error}"[:800]}
            results.setdefault("took_s", {})[part] = round(time.time() - start, 1)
            text = json.dumps(results, indent=1)
            if chosen.out:
                chosen.out.write_text(text + "\n")
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
