"""Engines that fail in the middle of a speech, and daemons that end over it: no answer is cut short
and called whole, and nobody is left without one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from ishowtts_ops.daemon.tone import tones
from tests.service.daemon.daemon_server import NotifySocket, eventually, serving
from tests.service.daemon.test_daemon_life import in_background

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)
FAULTY = {"ISHOWTTS_TONE_FAULT": "text"}
BEGINNING = "The beginning of this is spoken well, "


@needs_espeak
@pytest.mark.parametrize("fault", ["raise", "nan", "cuda", "oom:0"])
def test_a_whole_answer_is_spoken_by_the_fallback_however_far_the_engine_came(
    tmp_path: Path, fault: str
) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        eventually(lambda: server.ready()["fallback"]["ready"])
        answer = server.speak(f"{BEGINNING}fault:late fault:{fault}", fallback=True)
        assert answer.status_code == 200
        assert answer.headers["x-ishowtts-fallback"] == "true"
        assert answer.headers["x-ishowtts-engine"] == "espeak"
        # All of it by one voice: espeak's first frames, and none of the tones.
        first = np.frombuffer(answer.content[44:], "<i2")[:1200].astype(np.float32) / 32767
        assert np.abs(first - tones(BEGINNING[:1], "tone-a", 1.0)[:1200]).max() > 0.05
        if fault in ("cuda", "oom:0"):
            assert server.wait() == 75
        else:
            assert server.metric("ishowtts_fallbacks_total") == 1


@pytest.mark.parametrize(
    ("fault", "status", "ends"),
    [("raise", 500, False), ("nan", 500, False), ("cuda", 503, True), ("oom:0", 503, True)],
)
def test_without_a_fallback_it_is_an_error_and_never_half_an_answer(
    tmp_path: Path, fault: str, status: int, ends: bool
) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        answer = server.speak(f"{BEGINNING}fault:late fault:{fault}")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["retry-after"]) >= 1
        if ends:
            assert server.wait() == 75
        else:
            assert server.speak("as ever").status_code == 200


@pytest.mark.parametrize("fault", ["raise", "nan", "cuda"])
def test_a_stream_that_cannot_go_on_has_no_end(tmp_path: Path, fault: str) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        body = {"input": f"{BEGINNING}fault:late fault:{fault}", "response_format": "pcm"}
        with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in answer.iter_raw():
                    pass


def test_memory_that_runs_out_in_the_middle_begins_the_answer_anew(tmp_path: Path) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        text = "fault:late fault:oom:70. " + "A sentence of a good length. " * 4
        answer = server.speak(text.strip())
        assert answer.status_code == 200
        # Once, with pauses between the pieces: the beginning that was lost is not in it twice.
        spoken = (len(answer.content) - 44) / 2400
        assert len(text) * 0.9 < spoken < len(text) * 1.2


@needs_espeak
def test_while_another_speaks_everything_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "load:3"}) as server:
        server.wait_listening()
        eventually(lambda: server.ready()["fallback"]["ready"])
        story = server.ready()
        assert (story["ready"], story["fallback"]["speaks_instead"]) == (False, True)
        said = server.http.post("/api/tts", json={"text": "Hello there."})
        assert said.status_code == 200
        assert said.headers["x-ishowtts-fallback"] == "true"
        assert server.metric("ishowtts_fallbacks_total") == 1
        assert server.metric("ishowtts_requests_total", outcome="ok", engine="espeak") == 1
        # And back as soon as the engine is there.
        server.wait_ready()
        back = server.http.post("/api/tts", json={"text": "Hello there."})
        assert back.headers["x-ishowtts-fallback"] == "false"
        assert server.ready()["fallback"]["speaks_instead"] is False


def test_a_planned_restart_finishes_what_was_begun(tmp_path: Path) -> None:
    """The leak sentinel waits for a gap; who comes just then is served, or told when to come."""
    manager = NotifySocket()
    env = {"ISHOWTTS_TONE_FAULT": "text,vram:5", "NOTIFY_SOCKET": manager.address}
    daemon = {"leak_window_minutes": 0.01, "leak_idle_seconds": 0.3, "leak_mb_per_hour": 100_000}
    with serving(tmp_path, daemon=daemon, env=env) as server:
        server.wait_ready()

        def suspected() -> bool:
            assert server.speak("this leaks").status_code == 200
            return server.metric("ishowtts_leak_suspected") == 1

        eventually(suspected)
        # Work without a gap is not interrupted, however much leaks.
        last = server.speak("a long one fault:slow:0.4")
        assert last.status_code == 200
        while server.process.poll() is None:
            try:
                answer = server.speak("and now?") if "STOPPING=1" in manager.lines else None
            except httpx.TransportError:
                break
            if answer is not None:
                assert answer.status_code in (200, 503)
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.01)
        assert server.wait() == 0
    manager.close()


def test_who_waits_when_the_device_is_lost_is_told_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        running = in_background(lambda: server.speak("fault:slow:0.5"))
        eventually(lambda: server.ready()["queue"]["busy"])
        bad = in_background(lambda: server.speak("fault:cuda"))
        eventually(lambda: server.ready()["queue"]["depth"] == 1)
        waiting = [
            in_background(lambda form=form: server.speak("waits", response_format=form))
            for form in ("wav", "pcm", "wav", "pcm")
        ]
        eventually(lambda: server.ready()["queue"]["depth"] == 5)
        assert running().status_code == 200
        for answer in (bad(), *(one() for one in waiting)):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "restarting"
            assert int(answer.headers["retry-after"]) >= 5
        assert server.wait() == 75
