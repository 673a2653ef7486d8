"""Faults of a real GPU under a real daemon, and what becomes of its callers."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from tests.gpu.daemon_bench import WATCHDOG_S, Bench
from tests.service.daemon.daemon_server import Server, eventually

TEXT = "Greetings from the other end of the world."


def watchdog(bench: Bench, server: Server) -> dict[str, Any]:
    """The longest time between two WATCHDOG=1 so far, which must stay below the period."""
    fed = bench.manager.times("WATCHDOG=1")
    gaps = [later - sooner for sooner, later in itertools.pairwise(fed)]
    return {"period_s": WATCHDOG_S, "messages": len(fed), "longest_gap_s": round(max(gaps), 2)}


def held(server: Server) -> dict[str, Any]:
    """Megabytes; None of the device where there is none."""
    sizes = {name: server.metric(f"ishowtts_{name}_bytes") for name in ("resident", "device")}
    return {
        name: round(size / 1e6, 1) if np.isfinite(size) else None for name, size in sizes.items()
    }


def hang(bench: Bench, server: Server) -> dict[str, Any]:
    """The GPU does not answer for a while: the caller is told, the watchdog is not fed."""
    began = time.monotonic()
    bench.saboteur.order("sleep 24")
    time.sleep(0.5)
    answer = server.speak(TEXT)
    told = time.monotonic() - began
    alive = server.status("/livez")
    eventually(lambda: server.status("/readyz") == 200, 60)
    fed = [at - began for at in bench.manager.times("WATCHDOG=1") if at >= began]
    after = server.speak(TEXT)
    return {
        "caller": answer.status_code,
        "retry_after": answer.headers.get("retry-after"),
        "told_after_s": round(told, 2),
        "livez": alive,
        "gpu_answered_after_s": round(time.monotonic() - began, 1),
        "fed_in_the_first_second_only": not [at for at in fed if 1.0 < at < told],
        "stacks_in_the_log": "f5.py" in server.log and "in stream" in server.log,
        "afterwards": after.status_code,
    }


def memory(bench: Bench, server: Server) -> dict[str, Any]:
    """No more of the GPU's memory for this process than it holds."""
    held = server.metric("ishowtts_device_bytes")
    bench.saboteur.order("memory 0.0001")
    time.sleep(0.5)
    long = server.speak("A text of another length, which wants plans of its own. " * 24, seed=4)
    time.sleep(0.5)
    ended = server.process.poll()
    found: dict[str, Any] = {
        "held_mb": round(held / 1e6),
        "long_text": long.status_code,
        "code": None if long.status_code == 200 else long.json()["error"]["code"],
        "retry_after": long.headers.get("retry-after"),
        "said_so": "out of memory" in server.log,
        "exit_code": ended,
    }
    if ended is None:
        bench.saboteur.order("memory 1.0")
        time.sleep(0.5)
        found["afterwards"] = server.speak(TEXT).status_code
    return found


def lost(bench: Bench, server: Server) -> dict[str, Any]:
    """A device-side assertion: the context is gone, the daemon ends and says so."""
    bench.saboteur.order("assert")
    time.sleep(1.0)
    answer = server.speak(TEXT)
    return {
        "caller": answer.status_code,
        "code": answer.json()["error"]["code"] if answer.status_code != 200 else None,
        "retry_after": answer.headers.get("retry-after"),
        "exit_code": server.wait(),
    }
