"""Doctor's look at a GPU and its load, for real: `python tests/gpu/doctor_look.py [FILE.json]`.

Makes a simulated box whose engine is this interpreter, so that everything but torch and the GPU is
a stand-in, and runs what a user runs, `doctor --thorough --under-load`. Beside it nvidia-smi says
whether the GPU really worked, and torch's profiler which kernels each way of attention launched.

A program, not a test: it takes about a minute of a GPU. Exits with 1 when something is not as
expected; the JSON says what.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.doctor.under_load import LIMIT_S
from ishowtts_ops.facts.burn import Burnt, burn
from ishowtts_ops.facts.python_env import PythonEnv, read_python_env
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.tree import build_box

BOARD = "agx-orin-64"
PYTHON = "/opt/engine/bin/python"
BLIND = "/opt/engine/bin/python-without-a-gpu"
NO_DAEMON = 9
"""A port on which nobody speaks, so that the GPU is kept busy by the engine's interpreter."""

KERNELS = r"""
import json, sys, warnings
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
warnings.simplefilter("ignore")
ways = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION",
        "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
x = torch.ones(1, 2, 128, 64, device="cuda", dtype=torch.float16)
found = {}
for name, way in ways.items():
    try:
        with sdpa_kernel(getattr(SDPBackend, way)):
            torch.nn.functional.scaled_dot_product_attention(x, x, x).sum().item()
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                torch.nn.functional.scaled_dot_product_attention(x, x, x)
                torch.cuda.synchronize()
        found[name] = sorted({event.key[:100] for event in seen.key_averages()})
    except Exception as problem:
        found[name] = "%s: %s" % (type(problem).__name__, str(problem)[:200])
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "kernels": found}))
"""


def make_box(root: Path) -> Host:
    """A simulated Orin whose engine is the interpreter that runs this."""
    build_box(root, BOARD)
    host = Host.at(root)
    path = ":".join(entry for entry in sys.path if entry.startswith("/tmp/"))
    for name, more in ((PYTHON, ""), (BLIND, "CUDA_VISIBLE_DEVICES= ")):
        script = f'#!/bin/sh\n{more}PYTHONPATH="{path}" exec "{sys.executable}" "$@"\n'
        host.write(name, script, mode=0o755)
    settings = {
        "engine": {"kind": "f5", "python": PYTHON},
        "f5": {"weights": "random"},
        "daemon": {"port": NO_DAEMON},
    }
    host.write(CONFIG_PATH, yaml.safe_dump(settings))
    return host


