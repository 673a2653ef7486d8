"""Leaks: found when they are, not when they are not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ishowtts_ops.daemon.memory import MemoryUse, memory_use
from ishowtts_ops.daemon.sentinel import HOUR, SAMPLES, Leak, LeakWatch
from ishowtts_ops.daemon.tone import ToneEngine
from tests.service.daemon.daemon_server import NotifySocket, eventually, serving

WINDOW = 2 * HOUR
MB = 1_000_000


def watched(resident: list[float], device: list[float] | None = None) -> Leak | None:
    """What is found in megabytes sampled over one window."""
    watch = LeakWatch(WINDOW, 64)
    found = None
    for number, size in enumerate(resident):
        held = int(device[number] * MB) if device else None
        at = number * WINDOW / SAMPLES
        found = found or watch.add(at, MemoryUse(int(size * MB), held))
    return found


def test_steady_growth_is_a_leak_with_its_rate() -> None:
    noise = random.Random(1)
    sizes = [3000 + 100 * n / SAMPLES * 2 + noise.uniform(-8, 8) for n in range(SAMPLES + 1)]
    found = watched(sizes)
    assert found is not None
    assert (found.what, found.mb_per_hour) == ("process", pytest.approx(100, rel=0.2))
    flat = [3000.0] * (SAMPLES + 1)
    on_device = watched(flat, sizes)
    assert on_device is not None and on_device.what == "device"


@pytest.mark.parametrize(
    "sizes",
    [
        [3000.0] * (SAMPLES + 1),
        [3000 + (900 if 20 < n < 40 else 0) for n in range(SAMPLES + 1)],
        [3000 + min(n * 30, 600) for n in range(SAMPLES + 1)],
        [3000 + 400 * (n % 10) for n in range(SAMPLES + 1)],
        [3000 - 10 * n for n in range(SAMPLES + 1)],
        [3000 + n for n in range(SAMPLES + 1)],
    ],
    ids=["flat", "a large request", "a cache that fills", "sawtooth", "shrinks", "slowly"],
)
def test_what_is_no_leak(sizes: list[float]) -> None:
    assert watched(sizes) is None


def test_half_a_window_proves_nothing() -> None:
    assert watched([3000 + 50.0 * n for n in range(SAMPLES // 2)]) is None


def test_memory_is_read_off_the_kernel() -> None:
    engine = ToneEngine("vram:1")
    before = memory_use(engine)
    ballast = bytearray(b"x") * (64 * MB)
    after = memory_use(engine)
    assert 50 * MB < after.resident - before.resident < 120 * MB
    assert after.device == 0 and memory_use(ToneEngine("")).device is None
    assert len(ballast)


def test_a_leak_leads_to_a_planned_restart_once_nobody_speaks(tmp_path: Path) -> None:
    manager = NotifySocket()
    state = tmp_path / "state"
    state.mkdir()
    env = {
        "ISHOWTTS_TONE_FAULT": "vram:5",
        "NOTIFY_SOCKET": manager.address,
        "STATE_DIRECTORY": str(state),
    }
    daemon = {"leak_window_minutes": 0.01, "leak_idle_seconds": 0.3, "leak_mb_per_hour": 100_000}
    with serving(tmp_path, daemon=daemon, env=env) as server:
        server.wait_ready()

        def suspected() -> bool:
            assert server.speak("this leaks").status_code == 200
            return server.metric("ishowtts_leak_suspected") == 1

        eventually(suspected)
        assert server.process.poll() is None, "not in the middle of its work"
        assert server.wait() == 0
        assert "STOPPING=1" in manager.lines
        assert "restarting because of a leak what=device" in server.log
    with serving(tmp_path / "again", env={"STATE_DIRECTORY": str(state)}) as server:
        server.wait_ready()
        assert server.metric("ishowtts_restarts_total", cause="leak") == 1
        server.process.kill()
        server.process.wait()
    with serving(tmp_path / "third", env={"STATE_DIRECTORY": str(state)}) as server:
        server.wait_ready()
        assert server.metric("ishowtts_restarts_total", cause="killed") == 1
        assert server.stop() == 0
    manager.close()
