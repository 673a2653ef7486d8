"""The daemon's health, from a real daemon and from answers that are none."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.config import Settings, parse
from ishowtts_ops.facts.daemon_health import (
    DaemonHealth,
    NotRunning,
    parse_outcomes,
    parse_ready,
    read_daemon_health,
)
from ishowtts_ops.facts.value import Unknown
from tests.service.daemon.daemon_server import serving
from tests.service.daemon.recordings import WORDS, recording
from tests.support.ports import free_port

URL = "http://127.0.0.1:27130"


def settings(port: int) -> Settings:
    return parse(f"daemon: {{port: {port}}}", "the test")


def test_a_real_daemon_tells_its_story(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        server.speak("Hello there, this is a test.")
        server.speak("")
        health = read_daemon_health(settings(server.port))
        assert isinstance(health, DaemonHealth), health
        assert (health.live, health.ready, health.status) == (True, True, "ready")
        assert (health.engine, health.device) == ("tone", server.ready()["device"])
        assert health.voices and health.reasons == ()
        assert health.recent_rtf == pytest.approx(server.ready()["recent_rtf"]) or (
            health.recent_rtf is None
        )
        assert health.outcomes["ok"] == 1
        assert health.outcomes["invalid"] == 1
    assert isinstance(read_daemon_health(settings(server.port)), NotRunning)


def test_a_voice_that_a_real_daemon_put_aside(tmp_path: Path) -> None:
    state = tmp_path / "state"
    form = {
        "id": (None, "rita"),
        "text": (None, WORDS),
        "audio": ("a.wav", recording(), "audio/wav"),
    }
    with serving(tmp_path / "one", daemon={"state_dir": str(state)}) as server:
        server.wait_ready()
        assert server.http.post("/v1/voices", files=form).status_code == 201
        health = read_daemon_health(settings(server.port))
        assert isinstance(health, DaemonHealth) and "rita" in health.voices
        assert health.voices_aside == {}
        assert server.stop() == 0
    (damaged,) = (state / "voices/audio").glob("*.wav")
    damaged.write_bytes(b"RIFF, and no more")
    with serving(tmp_path / "two", daemon={"state_dir": str(state)}) as server:
        server.wait_ready()
        health = read_daemon_health(settings(server.port))
        assert isinstance(health, DaemonHealth) and "rita" not in health.voices
        assert list(health.voices_aside) == ["rita"]
        assert health.voices_aside["rita"].endswith(".")
        assert health.default_voice == server.ready()["default_voice"]


def test_a_daemon_that_warms_up_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "load:20"}) as server:
        server.wait_listening()
        health = read_daemon_health(settings(server.port))
        assert isinstance(health, DaemonHealth), health
        assert health.live and not health.ready
        assert health.status == "warming"
        assert health.reasons


def test_nobody_there_is_known(tmp_path: Path) -> None:
    health = read_daemon_health(settings(free_port()))
    assert isinstance(health, NotRunning)


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port whose owner never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_answer_is_unknown_in_time(deaf: int) -> None:
    health = read_daemon_health(settings(deaf), limit_s=0.2)
    assert isinstance(health, Unknown) and not isinstance(health, NotRunning)
    assert "does not answer" in health.reason


@pytest.mark.parametrize(
    "words", [b"", b"SSH-2.0-OpenSSH_8.9\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello"]
)
def test_somebody_else_on_the_port_is_unknown(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # the test is over and has closed the socket
                for _ in range(3):
                    connection, _ = server.accept()
                    connection.recv(1024)
                    connection.sendall(words)
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        health = read_daemon_health(settings(server.getsockname()[1]))
    assert isinstance(health, Unknown) and not isinstance(health, NotRunning)


def test_outcomes_add_up_over_engines() -> None:
    text = (
        'ishowtts_requests_total{engine="f5",outcome="ok"} 4.0\n'
        'ishowtts_requests_total{outcome="ok",engine="espeak"} 1.5e+01\n'
        'ishowtts_requests_total{engine="f5",outcome="failed"} 2.0\n'
        'ishowtts_requests_created{engine="f5",outcome="failed"} 1.7e+09\n'
    )
    assert parse_outcomes(text) == {"ok": 19, "failed": 2}


@given(st.text())
def test_garbage_is_never_a_healthy_daemon(text: str) -> None:
    assert isinstance(parse_ready(URL, text, live=True, metrics=text), Unknown)
    assert all(count >= 0 for count in parse_outcomes(text).values())


@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists))
def test_json_of_another_shape_is_unknown(value: object) -> None:
    assert isinstance(parse_ready(URL, json.dumps(value), live=True), Unknown)
