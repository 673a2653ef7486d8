"""The HTTP face of a running daemon with the tone engine."""

from __future__ import annotations

import io
import json
import socket
import threading
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from tests.service.daemon.daemon_server import Server, eventually, serving

RATE = 24_000
CHAR_FRAMES = 1200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("tone"),
        daemon={"queue_limit": 60, "watchdog_seconds": 60},
        env={"ISHOWTTS_TONE_FAULT": "text"},
    ) as running:
        yield running.wait_ready()


def pitches(samples: np.ndarray[Any, Any]) -> list[float]:
    """Hz of the loudest tone of each character."""
    rows = samples.reshape(-1, CHAR_FRAMES)
    spectrum = np.abs(np.fft.rfft(rows * np.hanning(CHAR_FRAMES), n=CHAR_FRAMES * 8))
    return [float(peak) * RATE / (CHAR_FRAMES * 8) for peak in spectrum.argmax(axis=1)]


def read_wav(content: bytes) -> np.ndarray[Any, Any]:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


# ---- speech --------------------------------------------------------------------------------------


def test_a_wav_says_every_character_in_order(server: Server) -> None:
    answer = server.speak("abcz")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    samples = read_wav(answer.content)
    assert len(samples) == 4 * CHAR_FRAMES
    a, b, c, z = pitches(samples)
    assert a < b < c < z
    assert b - a == pytest.approx(8, abs=2.6)
    assert z - a == pytest.approx(200, abs=2.6)


def test_voices_differ_and_the_same_request_gives_the_same_audio(server: Server) -> None:
    one, other = server.speak("hello", voice="tone-a"), server.speak("hello", voice="tone-b")
    assert one.content != other.content
    assert server.speak("hello", voice="tone-a").content == one.content


def test_openais_voice_object_names_a_voice(server: Server) -> None:
    assert server.speak("hi", voice={"id": "tone-b"}).headers["x-ishowtts-voice"] == "tone-b"


def test_speed(server: Server) -> None:
    assert len(read_wav(server.speak("hello", speed=2).content)) == 5 * CHAR_FRAMES / 2
    assert len(read_wav(server.speak("hello", speed=0.5).content)) == 5 * CHAR_FRAMES * 2


def test_timings_are_in_the_headers_and_agree(server: Server) -> None:
    headers = server.speak("hello fault:slow:0.05").headers
    seconds = {
        name: float(headers[f"x-ishowtts-{name}-seconds"])
        for name in ("queue", "infer", "first-audio", "total", "audio")
    }
    assert seconds["audio"] == pytest.approx(21 * 0.05)
    assert seconds["infer"] >= 0.05
    assert seconds["queue"] < seconds["first-audio"] <= seconds["total"]
    assert seconds["total"] == pytest.approx(seconds["queue"] + seconds["infer"], abs=1e-5)
    rtf = float(headers["x-ishowtts-rtf"])
    assert rtf == pytest.approx(seconds["infer"] / seconds["audio"], rel=1e-3)
    marks = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    assert float(marks["infer"]) == pytest.approx(seconds["infer"] * 1000, abs=0.01)


def test_pcm_flows_as_it_is_made(server: Server) -> None:
    text = "twenty characters or so fault:slow:0.15"
    whole = read_wav(server.speak(text).content)
    body = {"input": text, "response_format": "pcm"}
    with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.headers["content-type"] == "audio/pcm"
        assert answer.headers["x-ishowtts-sample-rate"] == str(RATE)
        assert "content-length" not in answer.headers
        parts = answer.iter_raw()
        first = next(parts)
        spoken = server.metric("ishowtts_requests_total", outcome="ok", engine="tone")
        rest = b"".join(parts)
    # The first piece was here before the daemon counted the request as spoken.
    after = server.metric("ishowtts_requests_total", outcome="ok", engine="tone")
    assert after == spoken + 1
    assert first and rest
    assert first + rest == whole.tobytes()


def test_a_streamed_wav_is_readable_though_its_length_was_unknown(server: Server) -> None:
    text = "a wav that was streamed in several pieces"
    whole = read_wav(server.speak(text).content)
    answer = server.speak(text, stream_format="audio")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.content[4:8] == answer.content[40:44] == b"\xff\xff\xff\xff"
    assert np.array_equal(read_wav(answer.content), whole)
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples, whole)


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_the_openai_client(server: Server, format: Any) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    wanted = {"model": "tts-1", "voice": "tone-a", "input": "hello", "response_format": format}
    whole = client.audio.speech.create(**wanted).content
    with client.audio.speech.with_streaming_response.create(**wanted) as answer:
        streamed = b"".join(answer.iter_bytes())
    assert streamed == whole
    assert len(whole) == 5 * CHAR_FRAMES * 2 + (44 if format == "wav" else 0)
    assert "tone" in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.speech.create(**{**wanted, "voice": "nobody"})
    assert caught.value.code == "voice_not_found"
    assert caught.value.param == "voice"


