"""Every format, decoded by somebody else's decoder, whole and streamed, and as events."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import av
import httpx
import numpy as np
import numpy.typing as npt
import openai
import pytest
import soundfile

from ishowtts_ops.daemon.audio import ENCODERS, Flac
from tests.service.daemon.daemon_server import Server, serving

TEXT = "every character of this text is a tone of its own, and all of them are heard"
SECONDS = len(TEXT) * 0.05
RATE = 24_000
TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
}
CODECS = {"flac": "flac", "opus": "opus", "mp3": "mp3float", "aac": "aac"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path_factory.mktemp("formats"), env=env) as running:
        yield running.wait_ready()


def decode(content: bytes, kind: str) -> npt.NDArray[np.float32]:
    """Mono samples at RATE, by FFmpeg's decoders."""
    if kind == "pcm":
        return np.frombuffer(content, dtype="<i2").astype(np.float32) / 32767
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.audio[0]
        assert kind == "wav" or CODECS[kind] in (stream.codec_context.name, "opus")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        parts = [
            part.to_ndarray()[0]
            for frame in file.decode(stream)
            for part in resampler.resample(frame)
        ]
    return np.concatenate(parts)


def likeness(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """The best correlation over the delays that codecs have (priming)."""
    size = min(len(one), len(other)) - 4000
    reference = one[2000 : 2000 + size]
    spectrum = np.fft.rfft(other, 2 * len(other)) * np.conj(np.fft.rfft(reference, 2 * len(other)))
    lag = int(np.fft.irfft(spectrum)[:8000].argmax())
    heard = other[lag : lag + size]
    lengths = float(np.linalg.norm(reference[: len(heard)])) * float(np.linalg.norm(heard))
    return float(reference[: len(heard)] @ heard) / lengths


@pytest.fixture(scope="module")
def original(server: Server) -> npt.NDArray[np.float32]:
    return decode(server.speak(TEXT, response_format="pcm").content, "pcm")


@pytest.mark.parametrize("stream", [None, "audio"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_format_holds_the_speech(
    server: Server, original: npt.NDArray[np.float32], kind: str, stream: str | None
) -> None:
    answer = server.speak(TEXT, response_format=kind, stream_format=stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == TYPES[kind]
    whole = stream is None and kind in ("wav", "flac")
    assert ("content-length" in answer.headers) == whole
    assert ("x-ishowtts-rtf" in answer.headers) == whole
    samples = decode(answer.content, kind)
    assert len(samples) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert likeness(original, samples) > (0.999 if kind in ("wav", "pcm", "flac") else 0.9)


@pytest.mark.parametrize("kind", TYPES)
def test_audio_comes_before_the_speech_is_over(server: Server, kind: str) -> None:
    """The encoder must not keep the first pieces to itself until the end."""
    text = f"{TEXT} fault:late fault:slow:0.1"
    body = {"input": text, "response_format": kind, "stream_format": "audio"}
    done = {"outcome": "ok", "engine": "tone"}
    spoken = server.metric("ishowtts_requests_total", **done)
    with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        parts = answer.iter_raw()
        early = b""
        while len(early) < 1500:
            early += next(parts)
        assert server.metric("ishowtts_requests_total", **done) == spoken
        for _ in parts:
            pass
    assert server.metric("ishowtts_requests_total", **done) == spoken + 1


def test_libsndfile_reads_a_whole_flac(server: Server, original: npt.NDArray[np.float32]) -> None:
    content = server.speak(TEXT, response_format="flac").content
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == RATE
    assert np.abs(samples - original).max() < 1e-3


def test_a_flac_header_says_the_length_only_when_it_is_known() -> None:
    samples = np.zeros(RATE, dtype=np.float32)
    for frames, said in ((RATE, RATE), (None, 0)):
        encoder = Flac()
        content = encoder.start(RATE, frames) + encoder.chunk(samples) + encoder.finish()
        assert int.from_bytes(content[18:26], "big") & (2**36 - 1) == said


def test_what_is_beyond_full_scale_is_clipped_in_every_format() -> None:
    loud = (3 * np.sin(np.arange(RATE) / 10)).astype(np.float32)
    for kind, make in ENCODERS.items():
        encoder = make()
        content = encoder.start(RATE, len(loud)) + encoder.chunk(loud) + encoder.finish()
        assert np.abs(decode(content, kind)[3000:-3000]).max() < 1.4, kind


def test_openais_model_names_mean_mp3_when_nothing_is_said(server: Server) -> None:
    assert server.speak("hi", model="tts-1").headers["content-type"] == "audio/mpeg"
    assert server.speak("hi", model="tone").headers["content-type"] == "audio/wav"
    asked = server.speak("hi", model="tts-1", response_format="wav")
    assert asked.headers["content-type"] == "audio/wav"


# ---- events --------------------------------------------------------------------------------------


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


@pytest.mark.parametrize("kind", ["pcm", "mp3", "wav"])
def test_speech_as_events(server: Server, original: npt.NDArray[np.float32], kind: str) -> None:
    answer = server.speak(TEXT, response_format=kind, stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(answer)
    assert len(deltas) >= 4
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    content = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert likeness(original, decode(content, kind)) > 0.9
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {
        "input_tokens": len(TEXT),
        "output_tokens": round(SECONDS * 50),
        "total_tokens": len(TEXT) + round(SECONDS * 50),
    }
    assert done["timings"]["audio_seconds"] == pytest.approx(SECONDS)


def test_an_event_says_what_failed_in_the_middle(server: Server) -> None:
    text = f"{TEXT} fault:late fault:raise"
    *deltas, last = events(server.speak(text, stream_format="sse"))
    assert deltas and {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert last["type"] == "error"
    assert last["error"]["code"] == "engine_failed"


def test_what_fails_before_any_audio_is_an_error_and_no_event(server: Server) -> None:
    answer = server.speak("fault:raise", stream_format="sse")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")


# ---- OpenAI's own client -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("kind", TYPES)
def test_the_openai_client_whole_and_streaming(
    client: openai.OpenAI, original: npt.NDArray[np.float32], kind: Any
) -> None:
    wanted: dict[str, Any] = {"model": "tts-1", "voice": "tone-a", "input": TEXT}
    whole = client.audio.speech.create(**wanted, response_format=kind).content
    assert likeness(original, decode(whole, kind)) > 0.9
    with client.audio.speech.with_streaming_response.create(
        **wanted, response_format=kind
    ) as answer:
        streamed = b"".join(answer.iter_bytes(1024))
    assert likeness(original, decode(streamed, kind)) > 0.9


def test_the_openai_client_reads_events_and_default_format(client: openai.OpenAI) -> None:
    wanted: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "tone-a", "input": TEXT}
    assert len(decode(client.audio.speech.create(**wanted).content, "mp3")) > RATE
    with client.audio.speech.with_streaming_response.create(
        **wanted, stream_format="sse"
    ) as answer:
        kinds = [json.loads(line[6:])["type"] for line in answer.iter_lines() if line]
    assert kinds[-1] == "speech.audio.done" and "speech.audio.delta" in kinds


def test_the_openai_client_finds_models(client: openai.OpenAI) -> None:
    assert "tone" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tone").owned_by == "ishowtts-ops"
    assert client.models.retrieve("tts-1").id == "tts-1"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-7")
    assert caught.value.code == "model_not_found"


def test_a_client_of_gpt_4o_mini_tts_needs_no_change(
    client: openai.OpenAI, server: Server, original: npt.NDArray[np.float32]
) -> None:
    """Its voice is OpenAI's and it sends instructions: both are taken, and named as not obeyed."""
    for model in ("gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"):
        answer = client.audio.speech.with_raw_response.create(
            model=model, voice="alloy", input=TEXT, instructions="Speak in a cheerful tone."
        )
        assert answer.headers["x-ishowtts-ignored"] == "voice, instructions"
        assert answer.headers["x-ishowtts-voice"] == "tone-a"
        assert likeness(original, decode(answer.content, "mp3")) > 0.9
    plain = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="tone-b", input="hi", instructions=""
    )
    assert "x-ishowtts-ignored" not in plain.headers
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="nova",
        input=TEXT,
        instructions="Whisper.",
        response_format="pcm",
        stream_format="sse",
        speed=2,
    ) as events_:
        assert events_.headers["x-ishowtts-ignored"] == "voice, instructions"
        kinds = [json.loads(line[6:])["type"] for line in events_.iter_lines() if line]
    assert kinds[-1] == "speech.audio.done"
    assert server.http.get("/v1/voices/alloy").status_code == 404, "it is not listed as a voice"


def test_fields_that_are_null_are_fields_left_out(server: Server) -> None:
    fields = ("model", "voice", "response_format", "speed", "instructions", "stream_format",
              "nfe", "seed", "deadline_ms", "priority", "fallback", "normalize")  # fmt: skip
    answer = server.speak("hello", **dict.fromkeys(fields))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"voice": "nobody"}, openai.NotFoundError, "voice", "voice_not_found"),
        ({"model": "gpt-7"}, openai.NotFoundError, "model", "model_not_found"),
        ({"input": ""}, openai.BadRequestError, "input", "input_empty"),
        ({"input": "x" * 4097}, openai.BadRequestError, "input", "input_too_long"),
        ({"speed": 5}, openai.BadRequestError, "speed", "invalid_value"),
        ({"input": "fault:raise"}, openai.InternalServerError, None, "engine_failed"),
    ],
)
def test_the_openai_client_understands_our_errors(
    client: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], param: str,
    code: str,
) -> None:  # fmt: skip
    with pytest.raises(kind) as caught:
        client.audio.speech.create(**{"model": "tts-1", "voice": "tone-a", "input": "a", **fields})
    error = caught.value
    assert (error.param, error.code) == (param, code)
    assert isinstance(error.body, dict)
    assert set(error.body) >= {"message", "type", "param", "code"}
    assert error.request_id and len(error.request_id) == 32
