"""iShowTTS's own routes: the shapes its frontend and scripts know."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.service.daemon.daemon_server import Server, serving
from tests.service.daemon.recordings import WORDS, recording


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("ishowtts"),
        daemon={"state_dir": str(tmp_path_factory.mktemp("state"))},
        env={"ISHOWTTS_TONE_FAULT": "text"},
    ) as running:
        yield running.wait_ready()


def tts(server: Server, **fields: Any) -> Any:
    return server.http.post("/api/tts", json=fields)


def test_health_and_voices(server: Server) -> None:
    health = server.http.get("/api/health").json()
    assert health == {"status": "ok", "voices": 2, "default_voice": "tone-a"}
    assert server.http.get("/api/voices").json() == [
        {"id": "tone-a", "engine": "tone", "engine_label": "Tones", "language": "en"},
        {"id": "tone-b", "engine": "tone", "engine_label": "Tones", "language": "en"},
    ]


def test_health_is_honest_while_the_engine_warms_up(tmp_path: Path) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "load:600"}) as server:
        server.wait_listening()
        answer = server.http.get("/api/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "warming")


def test_speech_has_their_shape(server: Server) -> None:
    answer = tts(server, text="hello there", voice_id="tone-b", speed=2, seed=1)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == [
        "request_id",
        "voice_id",
        "engine",
        "engine_label",
        "sample_rate",
        "audio_base64",
        "waveform_len",
        "format",
    ]
    assert (body["voice_id"], body["engine"], body["format"]) == ("tone-b", "tone", "audio/wav")
    with wave.open(io.BytesIO(base64.b64decode(body["audio_base64"]))) as file:
        assert file.getnframes() == body["waveform_len"] == len("hello there") * 600
        assert file.getframerate() == body["sample_rate"] == 24_000
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "x-ishowtts-rtf" in answer.headers
    assert "x-ishowtts-ignored" not in answer.headers


def test_chat_is_made_speakable_and_the_openai_route_is_exact(server: Server) -> None:
    line = "loooooool https://www.example.com/x?y=1"
    assert tts(server, text=line).json()["waveform_len"] == len("loool example.com") * 1200
    exact = server.speak(line, response_format="pcm")
    assert len(exact.content) == len(line) * 2400
    asked = server.speak(line, response_format="pcm", normalize=True)
    assert len(asked.content) == len("loool example.com") * 2400


def test_what_the_engine_does_anyway_is_no_news_and_what_it_does_not_is_named(
    server: Server,
) -> None:
    usual = {
        "target_rms": 0.1,
        "cross_fade_duration": 0.15,
        "sway_sampling_coef": -1,
        "cfg_strength": 2.0,
        "remove_silence": False,
        "nfe_step": 7,
        "engine": "tone",
        "fix_duration": None,
    }
    assert "x-ishowtts-ignored" not in tts(server, text="hi", **usual).headers
    other = {
        **usual,
        "target_rms": 0.2,
        "cross_fade_duration": 0.3,
        "sway_sampling_coef": 0.5,
        "cfg_strength": 3,
        "nfe_step": 16,
        "fix_duration": 2.5,
        "remove_silence": True,
    }
    named = set(tts(server, text="hi", **other).headers["x-ishowtts-ignored"].split(", "))
    assert named == set(other) - {"engine"}
    # The same on OpenAI's route, by its own name for the steps.
    fields = {name: value for name, value in other.items() if name != "engine"}
    fields["nfe"] = fields.pop("nfe_step")
    answer = server.speak("hi", model="tone", **fields)
    assert set(answer.headers["x-ishowtts-ignored"].split(", ")) == set(fields)


BAD = {
    "voice": ({"text": "a", "voice_id": "nobody"}, "voice_id", "voice_not_found"),
    "engine": ({"text": "a", "engine": "shimmy"}, "engine", "engine_not_found"),
    "empty": ({"text": ""}, "text", "input_empty"),
    "nothing": ({}, "text", "missing"),
    "long": ({"text": "字" * 5000}, "text", "input_too_long"),
    "steps": ({"text": "a", "nfe_step": 0}, "nfe_step", "invalid_value"),
    "speed": ({"text": "a", "speed": 9}, "speed", "invalid_value"),
    "rms": ({"text": "a", "target_rms": 0}, "target_rms", "invalid_value"),
    "fade": ({"text": "a", "cross_fade_duration": 3}, "cross_fade_duration", "invalid_value"),
    "sway": ({"text": "a", "sway_sampling_coef": -2}, "sway_sampling_coef", "invalid_value"),
    "cfg": ({"text": "a", "cfg_strength": -1}, "cfg_strength", "invalid_value"),
    "fixed": ({"text": "a", "fix_duration": 99}, "fix_duration", "invalid_value"),
    "unknown": ({"text": "a", "pitch": 1}, "pitch", "unknown_field"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_fields_are_named_as_they_were_sent(server: Server, name: str) -> None:
    body, param, code = BAD[name]
    answer = server.http.post("/api/tts", content=json.dumps(body).encode())
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert f"`{param}`" in error["message"] or "There is no" in error["message"]


def test_the_reference_of_a_voice_is_overridden_and_restored(server: Server) -> None:
    path = "/api/voices/tone-b/reference"
    own = tts(server, text="hello", voice_id="tone-b").json()["audio_base64"]
    before = server.http.get(path).json()
    assert before == {
        "voice_id": "tone-b",
        "engine": "tone",
        "engine_label": "Tones",
        "language": "en",
        "baseline_audio_available": False,
        "override_audio_available": False,
    }
    form = {"text": (None, WORDS), "audio": ("me.wav", recording(), "audio/wav")}
    after = server.http.post(path, files=form)
    assert after.status_code == 200, after.text
    story = after.json()
    assert story["override_reference_text"] == story["active_reference_text"] == WORDS
    assert story["override_audio_available"] is True
    assert story["override_updated_at"].startswith("20")
    assert server.http.get("/api/voices").json()[1]["reference_text"] == WORDS
    assert tts(server, text="hello", voice_id="tone-b").json()["audio_base64"] != own

    audio = server.http.get(f"{path}/audio", params={"source": "override"})
    assert audio.headers["content-type"] == "audio/wav"
    assert audio.headers["x-voice-reference-source"] == "override"
    assert soundfile.info(io.BytesIO(audio.content)).samplerate == 24_000
    assert server.http.get(f"{path}/audio").content == audio.content
    lacking = server.http.get(f"{path}/audio", params={"source": "baseline"})
    assert lacking.status_code == 404
    wrong = server.http.get(f"{path}/audio", params={"source": "else"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "source")

    words = "Good evening to everybody who was here today."
    told = server.http.post(path, files={"text": (None, words), "audio": ("", b"")})
    assert told.json()["active_reference_text"] == words

    restored = server.http.delete(path)
    assert restored.json() == before
    assert server.http.delete(path).json() == before
    assert tts(server, text="hello", voice_id="tone-b").json()["audio_base64"] == own


def test_a_reference_needs_a_voice_and_something_to_change(server: Server) -> None:
    assert server.http.get("/api/voices/nobody/reference").status_code == 404
    form = {"text": (None, WORDS), "audio": ("me.wav", recording(), "audio/wav")}
    assert server.http.post("/api/voices/nobody/reference", files=form).status_code == 404
    empty = server.http.post("/api/voices/tone-a/reference", files={"audio": ("", b"")})
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "audio")


def test_an_added_voice_is_no_override(server: Server) -> None:
    form = {
        "id": (None, "anna"),
        "text": (None, WORDS),
        "audio": ("me.wav", recording(), "audio/wav"),
    }
    assert server.http.post("/v1/voices", files=form).status_code == 201
    refused = server.http.delete("/api/voices/anna/reference")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_baseline")
    assert server.http.delete("/v1/voices/anna").status_code == 200