def test_fifty_callers_at_once_are_all_answered(server: Server) -> None:
    def call(number: int) -> tuple[int, bytes]:
        voice = "tone-a" if number % 2 else "tone-b"
        answer = server.speak(f"caller {number:02}", voice=voice)
        return answer.status_code, answer.content

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(call, range(50)))
    assert [status for status, _ in answers] == [200] * 50
    assert len({content for _, content in answers}) == 50
    for number in (0, 7, 49):
        assert answers[number] == call(number)


# ---- bad input -----------------------------------------------------------------------------------

BAD = {
    "empty": ({"input": ""}, "input", "input_empty"),
    "blank": ({"input": " \n\t "}, "input", "input_empty"),
    "unspeakable": ({"input": "?!…"}, "input", "input_empty"),
    "long": ({"input": "a" * 10_000}, "input", "input_too_long"),
    "long-chinese": ({"input": "字" * 10_000}, "input", "input_too_long"),
    "control": ({"input": "bell \x07"}, "input", "control_character"),
    "nul": ({"input": "nul \x00"}, "input", "control_character"),
    "surrogate": ({"input": "half \ud83d"}, "input", "invalid_utf8"),
    "no-input": ({}, "input", "missing"),
    "number": ({"input": 5}, "input", "invalid_value"),
    "null": ({"input": None}, "input", "invalid_value"),
    "slow": ({"input": "a", "speed": 0.1}, "speed", "invalid_value"),
    "fast": ({"input": "a", "speed": 4.1}, "speed", "invalid_value"),
    "speed-text": ({"input": "a", "speed": "x"}, "speed", "invalid_value"),
    "format": ({"input": "a", "response_format": "wma"}, "response_format", "invalid_value"),
    "sse": ({"input": "a", "stream_format": "words"}, "stream_format", "invalid_value"),
    "voice-type": ({"input": "a", "voice": ["x"]}, "voice", "invalid_value"),
    "unknown-field": ({"input": "a", "pitch": 1}, "pitch", "unknown_field"),
    "instructions": ({"input": "a", "instructions": 1}, "instructions", "invalid_value"),
    "rms": ({"input": "a", "target_rms": 2}, "target_rms", "invalid_value"),
    "fade": ({"input": "a", "cross_fade_duration": -1}, "cross_fade_duration", "invalid_value"),
    "sway": ({"input": "a", "sway_sampling_coef": 2}, "sway_sampling_coef", "invalid_value"),
    "cfg": ({"input": "a", "cfg_strength": 11}, "cfg_strength", "invalid_value"),
    "fixed": ({"input": "a", "fix_duration": 0}, "fix_duration", "invalid_value"),
    "silence": ({"input": "a", "remove_silence": "yes"}, "remove_silence", "invalid_value"),
    "nfe": ({"input": "a", "nfe": 0}, "nfe", "invalid_value"),
    "seed": ({"input": "a", "seed": -1}, "seed", "invalid_value"),
    "deadline": ({"input": "a", "deadline_ms": 0}, "deadline_ms", "invalid_value"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_fields_are_named(server: Server, name: str) -> None:
    body, param, code = BAD[name]
    answer = server.http.post("/v1/audio/speech", content=json.dumps(body).encode())
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("raw", "param", "code"),
    [
        (b'{"input": "latin-1 \xe9"}', "input", "invalid_utf8"),
        (b'{"input": "a", "voice": "\xff"}', "voice", "invalid_utf8"),
        (b"{", None, "invalid_json"),
        (b"", None, "invalid_json"),
        (b"[]", None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b'{"input": "a", "speed": NaN}', None, "invalid_json"),
    ],
)
def test_bad_bodies(server: Server, raw: bytes, param: str | None, code: str) -> None:
    answer = server.http.post("/v1/audio/speech", content=raw)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)


def test_an_unknown_voice_or_model_is_answered_with_those_there_are(server: Server) -> None:
    voice = server.speak("a", voice="nobody")
    assert voice.status_code == 404
    assert voice.json()["error"]["voices"] == ["tone-a", "tone-b"]
    model = server.speak("a", model="gpt-9")
    assert model.status_code == 404
    assert model.json()["error"]["models"][0] == "tone"


