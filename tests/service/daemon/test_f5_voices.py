"""Voices and settings of single requests on a running F5 engine: real sources, a small network."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.service.daemon import f5_box
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.recordings import WORDS, recording

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

TEXT = "Good evening to everybody here."
RATE = 24_000


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return f5_box.build(tmp_path_factory.mktemp("box"))


def start(folder: Path, box: Path, **how: Any) -> Any:
    daemon = {"state_dir": "/state", **how.pop("daemon", {})}
    manifest = how.pop("manifest", f5_box.MANIFEST)
    env = f5_box.ENVIRONMENT
    return serving(folder, "f5", manifest=manifest, root=box, env=env, daemon=daemon, **how)


@pytest.fixture(scope="module")
def server(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("f5"), box) as running:
        yield running.wait_ready()


def samples_of(answer: Any) -> npt.NDArray[np.int16]:
    assert answer.status_code == 200, answer.text
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert rate == RATE
    return np.asarray(samples, dtype=np.int16)


def said(server: Server, voice: str, **fields: Any) -> bytes:
    answer = server.speak(TEXT, **{"voice": voice, "seed": 3, "nfe": 5, **fields})
    assert np.abs(samples_of(answer)).max() > 30
    content: bytes = answer.content
    return content


def form(pitch: float | None = None, **fields: str) -> dict[str, Any]:
    parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    if pitch is not None:
        parts["audio"] = ("a.wav", recording(pitch=pitch), "audio/wav")
    return parts


def prepared(box: Path) -> list[str]:
    return sorted(path.name for path in (box / "state/voices/prepared").glob("*.npz"))


def test_voices_come_change_and_go_on_a_running_engine_and_never_mix(
    server: Server, box: Path
) -> None:
    before = {name: said(server, name) for name in ("anna", "bob")}
    assert len(prepared(box)) == 2

    added = server.http.post("/v1/voices", files=form(140, id="carl", text=WORDS))
    assert added.status_code == 201, added.text
    first = said(server, "carl")
    assert first not in before.values()
    eventually(lambda: len(prepared(box)) == 3)

    replaced = server.http.put("/v1/voices/carl", files=form(230))
    assert replaced.status_code == 200, replaced.text
    second = said(server, "carl")
    assert second not in (first, *before.values())
    over = server.http.put("/v1/voices/bob", files=form(90, text=WORDS))
    assert over.status_code == 200
    wanted = {"anna": before["anna"], "carl": second, "bob": said(server, "bob")}
    assert wanted["bob"] != before["bob"]

    asked = ["anna", "carl", "bob"] * 5
    with ThreadPoolExecutor(6) as pool:
        heard = list(pool.map(lambda name: said(server, name), asked))
    assert heard == [wanted[name] for name in asked]

    assert server.http.delete("/v1/voices/carl").status_code == 200
    assert server.http.delete("/v1/voices/bob").status_code == 200
    assert server.speak(TEXT, voice="carl").status_code == 404
    assert {name: said(server, name) for name in ("anna", "bob")} == before
    # The engine and the disk have let go of what nobody can ask for.
    eventually(lambda: len(prepared(box)) == 2)
    # The same recording again is the same voice again.
    assert server.http.put("/v1/voices/carl", files=form(140, text=WORDS)).status_code == 201
    assert said(server, "carl") == first
    assert server.http.delete("/v1/voices/carl").status_code == 200


def test_prepared_voices_are_found_again_and_damaged_ones_made_anew(
    box: Path, tmp_path: Path
) -> None:
    def waiting(number: int) -> Any:
        return start(tmp_path / str(number), box, daemon={"state_dir": "/again"})

    files = box / "again/voices/prepared"
    with waiting(1) as first:
        first.wait_ready()
        assert first.log.count("kept=false") == 2
        wanted = {name: said(first, name) for name in ("anna", "bob")}
    with waiting(2) as second:
        second.wait_ready()
        assert second.log.count("kept=true") == 2
        assert {name: said(second, name) for name in wanted} == wanted
    one, other = sorted(files.iterdir())
    one.write_bytes(one.read_bytes()[:-1000])
    other.write_bytes(b"not what it was")
    with waiting(3) as third:
        third.wait_ready()
        assert third.log.count("a prepared voice is damaged and made anew") == 2
        assert {name: said(third, name) for name in wanted} == wanted
        assert third.ready()["voices_aside"] == []
    assert len(list(files.iterdir())) == 2


def test_a_recording_that_cannot_be_used_does_not_stop_the_start(box: Path, tmp_path: Path) -> None:
    voices = f5_box.MANIFEST.voices
    lost = voices[0].model_copy(update={"id": "lost", "audio": "/lost.wav"})
    low = voices[0].model_copy(update={"id": "low", "audio": "/low.wav"})
    soundfile.write(box / "low.wav", f5_box.swelling_noise(3), 3000)
    manifest = f5_box.MANIFEST.model_copy(
        update={"voices": (lost, low, *voices), "default_voice": "lost"}
    )
    with start(tmp_path, box, manifest=manifest, daemon={"state_dir": "/lost-state"}) as server:
        server.wait_ready()
        story = server.ready()
        assert (story["voices"], story["default_voice"]) == (["anna", "bob"], "anna")
        asides = {one["id"]: one["why"] for one in story["voices_aside"]}
        assert set(asides) == {"lost", "low"}
        assert "/lost.wav, cannot be read" in asides["lost"]
        # This one could be read, and the engine itself refused it.
        assert "a sample rate of 3000 Hz is too low" in asides["low"]
        assert server.http.get("/v1/voices").json()["aside"] == story["voices_aside"]
        assert server.speak(TEXT, nfe=5).headers["x-ishowtts-voice"] == "anna"
        assert "the default voice is put aside voice=lost" in server.log


# ---- settings of one request ---------------------------------------------------------------------


def test_every_setting_reaches_the_engine(server: Server) -> None:
    usual = said(server, "anna")
    for name, value in (
        ("target_rms", 0.3),
        ("sway_sampling_coef", 0.5),
        ("cfg_strength", 0.5),
        ("cfg_strength", 0.0),
        ("fix_duration", 5.0),
    ):
        answer = server.speak(TEXT, voice="anna", seed=3, nfe=5, **{name: value})
        assert "x-ishowtts-ignored" not in answer.headers
        assert samples_of(answer).any()
        assert answer.content != usual, name
    defaults = {"target_rms": 0.1, "sway_sampling_coef": -1.0, "cfg_strength": 2.0}
    assert said(server, "anna", **defaults, cross_fade_duration=0.15) == usual


def test_fix_duration_counts_reference_and_speech(server: Server) -> None:
    short, long = (
        len(samples_of(server.speak(TEXT, voice="anna", nfe=5, fix_duration=seconds)))
        for seconds in (4.0, 6.5)
    )
    assert (long - short) / RATE == pytest.approx(2.5, abs=0.02)
    refused = server.speak(TEXT, voice="anna", fix_duration=2.0)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "fix_duration")
    assert "the voice's recording takes 2." in error["message"]
    limited = server.speak("a", voice="anna", fix_duration=43.1)
    assert (limited.status_code, limited.json()["error"]["param"]) == (400, "fix_duration")


def test_chunks_overlap_as_long_as_the_request_says(server: Server) -> None:
    text = "Good evening to everybody here. " * 5
    lengths = [
        len(samples_of(server.speak(text, voice="anna", nfe=5, seed=1, cross_fade_duration=fade)))
        for fade in (0.0, 0.3)
    ]
    chunks = (lengths[0] - lengths[1]) / (0.3 * RATE)
    assert chunks == pytest.approx(round(chunks), abs=0.01) and chunks >= 1


def test_ishowtts_asks_by_its_own_names(server: Server) -> None:
    body = {
        "text": TEXT, "voice_id": "anna", "nfe_step": 5, "seed": 3, "target_rms": 0.3,
        "cross_fade_duration": 0.1, "sway_sampling_coef": -0.5, "cfg_strength": 1.5,
        "fix_duration": 5.0, "remove_silence": True,
    }  # fmt: skip
    answer = server.http.post("/api/tts", json=body)
    assert answer.status_code == 200, answer.text
    assert "x-ishowtts-ignored" not in answer.headers
    fields = {name: value for name, value in body.items() if name not in ("text", "voice_id")}
    fields["nfe"] = fields.pop("nfe_step")
    ours = server.speak(TEXT, voice="anna", **fields)
    assert len(samples_of(ours)) == answer.json()["waveform_len"]


def test_settings_of_one_request_do_not_stay(server: Server) -> None:
    usual = said(server, "anna")
    said(server, "anna", target_rms=0.5, cfg_strength=7.0, sway_sampling_coef=0.9)
    assert said(server, "anna") == usual
