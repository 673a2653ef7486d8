"""A file system that is really full: a small tmpfs, filled to the last byte. It holds what the
daemon writes: state, voices, cache, and the file its log goes to."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.daemon import batch_trial
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.recordings import WORDS, recording

BALLAST = "ballast"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here, which takes root: {made.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / BALLAST).open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    probe = folder / "probe"
    with pytest.raises(OSError, match="No space left"):
        probe.write_bytes(b"x")
    probe.unlink(missing_ok=True)


def add(server: Server, voice: str, pitch: float = 140.0) -> int:
    answer = server.http.post(
        "/v1/voices",
        data={"id": voice, "text": WORDS},
        files={"audio": ("a.wav", recording(pitch=pitch))},
    )
    if answer.status_code >= 500:
        assert answer.json()["error"]["code"] == "storage_failed"
    return answer.status_code


def test_a_full_disk_costs_new_voices_and_nothing_else(small_disk: Path) -> None:
    state, cache = small_disk / "state", small_disk / "cache"
    for folder in (state, cache):
        folder.mkdir()
    env = {"STATE_DIRECTORY": str(state), "CACHE_DIRECTORY": str(cache)}
    # The log is a file of that disk, too.
    with serving(small_disk, env=env) as server:
        server.wait_ready()
        assert add(server, "anna") == 201
        fill(small_disk)
        before = sorted(path.name for path in state.rglob("*"))
        for _ in range(50):
            assert server.speak("all the same").status_code == 200
        assert server.speak("by her", voice="anna").status_code == 200
        assert add(server, "bob", 190.0) == 507
        assert server.http.get("/v1/voices").json()["voices"][-1]["id"] == "anna"
        assert sorted(path.name for path in state.rglob("*")) == before, "nothing half-made is left"
        assert server.speak("not there", voice="bob").status_code == 404
        reloads = {"outcome": "done"}
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.metric("ishowtts_reloads_total", **reloads) == 1)
        assert server.status("/readyz") == 200
        (small_disk / BALLAST).unlink()
        assert add(server, "bob", 190.0) == 201
        assert server.speak("now", voice="bob").status_code == 200
        assert server.stop() == 0


def test_it_starts_on_a_full_disk(small_disk: Path) -> None:
    state = small_disk / "state"
    state.mkdir()
    env = {"STATE_DIRECTORY": str(state), "CACHE_DIRECTORY": str(small_disk)}
    with serving(small_disk, env=env) as server:
        server.wait_ready()
        assert add(server, "anna") == 201
        assert server.stop() == 0
    server = Server(small_disk, env=env)
    fill(small_disk)
    try:
        server.wait_ready()
        assert server.speak("by her", voice="anna").status_code == 200
        server.process.kill()
        server.wait()
    finally:
        server.close()
    assert json.loads((state / "lives.json").read_text()) == {}, "whole, and as it was"


def test_the_measured_batching_is_not_kept_on_a_full_disk(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch_trial.remember(small_disk, "this GPU", {4: 1.2})
    assert batch_trial.recall(small_disk, "this GPU") == {4: 1.2}
    fill(small_disk)
    batch_trial.remember(small_disk, "that GPU", {4: 1.5})
    assert "the measured batching is not kept" in caplog.text
    assert batch_trial.recall(small_disk, "this GPU") == {4: 1.2}, "the old one is whole"
    assert batch_trial.recall(small_disk, "that GPU") is None
