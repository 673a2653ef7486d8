"""The client against a real daemon, against nobody, and against somebody else."""

from __future__ import annotations

import http.server
import io
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.client import DaemonClient, DaemonDown, DaemonRefused
from ishowtts_ops.config import Settings
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path_factory.mktemp("client"), env=env) as running:
        yield running.wait_ready()


@pytest.fixture
def client(server: Server) -> Iterator[DaemonClient]:
    with DaemonClient(server.url) as made:
        yield made


def test_state(client: DaemonClient) -> None:
    assert client.livez()
    state = client.readyz()
    assert (state.ready, state.status, state.reasons) == (True, "ready", ())
    assert (state.engine, state.device, state.default_voice) == ("tone", "cpu", "tone-a")
    assert [voice.id for voice in client.voices()] == list(state.voices) == ["tone-a", "tone-b"]
    assert "ishowtts_ready 1.0" in client.metrics()


def test_speech_comes_with_the_daemons_own_timings(client: DaemonClient) -> None:
    spoken = client.speak("hello", voice="tone-b", speed=2.0, seed=1)
    with wave.open(io.BytesIO(spoken.content)) as file:
        assert file.getnframes() == 3000
    assert (spoken.engine, spoken.voice, spoken.fallback) == ("tone", "tone-b", False)
    assert (spoken.format, spoken.sample_rate) == ("wav", 24_000)
    assert spoken.timings is not None
    assert spoken.timings.audio_seconds == pytest.approx(0.125)
    assert spoken.timings.rtf == pytest.approx(spoken.timings.infer / 0.125, rel=0.01)
    assert 0 < spoken.timings.total <= spoken.first_byte_s <= spoken.total_s
    assert len(spoken.request_id) == 32


def test_streamed_speech_is_the_same_and_begins_earlier(client: DaemonClient) -> None:
    text = "the first piece comes early fault:slow:0.1"
    whole = client.speak(text, format="wav")
    streamed = client.speak(text, format="wav", stream=True)
    assert streamed.timings is None
    assert streamed.content[44:] == whole.content[44:]
    assert streamed.first_byte_s < streamed.total_s


def test_an_error_answer_becomes_an_error(client: DaemonClient) -> None:
    with pytest.raises(DaemonRefused, match="no voice 'nobody'") as caught:
        client.speak("hello", voice="nobody")
    assert (caught.value.status, caught.value.code) == (404, "voice_not_found")
    assert (caught.value.param, caught.value.retry_after) == ("voice", None)


def test_a_cut_answer_is_an_error(client: DaemonClient) -> None:
    with pytest.raises(DaemonDown, match="broke off"):
        client.speak("the second piece fails fault:late fault:raise", format="pcm")


def test_a_daemon_that_warms_up_is_alive_and_not_ready(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "load:600"}
    with serving(tmp_path, env=env) as server, DaemonClient(server.url) as client:
        server.wait_listening()
        assert client.livez()
        state = eventually(lambda: client.readyz())
        assert not state.ready
        assert state.status == "warming"
        with pytest.raises(DaemonRefused) as caught:
            client.speak("hello")
        assert caught.value.status == 503
        assert caught.value.retry_after == 5
        assert caught.value.hint == "Try again in 5 s."


def test_nobody_answers() -> None:
    with (
        DaemonClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(DaemonDown, match="No daemon answers") as caught,
    ):
        client.readyz()
    assert "systemctl status ishowtts-tts" in caught.value.hint


def test_somebody_else_answers(tmp_path: Path) -> None:
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with DaemonClient(f"http://127.0.0.1:{other.server_port}") as client:
            for call in (client.readyz, client.voices, client.metrics):
                with pytest.raises(DaemonDown, match="not this toolkit's daemon"):
                    call()
        other.shutdown()


def test_a_daemon_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with (
            DaemonClient(url, timeout=0.2) as client,
            pytest.raises(DaemonDown, match="does not answer"),
        ):
            client.livez()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:27130"),
        ("::1", "http://[::1]:27130"),
        ("0.0.0.0", "http://127.0.0.1:27130"),
        ("::", "http://[::1]:27130"),
        ("192.0.2.7", "http://192.0.2.7:27130"),
    ],
)
def test_where_a_box_finds_its_own_daemon(host: str, url: str) -> None:
    settings = Settings.model_validate({"daemon": {"host": host}})
    assert settings.daemon.url == url
    with DaemonClient.of(settings) as client:
        assert client.base_url == url
