"""Faults injected into real daemons: nobody may be lost, cut short or left waiting."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ishowtts_ops.daemon.metrics_lives import Lives
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.test_daemon_life import in_background

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)
FAULTY = {"ISHOWTTS_TONE_FAULT": "text"}


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_out_of_memory_is_tried_again_in_smaller_pieces_and_who_waited_is_sent_away(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        # Longer than a small piece, so the whole does not fit and its parts do.
        text = "fault:slow:0.3 fault:oom:70. " + "And then a sentence more of it. " * 4
        assert len(text) > 100
        first = in_background(lambda: server.speak("wait for it fault:slow:0.4"))
        eventually(lambda: server.ready()["queue"]["busy"])
        large = in_background(lambda: server.speak(text.strip()))
        eventually(lambda: server.ready()["queue"]["depth"] == 1)
        waiting = in_background(lambda: server.speak("waits behind"))
        assert first().status_code == 200
        answer, shed = large(), waiting()
        assert answer.status_code == 200
        assert len(answer.content) > len(text) * 2400 * 0.9
        assert (shed.status_code, code(shed)) == (503, "out_of_memory")
        assert int(shed.headers["retry-after"]) >= 1
        assert server.speak("as ever").status_code == 200
        assert "the device is out of memory" in server.log


@pytest.mark.parametrize("text", ["fault:oom:0 some words", "fault:cuda"])
def test_a_device_that_stays_bad_is_a_restart_and_everybody_is_told(
    tmp_path: Path, text: str
) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        running = in_background(lambda: server.speak("first fault:slow:0.3"))
        eventually(lambda: server.ready()["queue"]["busy"])
        bad = in_background(lambda: server.speak(text))
        eventually(lambda: server.ready()["queue"]["depth"] == 1)
        waiting = in_background(lambda: server.speak("waits behind"))
        assert running().status_code == 200
        for answer in (bad(), waiting()):
            assert answer.status_code == 503
            assert code(answer) in ("restarting", "out_of_memory")
            assert int(answer.headers["retry-after"]) >= 1
        assert server.wait() == 75


@needs_espeak
@pytest.mark.parametrize("fault", ["raise", "nan", "silence", "cuda"])
def test_what_the_engine_cannot_say_the_fallback_says(tmp_path: Path, fault: str) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        eventually(lambda: server.ready()["fallback"]["ready"])
        answer = server.speak(f"fault:{fault}", fallback=True)
        assert answer.status_code == 200
        assert answer.headers["x-ishowtts-fallback"] == "true"
        assert answer.headers["x-ishowtts-engine"] == "espeak"
        assert len(answer.content) > 10_000
        if fault == "cuda":
            assert server.wait() == 75
            return
        assert server.metric("ishowtts_fallbacks_total") == 1
        assert server.speak("fault:raise").status_code == 500, "only for those who allow it"


@needs_espeak
def test_the_fallback_speaks_for_nobody_or_everybody_as_configured(tmp_path: Path) -> None:
    for policy, asked, spoken in (("never", True, False), ("always", False, True)):
        folder = tmp_path / policy
        with serving(folder, env=FAULTY, daemon={"fallback": policy}) as server:
            server.wait_ready()
            eventually(lambda s=server: s.ready()["fallback"]["ready"])
            answer = server.speak("fault:raise", fallback=asked)
            assert (answer.status_code == 200) is spoken
            assert server.ready()["fallback"]["for"] == policy


@needs_espeak
def test_a_hung_engine_is_spoken_for(tmp_path: Path) -> None:
    env = {**FAULTY, "WATCHDOG_USEC": "1500000"}
    with serving(tmp_path, env=env) as server:
        server.wait_ready()
        eventually(lambda: server.ready()["fallback"]["ready"])
        hung = in_background(lambda: server.speak("fault:hang", fallback=True))
        eventually(lambda: server.ready()["queue"]["busy"])
        behind = server.speak("and I wait behind it", fallback=True)
        for answer in (hung(), behind):
            assert answer.status_code == 200
            assert answer.headers["x-ishowtts-engine"] == "espeak"
        assert server.ready()["fallback"]["speaks_instead"] is True


def test_a_deadline_that_cannot_be_met_is_told_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        # Slow enough, twice, that the recent RTF foretells a wait of seconds.
        for _ in range(2):
            assert server.speak("fault:slow:0.3").status_code == 200
        running = in_background(lambda: server.speak("fault:slow:0.5 " + "x" * 100))
        eventually(lambda: server.ready()["queue"]["busy"])
        began = time.monotonic()
        refused = server.speak("hasty", deadline_ms=100)
        assert time.monotonic() - began < 10
        assert (refused.status_code, code(refused)) == (504, "deadline_unreachable")
        assert int(refused.headers["retry-after"]) >= 1
        assert running().status_code == 200
        assert server.metric("ishowtts_drops_total", reason="deadline_unreachable") == 1


def test_a_client_that_stops_reading_holds_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        body = {"input": "x" * 4000, "response_format": "pcm", "speed": 0.5}
        raw = json.dumps(body).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", server.port))
            stuck.sendall(head.encode() + raw)
            stuck.recv(100)
            for _ in range(5):
                assert server.speak("others are served").status_code == 200
            assert server.status("/livez") == 200
            # A reset, as from a machine that went away.
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.speak("and after it, too").status_code == 200
        assert server.stop() == 0


def test_a_full_disk_costs_the_count_of_restarts_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "lives.new").symlink_to(full)
    lives = Lives(folder)
    lives.begin()
    lives.end("leak")
    assert lives.ends == {"leak": 1}
    assert 'restarts are not counted why="No space left on device"' in caplog.text
    (folder / "lives.json").write_text("{damaged")
    assert Lives(folder).ends == {}
    env = {**FAULTY, "STATE_DIRECTORY": str(folder)}
    with serving(tmp_path / "box", env=env) as server:
        server.wait_ready()
        assert server.speak("still here").status_code == 200
        assert server.stop() == 0


def test_several_may_be_spoken_together_each_as_it_would_be_alone(tmp_path: Path) -> None:
    texts = [f"caller number {number}" for number in range(5)]
    with serving(tmp_path / "alone") as server:
        server.wait_ready()
        alone = [server.speak(text).content for text in texts]
    with serving(tmp_path / "batch", env=FAULTY, daemon={"batch": 4}) as server:
        server.wait_ready()
        first = in_background(lambda: server.speak("fault:slow:2"))
        eventually(lambda: server.ready()["queue"]["busy"])
        asked = [in_background(lambda text=text: server.speak(text)) for text in texts]
        eventually(lambda: server.ready()["queue"]["depth"] == 5)
        bad = in_background(lambda: server.speak("fault:raise"))
        assert [answer().content for answer in asked] == alone
        assert bad().status_code == 500, "whose fault it was, and nobody else's"
        assert first().status_code == 200
        assert server.metric("ishowtts_batch_size_count") >= 1
        assert server.metric("ishowtts_batch_size_sum") >= 4


# ---- what is prepared late, and what is read again -----------------------------------------------


def test_the_rest_is_prepared_when_nobody_waits_and_gives_way(tmp_path: Path) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "rest:600"}) as server:
        server.wait_ready()
        eventually(lambda: server.ready()["progress_age_seconds"] < 0.2)
        time.sleep(0.7)
        for _ in range(3):
            assert server.speak("I come first").status_code == 200
        assert server.stop() == 0


def reloading(server: Server, folder: Path, **changes: Any) -> None:
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["daemon"].update(changes.pop("daemon", {}))
    config.update(changes)
    path.write_text(yaml.safe_dump(config))
    server.process.send_signal(signal.SIGHUP)


def test_sighup_takes_all_over_or_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        reloading(server, tmp_path, daemon={"max_text_chars": 12, "queue_limit": 5})
        eventually(lambda: server.metric("ishowtts_reloads_total", outcome="done") == 1)
        assert server.speak("x" * 13).status_code == 400
        assert server.ready()["queue"]["limit"] == 5

        reloading(server, tmp_path, daemon={"max_text_chars": 500, "port": 1024})
        eventually(lambda: server.metric("ishowtts_reloads_total", outcome="refused") == 1)
        assert "daemon.port cannot be changed while the daemon runs" in server.log
        assert server.speak("x" * 13).status_code == 400, "nothing of it was taken over"

        port = {"port": server.port}
        voice = {"id": "tone-c", "audio": "/nowhere.wav", "text": "words"}
        reloading(server, tmp_path, daemon=port, voices=[voice], default_voice="nobody")
        eventually(lambda: server.metric("ishowtts_reloads_total", outcome="refused") == 2)
        assert "default_voice is 'nobody'" in server.log
        assert server.speak("x" * 13).status_code == 400

        reloading(server, tmp_path, default_voice="tone-c")
        eventually(lambda: server.metric("ishowtts_reloads_total", outcome="done") == 2)
        assert server.ready()["default_voice"] == "tone-c"
        assert server.speak("x" * 400).headers["x-ishowtts-voice"] == "tone-c"
        assert server.stop() == 0


def test_a_voice_whose_file_vanished_is_no_reload_and_no_loss(tmp_path: Path) -> None:
    """The one engine that reads recordings here needs no model: the loader is asked directly."""
    from ishowtts_ops.config import Manifest, parse
    from ishowtts_ops.daemon.engine import StartRefused
    from ishowtts_ops.daemon.tone import ToneEngine
    from ishowtts_ops.daemon.voices import load_voices
    from ishowtts_ops.host import Host

    engine = ToneEngine("")
    engine.needs_reference = True
    settings = parse("voices: [{id: gone, audio: /gone.wav, text: words}]", "test")
    with pytest.raises(StartRefused, match=r"voice 'gone', /gone.wav, cannot be read"):
        load_voices(settings, Manifest(), engine, Host.at(tmp_path))


def test_a_caller_who_left_is_noticed_in_the_middle_of_a_piece(tmp_path: Path) -> None:
    with serving(tmp_path, env=FAULTY) as server:
        server.wait_ready()
        with contextlib.suppress(httpx.ReadTimeout):
            server.http.post("/v1/audio/speech", json={"input": "fault:slow:600"}, timeout=0.3)
        eventually(lambda: not server.ready()["queue"]["busy"])
