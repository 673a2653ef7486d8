"""Faults under the real F5 engine: a voice's recording vanishes, and memory really runs out."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.daemon import f5_box
from tests.service.daemon.daemon_server import PROGRAM, Server, eventually, serving

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return f5_box.build(tmp_path_factory.mktemp("box"))


@pytest.fixture
def running(root: Path, tmp_path: Path) -> Iterator[Server]:
    daemon = {"fallback": "never"}
    how = {"manifest": f5_box.MANIFEST, "root": root, "env": f5_box.ENVIRONMENT}
    with serving(tmp_path, "f5", daemon=daemon, **how) as server:
        yield server.wait_ready()


def test_it_speaks_on_without_a_recording_and_a_reload_keeps_what_it_has(
    running: Server, root: Path
) -> None:
    def say(voice: str) -> bytes:
        answer = running.speak("Good evening.", voice=voice, seed=3, nfe=5)
        assert answer.status_code == 200, answer.text
        content: bytes = answer.content
        return content

    before = {voice: say(voice) for voice in ("anna", "bob")}
    os.rename(root / "anna.wav", root / "elsewhere.wav")
    assert {voice: say(voice) for voice in before} == before
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: running.metric("ishowtts_reloads_total", outcome="refused") == 1)
    assert "/anna.wav, cannot be read" in running.log
    assert {voice: say(voice) for voice in before} == before, "refused whole: the old ones stay"
    os.rename(root / "elsewhere.wav", root / "anna.wav")
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: running.metric("ishowtts_reloads_total", outcome="done") == 1)
    assert {voice: say(voice) for voice in before} == before
    assert running.ready()["voices"] == ["anna", "bob"]


def test_memory_that_really_runs_out_is_a_restart_with_an_answer(running: Server) -> None:
    """The kernel gives this process no more (RLIMIT_AS): torch's allocators fail as they do on a
    full box, in words of their own."""
    assert running.speak("Good evening.", nfe=5).status_code == 200
    pid = running.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    room = pages * os.sysconf("SC_PAGE_SIZE") + 1_000_000
    resource.prlimit(pid, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    answer = running.speak("A text of another length, which needs some room. " * 20, nfe=5)
    assert "the device is out of memory" in running.log
    if answer.status_code == 200:
        # In pieces, which found room; then nothing else was lost either.
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert running.speak("As ever.", nfe=5).status_code == 200
        return
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 5
    assert running.wait() == 75


LOSES_ITS_DEVICE = (
    """
import os, threading, time
def lose():
    while not os.path.exists(os.environ["ISHOWTTS_LOST"]):
        time.sleep(0.02)
    import torch
    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    torch.Generator = lost
    open(os.environ["ISHOWTTS_LOST"] + ".now", "w").close()
threading.Thread(target=lose, daemon=True).start()
"""
    + PROGRAM
)
"""Stands in for a GPU whose context broke: the error, its words and where it was first met are
those of a real one (an H200 after a device-side assert, tests/gpu/bench_daemon.py)."""


@pytest.mark.parametrize("met_by", ["a caller", "the canary"])
def test_a_lost_device_is_a_restart_at_once(root: Path, tmp_path: Path, met_by: str) -> None:
    lost = tmp_path / "lost"
    env = {**f5_box.ENVIRONMENT, "ISHOWTTS_LOST": str(lost)}
    if met_by == "the canary":
        env["WATCHDOG_USEC"] = "3000000"
    how = {"manifest": f5_box.MANIFEST, "root": root, "env": env, "program": LOSES_ITS_DEVICE}
    with serving(tmp_path / "daemon", "f5", daemon={"fallback": "never"}, **how) as server:
        server.wait_ready()
        assert server.speak("Good evening.", nfe=5).status_code == 200
        lost.touch()
        if met_by == "a caller":
            eventually(lost.with_name("lost.now").exists)
            answer = server.speak("Are you there?", nfe=5)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
        assert server.wait() == 75
        assert "device-side assert" in server.log