def test_a_body_without_end_is_refused(server: Server) -> None:
    answer = server.http.post("/v1/audio/speech", content=b" " * (1 << 21))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_unknown_paths_and_methods_have_the_same_error_shape(server: Server) -> None:
    lost, wrong = server.http.get("/nowhere"), server.http.get("/v1/audio/speech")
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert "/nowhere" in lost.json()["error"]["message"]
    assert "takes POST" in wrong.json()["error"]["message"]


ERRORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "path": ("GET", "/nowhere", {}),
    "method": ("PUT", "/livez", {}),
    "json": ("POST", "/v1/audio/speech", {"content": b"{"}),
    "no object": ("POST", "/v1/audio/speech", {"content": b"[]"}),
    "field": ("POST", "/v1/audio/speech", {"json": {"input": "a", "pitch": 1}}),
    "missing": ("POST", "/v1/audio/speech", {"json": {}}),
    "range": ("POST", "/v1/audio/speech", {"json": {"input": "a", "speed": 9}}),
    "empty": ("POST", "/v1/audio/speech", {"json": {"input": ""}}),
    "voice": ("POST", "/v1/audio/speech", {"json": {"input": "a", "voice": "x"}}),
    "model": ("GET", "/v1/models/x", {}),
    "large": ("POST", "/v1/audio/speech", {"content": b" " * (1 << 21)}),
    "form": ("POST", "/v1/voices", {"json": {}}),
    "built in": ("DELETE", "/v1/voices/tone-a", {}),
    "recording": ("GET", "/v1/voices/tone-a/audio", {}),
    "chat": ("POST", "/api/tts", {"json": {"text": "a", "voice_id": "x"}}),
    "source": ("GET", "/api/voices/tone-a/reference/audio?source=x", {}),
    "origin": ("POST", "/api/tts", {"json": {"text": "a"}, "headers": {"Origin": "http://x.y"}}),
    "engine": ("POST", "/v1/audio/speech", {"json": {"input": "fault:raise"}}),
    "silence": ("POST", "/v1/audio/speech", {"json": {"input": "fault:silence"}}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_one_shape_and_an_id_and_is_a_sentence(server: Server, name: str) -> None:
    method, path, how = ERRORS[name]
    answer = server.http.request(method, path, **how)
    assert answer.status_code >= 400
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["code"] and error["type"]
    assert error["message"][0].isupper() or error["message"].startswith("`")
    assert error["message"].endswith((".", "recording.wav"))


# ---- state ---------------------------------------------------------------------------------------


def test_voices_models_and_openapi(server: Server) -> None:
    voices = server.http.get("/v1/voices").json()
    assert voices["default_voice"] == "tone-a"
    assert [(v["id"], v["default"]) for v in voices["voices"]] == [
        ("tone-a", True),
        ("tone-b", False),
    ]
    assert server.http.get("/v1/models").json()["data"][0]["id"] == "tone"
    schema = server.http.get("/openapi.json").json()
    body = schema["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]
    assert body["application/json"]["schema"] == {"$ref": "#/components/schemas/SpeechBody"}
    assert schema["components"]["schemas"]["SpeechBody"]["required"] == ["input"]
    documented = schema["paths"]["/v1/audio/speech"]["post"]["responses"]
    assert {"200", "400", "404", "413", "429", "500", "503", "504"} <= set(documented)


def test_readyz_tells_the_state(server: Server) -> None:
    story = server.ready()
    assert (story["status"], story["ready"], story["reasons"]) == ("ready", True, [])
    assert (story["engine"], story["device"]) == ("tone", "cpu")
    assert story["voices"] == ["tone-a", "tone-b"]
    assert story["queue"]["limit"] == 60
    assert 0 < story["recent_rtf"] < 1


def test_request_ids_are_kept_or_made(server: Server) -> None:
    own = server.http.get("/livez", headers={"X-Request-Id": "chat-42"})
    assert own.headers["x-request-id"] == "chat-42"
    bad = server.http.get("/livez", headers={"X-Request-Id": "a b"})
    assert len(bad.headers["x-request-id"]) == 32
    spoken = server.http.post(
        "/v1/audio/speech", json={"input": "secret words"}, headers={"X-Request-Id": "chat-43"}
    )
    assert spoken.status_code == 200
    line = eventually(lambda: [x for x in server.log.splitlines() if "id=chat-43" in x])[0]
    assert "spoken" in line and "chars=12" in line and "rtf=" in line
    assert "secret" not in server.log


def test_metrics_count_what_happened(server: Server) -> None:
    ok = {"outcome": "ok", "engine": "tone"}
    before = server.metric("ishowtts_requests_total", **ok)
    audio = server.metric("ishowtts_audio_seconds_total", engine="tone")
    invalid = server.metric("ishowtts_requests_total", outcome="invalid", engine="none")
    server.speak("hello")
    server.speak("")
    assert server.metric("ishowtts_requests_total", **ok) == before + 1
    gained = server.metric("ishowtts_audio_seconds_total", engine="tone") - audio
    assert gained == pytest.approx(0.25)
    assert server.metric("ishowtts_requests_total", outcome="invalid", engine="none") == invalid + 1
    count = server.metric("ishowtts_first_audio_seconds_count", engine="tone")
    assert count == before + 1
    assert server.metric("ishowtts_ready") == 1
    assert server.metric("process_resident_memory_bytes") > 1e6


# ---- the engine in trouble -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        ("raise", "engine_failed", "a test asked for this failure"),
        ("nan", "bad_audio", "not a number"),
        ("silence", "bad_audio", "silence"),
    ],
)
@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_a_failing_engine_is_an_error_and_no_end(
    server: Server, fault: str, code: str, word: str, format: str
) -> None:
    answer = server.speak(f"please fault:{fault}", response_format=format)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == code
    assert word in answer.json()["error"]["message"]
    eventually(lambda: server.status("/readyz") == 200)
    assert server.speak("and again").status_code == 200


