"""The whole real path of the F5 engine: upstream's sources with the series applied, a small network
of seeded weights, two voices, and a daemon in a process of its own. What it says is noise."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ishowtts_ops.config import Manifest
from ishowtts_ops.daemon.engine import StartRefused
from ishowtts_ops.daemon.f5 import F5Engine
from ishowtts_ops.host import Host
from tests.service.daemon import f5_box
from tests.service.daemon.daemon_server import Server, eventually, serving

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return f5_box.build(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return f5_box.MANIFEST


@pytest.fixture(scope="module")
def server(
    box: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("f5")
    env = f5_box.ENVIRONMENT
    with serving(folder, "f5", manifest=manifest, root=box, env=env) as running:
        yield running.wait_ready()


def samples_of(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert rate == 24_000
    return samples


def test_it_is_ready_with_the_patched_sources_and_both_voices(server: Server, box: Path) -> None:
    story = server.ready()
    assert (story["engine"], story["device"]) == ("f5", "cpu")
    assert story["voices"] == ["anna", "bob"]
    assert story["source"]["path"] == "/f5/src"
    assert story["source"]["weights"] == "random"
    assert len(story["source"]["sha256"]) == 64
    voices = server.http.get("/v1/voices").json()["voices"]
    assert [voice["reference_seconds"] for voice in voices] == [2.0, 2.0]


def test_a_seed_repeats_itself_and_voices_never_mix(server: Server) -> None:
    def say(voice: str) -> bytes:
        answer = server.speak("Good evening to everybody here.", voice=voice, seed=3)
        assert np.abs(samples_of(answer)).max() > 30
        content: bytes = answer.content
        return content

    first = {voice: say(voice) for voice in ("anna", "bob")}
    assert first["anna"] != first["bob"]
    for voice in ("bob", "anna", "bob"):
        assert say(voice) == first[voice]


def test_length_follows_the_prediction_and_speed(server: Server) -> None:
    normal = samples_of(server.speak("Good evening to everybody here.", seed=1))
    fast = samples_of(server.speak("Good evening to everybody here.", seed=1, speed=2))
    assert len(fast) == pytest.approx(len(normal) / 2, rel=0.1)


def test_nfe_reaches_the_engine(server: Server) -> None:
    few, many = (server.speak("Good evening.", seed=1, nfe=nfe).content for nfe in (5, 16))
    assert len(few) == len(many)
    assert few != many


def test_a_long_text_streams_in_chunks_and_equals_the_whole(server: Server) -> None:
    body = {"input": "Good evening to everybody here. " * 4, "seed": 5, "nfe": 5}
    whole = samples_of(server.http.post("/v1/audio/speech", json=body))
    body["response_format"] = "pcm"
    with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        parts = list(answer.iter_raw())
    assert len(parts) > 1
    streamed = np.frombuffer(b"".join(parts), dtype="<i2")
    assert np.array_equal(streamed, whole)


def test_a_caller_who_leaves_frees_the_engine_between_steps(server: Server) -> None:
    outcome = {"outcome": "cancelled", "engine": "f5"}
    before = server.metric("ishowtts_requests_total", **outcome)
    with pytest.raises(Exception, match="timed out"):
        server.http.post(
            "/v1/audio/speech", json={"input": "On and on. " * 300, "nfe": 64}, timeout=0.5
        )
    eventually(lambda: server.metric("ishowtts_requests_total", **outcome) == before + 1)
    assert server.speak("Next, please.").status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ckpt_file": "/lost.safetensors"}, "ckpt_file is /lost.safetensors, which is not there"),
        ({"source": "/lost"}, "There is no f5_tts package in /lost"),
        ({"source": "/plain"}, "The series is not applied to /plain"),
    ],
)
def test_what_is_missing_is_said_before_the_start(
    box: Path, manifest: Manifest, change: dict[str, str], words: str
) -> None:
    (box / "plain/f5_tts").mkdir(parents=True, exist_ok=True)
    with pytest.raises(StartRefused, match=words) as caught:
        F5Engine(manifest.model_copy(update=change), Host.at(box))
    assert "ishowtts-ops install" in caught.value.hint
