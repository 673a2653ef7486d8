"""Measures the series against upstream, interleaved, on one GPU; prints one JSON document.

    python tests/gpu/bench_series.py --source PATCHED/src [--runs 100] [--out FILE] [--parts ...]

`--source` is the `src` folder of a patched F5-TTS checkout: upstream's own modules in it are what
is compared with. Weights are seeded and not zero; audio is noise; time does not care. Everything
is text to waveform on the host, F5TTS_v1_Base, NFE 7, guidance on, unless a name says otherwise.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def about(command: list[str], seed: int) -> dict[str, Any]:
    import torch

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "command": " ".join(command),
        "weights": f"random, seed {seed}, F5TTS_v1_Base",
    }


PARTS = (
    "fidelity",
    "work",
    "profile",
    "around",
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
    import bench_parts as part_of
    from bench_sides import SEED, Ours, Upstream

    parts = chosen.parts.split(",")
    shown = ["python", "tests/gpu/bench_series.py", "--source", "PATCHED/src"]
    shown += ["--runs", str(chosen.runs), "--mixed", str(chosen.mixed), "--parts", chosen.parts]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        ours = Ours(cache)
        upstream = Upstream(chosen.source)
        results: dict[str, Any] = {"about": about(shown, SEED)}
        results["engine"] = {"attention": ours.synthesizer.engine.machine.attend_name,
                             "fused": ours.synthesizer.engine.machine.ops.fused}  # fmt: skip
        jobs: dict[str, Callable[[], Any]] = {
            "fidelity": lambda: part_of.fidelity(ours, upstream),
            "work": lambda: part_of.work(ours, upstream),
            "profile": lambda: part_of.profile(ours),
            "around": lambda: part_of.around(ours, chosen.runs),
            "latency": lambda: part_of.latency(ours, upstream, chosen.runs),
            "bridge": lambda: part_of.bridge(ours, upstream, max(chosen.runs // 3, 5)),
            "ablation": lambda: part_of.ablation(ours, max(chosen.runs // 5, 5)),
            "concurrency": lambda: part_of.concurrency(ours),
            "compiled": lambda: part_of.compiled(ours, max(chosen.runs // 5, 5)),
            "first_audio": lambda: part_of.first_audio(ours, max(chosen.runs // 3, 5)),
            "memory": lambda: part_of.memory(chosen.source, cache, chosen.mixed),
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