def test_a_stream_that_fails_late_is_cut_visibly(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.speak("the second piece of this fault:late fault:raise", response_format="pcm")
    assert server.speak("and again").status_code == 200


def test_a_whole_answer_that_fails_late_is_an_error(server: Server) -> None:
    answer = server.speak("the second piece of this fault:late fault:nan")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "bad_audio")


def test_health_answers_while_the_engine_works_and_a_caller_who_leaves_is_cancelled(
    server: Server,
) -> None:
    outcome = {"outcome": "cancelled", "engine": "tone"}
    cancelled = server.metric("ishowtts_requests_total", **outcome)
    for fields in ({}, {"response_format": "pcm"}):
        caller = post(server, {"input": "on and on fault:slow:600", **fields})
        eventually(lambda: server.ready()["queue"]["busy"])
        assert server.status("/livez") == 200
        assert server.status("/readyz") == 200
        caller.close()
        # The engine is free again long before the 600 seconds are over.
        assert server.speak("next please").status_code == 200
    assert server.metric("ishowtts_requests_total", **outcome) == cancelled + 2


def test_who_leaves_in_the_middle_of_a_stream_is_cancelled(server: Server) -> None:
    outcome = {"outcome": "cancelled", "engine": "tone"}
    cancelled = server.metric("ishowtts_requests_total", **outcome)
    text = "the first piece comes at once, then fault:late fault:slow:600"
    caller = post(server, {"input": text, "response_format": "pcm"})
    assert caller.recv(64).startswith(b"HTTP/1.1 200")
    caller.close()
    assert server.speak("next please").status_code == 200
    assert server.metric("ishowtts_requests_total", **outcome) == cancelled + 1


def test_a_deadline_is_kept_while_the_engine_is_busy(server: Server) -> None:
    busy = post(server, {"input": "busy fault:slow:600"})
    eventually(lambda: server.ready()["queue"]["busy"])
    late = server.speak("stale fault:break", deadline_ms=50)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_passed"
    assert server.ready()["queue"]["depth"] == 0
    busy.close()
    # Had the stale text reached the engine, it would be broken now.
    assert server.speak("not stale").status_code == 200


def post(server: Server, body: dict[str, Any]) -> socket.socket:
    """A request on a bare socket, so that it can be left at any time."""
    raw = json.dumps(body).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    caller = socket.create_connection(("127.0.0.1", server.port))
    caller.sendall(head.encode() + raw)
    return caller


def test_a_caller_who_does_not_read_holds_nobody_up(server: Server) -> None:
    lazy = post(server, {"input": "x" * 4000, "response_format": "pcm", "speed": 0.4})
    assert lazy.recv(15) == b"HTTP/1.1 200 OK"
    done = threading.Event()

    def other() -> None:
        if server.speak("me too").status_code == 200:
            done.set()

    threading.Thread(target=other).start()
    assert done.wait(30)
    lazy.close()