class Watch:
    """What nvidia-smi says of the GPU, twice a second, while something runs."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        names = ("utilization.gpu", "clocks.sm", "power.draw", "temperature.gpu")
        argv = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
        began = time.monotonic()
        while not self._over.wait(0.4):
            try:
                told = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
                values = [float(cell) for cell in told.stdout.splitlines()[0].split(",")]
            except (FileNotFoundError, IndexError, ValueError):
                continue  # no nvidia-smi here, or a value that it does not know
            row = dict(zip(names, values, strict=True))
            self.rows.append({"at_s": round(time.monotonic() - began, 1), **row})

    def most(self, name: str) -> float | None:
        return max((row[name] for row in self.rows), default=None)


def doctor(root: Path) -> dict[str, Any]:
    """What the command says of a box, how long it took, and how busy the GPU was."""
    argv = [sys.executable, "-m", "ishowtts_ops", "doctor", "--root", str(root)]
    argv += ["--thorough", "--under-load", "--json", "engine", "load"]
    began = time.monotonic()
    with Watch() as watch:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    seconds = round(time.monotonic() - began, 1)
    try:
        data = json.loads(done.stdout)["data"]
    except (ValueError, KeyError):
        return {"exit": done.returncode, "output": (done.stdout + done.stderr)[-2000:]}
    return {
        "exit": done.returncode,
        "seconds": seconds,
        "gpu_busy_percent": watch.most("utilization.gpu"),
        "sm_mhz": watch.most("clocks.sm"),
        "watts": watch.most("power.draw"),
        "findings": {
            found["check"]: {
                "severity": found["severity"],
                "text": found["text"],
                "evidence": [f"{e['source']} = {e['value']}" for e in found["evidence"]],
            }
            for found in data["findings"]
        },
    }


def burnt(host: Host, python: str, seconds: float, limit_s: float) -> dict[str, Any]:
    """One burn as doctor makes it: asked for so many seconds, with so many in all."""
    began = time.monotonic()
    answer = burn(host, python, seconds, limit_s)
    took = round(time.monotonic() - began, 2)
    told: dict[str, Any] = {"asked_s": seconds, "limit_s": limit_s, "took_s": took}
    if isinstance(answer, Burnt):
        told |= {
            "device": answer.device,
            "burnt_s": round(answer.seconds, 2),
            "tflop_per_s": round(answer.tflop_per_s, 1),
        }
    else:
        told["unknown"] = answer.reason
    return told


def looked(host: Host, python: str) -> dict[str, Any]:
    """The thorough look at an interpreter."""
    began = time.monotonic()
    env = read_python_env(host, python, thorough=True)
    took = round(time.monotonic() - began, 2)
    if not isinstance(env, PythonEnv):
        return {"took_s": took, "unknown": env.reason}
    kernel = env.kernel
    return {
        "took_s": took,
        "missing": env.missing,
        "errors": {name: p.error for name, p in env.packages.items() if p.error},
        "torch": env.package("torch").version,
        "kernel": kernel.reason if isinstance(kernel, Unknown) else kernel.model_dump(),
    }


def kernels() -> Any:
    """What each way of attention really launches."""
    argv = [sys.executable, "-c", KERNELS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else {"error": done.stderr[-1500:]}


def wrong(found: dict[str, Any]) -> list[str]:
    """What is not as it should be, in sentences."""
    said, kernel = found["doctor"].get("findings", {}), found["look"].get("kernel", {})
    launched = found["kernels"].get("kernels", {})
    sdpa = kernel.get("sdpa", {}) if isinstance(kernel, dict) else {}
    blind = found["blind_look"].get("kernel", {})
    checks = {
        "doctor says that a kernel ran": "ran on" in said.get("engine-gpu", {}).get("text", ""),
        "doctor finds fused attention": said.get("engine-attention", {}).get("severity") == "ok",
        "doctor kept the GPU busy": "was kept busy" in said.get("load-speed", {}).get("text", ""),
        "nvidia-smi saw it busy": (found["doctor"].get("gpu_busy_percent") or 0) >= 50,
        "an asked-for burn lasts as asked": abs(found["burn"].get("burnt_s", 0) - 8) < 1,
        "a long burn is cut at the limit": found["long_burn"]["took_s"] <= LIMIT_S,
        "and still answers": "tflop_per_s" in found["long_burn"],
        "the look launched a kernel": isinstance(kernel, dict) and kernel.get("error") is None,
        "ways that ran launched kernels": bool(sdpa)
        and all(isinstance(launched.get(n), list) for n, why in sdpa.items() if why is None),
        "ways that did not run launch none": all(
            not isinstance(launched.get(n), list) for n, why in sdpa.items() if why is not None
        ),
        "without a GPU none is claimed": isinstance(blind, dict)
        and blind.get("available") is False
        and "no GPU" in found["blind_burn"].get("unknown", ""),
    }
    return [sentence for sentence, holds in checks.items() if not holds]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="doctor-gpu-") as folder:
        root = Path(folder) / "box"
        host = make_box(root)
        found: dict[str, Any] = {"python": platform.python_version()}
        found["doctor"] = doctor(root)
        found["look"] = looked(host, PYTHON)
        found["burn"] = burnt(host, PYTHON, 8.0, LIMIT_S - 0.5)
        found["long_burn"] = burnt(host, PYTHON, 60.0, LIMIT_S - 0.5)
        found["kernels"] = kernels()
        found["blind_look"] = looked(host, BLIND)
        found["blind_burn"] = burnt(host, BLIND, 2.0, LIMIT_S - 0.5)
    found["wrong"] = wrong(found)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
