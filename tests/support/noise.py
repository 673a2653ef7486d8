"""Records real timing noise: the F5 engine in one process after the other, nothing changed between.

    python -m tests.support.noise OUT.json --starts 48

What the regression rule is judged with (`tests/unit/measure/test_noise.py`): a small network with
seeded weights on the CPU, one thread, workload S. Both figures are taken of each pass, as
real-time factors: `cpu` is the processor time of the process, `wall` what a clock on the wall
shows, which on a machine that others use too has their noise in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

WARM_UP = 6
PASSES = 24
WORKLOAD = "S"


def main() -> None:
    parser = argparse.ArgumentParser(description="Record timing noise from start to start.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--starts", type=int, default=48)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two starts")
    parser.add_argument("--box", type=Path, help="an installed box in a folder; else one is made")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        sys.stdout.write(json.dumps(_session(told.one)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        box = told.box or _make_box(Path(folder) / "box")
        sessions: list[dict[str, Any]] = []
        for _ in range(told.starts):
            argv = [sys.executable, "-m", "tests.support.noise", "-", "--one", str(box)]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True, check=True)
            sessions.append(json.loads(done.stdout.splitlines()[-1]))
            body = {"about": " ".join((__doc__ or "").split()), "sessions": sessions}
            told.out.write_text(json.dumps(body) + "\n", encoding="utf-8")
            time.sleep(told.pause)


def _make_box(root: Path) -> Path:
    from ishowtts_ops.sim.checkout import make_checkout
    from tests.support.f5 import cache_folder
    from tests.support.folder import FolderBox

    settings = {"engine": {"kind": "f5"}, "f5": {"weights": "random", "device": "cpu"}}
    box = FolderBox(root, "orin-nano-super", settings)
    make_checkout(box.host, cache=cache_folder())
    done = box.run("install", "--yes")
    box.stop()
    assert done.code == 0, done.err
    return root


def _session(root: Path) -> dict[str, Any]:
    """One process: load, warm up, speak."""
    from ishowtts_ops.cli.bench_engine import open_engine
    from ishowtts_ops.cli.box import Box
    from ishowtts_ops.measure.others import OthersUse
    from ishowtts_ops.measure.workloads import choose

    began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    work = choose(WORKLOAD)
    door = open_engine(Box(root, None, False), None, "box", work, lambda _: None)
    use = OthersUse(None)
    cpu: list[float] = []
    wall: list[float] = []
    for number in range(WARM_UP + PASSES):
        before = time.process_time()
        spoken = door.speak(work.utterances[0], work.seed, None)
        took = time.process_time() - before
        if number >= WARM_UP:
            cpu.append(round(took / spoken.audio_s, 6))
            wall.append(round(spoken.engine_s / spoken.audio_s, 6))
    load = round(os.getloadavg()[0], 2)
    return {"began": began, "load": load, "others": use.share(), "cpu": cpu, "wall": wall}


if __name__ == "__main__":
    main()
