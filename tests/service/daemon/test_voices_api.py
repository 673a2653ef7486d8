"""Voices given to a running daemon: judged, heard, kept over restarts, and never mixed up."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from ishowtts_ops.daemon.failures import StoreFailed, VoiceConflict
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.voice_store import MOST_VOICES, VoiceStore, keyed
from ishowtts_ops.daemon.voices import Voices
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.recordings import RATE, WORDS, as_file, recording, voice


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("voices"),
        daemon={"state_dir": str(state), "queue_limit": 60},
        env={"ISHOWTTS_TONE_FAULT": "text"},
    ) as running:
        yield running.wait_ready()


@pytest.fixture(autouse=True)
def clean(server: Server) -> Iterator[None]:
    yield
    for row in server.http.get("/v1/voices").json()["voices"]:
        if row["source"] == "added":
            assert server.http.delete(f"/v1/voices/{row['id']}").status_code == 200


def form(audio: bytes | None = None, **fields: str) -> dict[str, Any]:
    parts: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    if audio is not None:
        parts["audio"] = ("a recording", audio, "audio/wav")
    return parts


def add(server: Server, name: str, audio: bytes | None = None, **fields: str) -> httpx.Response:
    fields = {"text": WORDS, "language": "en", **fields}
    return server.http.post("/v1/voices", files=form(audio or recording(), id=name, **fields))


def said(server: Server, name: str, text: str = "hello") -> bytes:
    answer = server.speak(text, voice=name)
    assert answer.status_code == 200, answer.text
    return answer.content


# ---- create, list, replace, delete ---------------------------------------------------------------


def test_a_voice_is_on_offer_for_the_next_request(server: Server, state: Path) -> None:
    before = said(server, "tone-a")
    answer = add(server, "anna")
    assert answer.status_code == 201, answer.text
    row = answer.json()
    assert (row["id"], row["language"], row["source"]) == ("anna", "en", "added")
    assert row["reference_seconds"] == pytest.approx(3, abs=0.15)
    assert row["figures"]["characters_per_second"] == pytest.approx(15, abs=1)
    assert row["warnings"] == []
    assert said(server, "anna") not in (before, said(server, "tone-b"))
    listed = server.http.get("/v1/voices").json()["voices"]
    assert [one["id"] for one in listed] == ["tone-a", "tone-b", "anna"]
    assert server.http.get("/v1/voices/anna").json() == listed[-1]
    assert "anna" in server.ready()["voices"]
    kept = [path.name for path in (state / "voices/audio").iterdir()]
    assert len(kept) == 1 and "anna" not in kept[0]


def test_its_recording_comes_back_in_the_form_engines_are_given(server: Server) -> None:
    stereo = np.stack([voice(rate=44_100), 0 * voice(rate=44_100)], axis=1)
    silence = np.zeros((44_100, 2))
    file = as_file(np.concatenate([silence, stereo, silence]), 44_100, "FLAC")
    row = add(server, "bob", file).json()
    content = server.http.get("/v1/voices/bob/audio").content
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (rate, samples.ndim) == (RATE, 1)
    # A second of silence on either side is gone.
    assert len(samples) / RATE == pytest.approx(row["reference_seconds"], abs=1e-3)
    assert len(samples) / RATE == pytest.approx(3.0, abs=0.15)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_usual_formats_are_read(server: Server, format: str) -> None:
    assert add(server, "carl", as_file(voice(), format=format)).status_code == 201


def test_m4a_is_read_too(server: Server) -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ipod") as file:
        stream = file.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            voice().astype(np.float32)[None, :], format="fltp", layout="mono"
        )
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert add(server, "dora", buffer.getvalue()).status_code == 201


def test_replacing_changes_the_next_request_and_keeps_what_is_not_given(server: Server) -> None:
    add(server, "anna")
    first = said(server, "anna")
    again = server.http.post("/v1/voices", files=form(recording(), id="anna", text=WORDS))
    assert (again.status_code, again.json()["error"]["code"]) == (409, "voice_exists")
    new = server.http.put("/v1/voices/anna", files=form(recording(pitch=200)))
    assert new.status_code == 200
    assert (new.json()["reference_text"], new.json()["language"]) == (WORDS, "en")
    second = said(server, "anna")
    assert second != first
    words = "Good evening to everybody who was here today."
    told = server.http.put("/v1/voices/anna", files=form(text=words))
    assert told.json()["reference_text"] == words
    assert said(server, "anna") not in (first, second)
    back = server.http.put("/v1/voices/anna", files=form(recording(), text=WORDS))
    assert back.status_code == 200
    assert said(server, "anna") == first


def test_put_creates_what_is_not_there(server: Server) -> None:
    made = server.http.put("/v1/voices/eva", files=form(recording(), text=WORDS))
    assert made.status_code == 201
    lacking = server.http.put("/v1/voices/fred", files=form(recording()))
    error = lacking.json()["error"]
    assert (lacking.status_code, error["param"], error["code"]) == (400, "text", "missing")


def test_deleting(server: Server, state: Path) -> None:
    add(server, "anna")
    gone = server.http.delete("/v1/voices/anna")
    assert gone.json() == {"id": "anna", "deleted": True, "voice": None}
    assert server.speak("hello", voice="anna").status_code == 404
    assert server.http.delete("/v1/voices/anna").status_code == 404
    assert list((state / "voices/audio").iterdir()) == []


def test_a_voice_of_the_box_can_be_overridden_and_is_back_afterwards(server: Server) -> None:
    own = said(server, "tone-b")
    refused = server.http.delete("/v1/voices/tone-b")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "voice_read_only")
    over = server.http.put("/v1/voices/tone-b", files=form(recording(), text=WORDS))
    assert over.status_code == 200
    assert (over.json()["source"], over.json()["overrides"]) == ("added", True)
    assert said(server, "tone-b") != own
    back = server.http.delete("/v1/voices/tone-b").json()
    assert (back["voice"]["source"], back["voice"]["id"]) == ("engine", "tone-b")
    assert said(server, "tone-b") == own


# ---- what is refused, with its reasons -----------------------------------------------------------

SILENT_GAPS = np.concatenate([voice(0.5), np.zeros(RATE * 3), voice(0.5)])
REFUSED = {
    "short": (as_file(voice(0.6)), "Hello, you.", "too_short", "audio"),
    "long": (as_file(voice(14)), WORDS * 5, "too_long", "audio"),
    "quiet": (as_file(voice(rms=0.002)), WORDS, "too_quiet", "audio"),
    "silent": (as_file(np.zeros(RATE * 3)), WORDS, "too_quiet", "audio"),
    "clipped": (as_file(np.clip(voice(rms=1.5), -1, 1)), WORDS, "clipped", "audio"),
    "gaps": (as_file(SILENT_GAPS), WORDS, "mostly_silence", "audio"),
    # 20 characters in three seconds: 6.7 a second, the pace of boxes in the field.
    "slow": (recording(), "These are few words.", "transcript_rate", "text"),
    "fast": (recording(), WORDS * 3, "transcript_rate", "text"),
    "slow-chinese": (recording(), "大家晚上好", "transcript_rate", "text"),
    "no-audio": (b"RIFF and then nothing", WORDS, "broken", "audio"),
    "playlist": (b"#EXTM3U\n#EXTINF:5,\nfile:///etc/hostname\n", WORDS, "broken", "audio"),
    "concat": (b"ffconcat version 1.0\nfile '/etc/hostname'\n", WORDS, "broken", "audio"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_recordings_are_refused_with_their_reason(server: Server, name: str) -> None:
    audio, text, code, param = REFUSED[name]
    answer = add(server, "bad", audio, text=text)
    error = answer.json()["error"]
    assert answer.status_code == 422
    assert (error["code"], error["param"]) == (code, param)
    assert error["reasons"][0]["code"] == code
    assert error["reasons"][0]["message"] in error["message"]
    assert server.http.get("/v1/voices/bad").status_code == 404


def test_all_reasons_come_at_once(server: Server) -> None:
    loud = np.clip(voice(0.7, rms=1.5), -1, 1)
    error = add(server, "bad", as_file(loud), text="A").json()["error"]
    codes = [reason["code"] for reason in error["reasons"]]
    assert codes == ["too_short", "clipped", "transcript_rate"]


def test_good_chinese_is_no_slow_english(server: Server) -> None:
    answer = add(server, "li", text="大家晚上好，欢迎来到我的直播间。", language="zh")
    assert answer.status_code == 201, answer.text


def test_what_is_odd_is_said(server: Server) -> None:
    row = add(server, "slow", text="Good evening to everybody.").json()
    assert row["figures"]["characters_per_second"] == pytest.approx(8.7, abs=0.5)
    assert "fewer words" in row["warnings"][0]


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile '{path}'\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{path}\n#EXT-X-ENDLIST\n",
        "<?xml version='1.0'?><MPD><Period><BaseURL>{path}</BaseURL></Period></MPD>",
    ],
)
def test_no_path_from_an_upload_is_opened(server: Server, tmp_path: Path, playlist: str) -> None:
    (tmp_path / "secret.wav").write_bytes(recording())
    for path in (tmp_path / "secret.wav", f"file://{tmp_path}/secret.wav"):
        answer = add(server, "bad", playlist.format(path=path).encode())
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "broken")


BAD_FORMS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "no-id": (form(recording(), text=WORDS), "id", "missing"),
    "no-text": (form(recording(), id="x"), "text", "missing"),
    "no-audio": (form(id="x", text=WORDS), "audio", "missing"),
    "empty-audio": (form(b"", id="x", text=WORDS), "audio", "audio_empty"),
    "path": (form(recording(), id="../x", text=WORDS), "id", "invalid_value"),
    "slash": (form(recording(), id="a/b", text=WORDS), "id", "invalid_value"),
    "line": (form(recording(), id="a\n", text=WORDS), "id", "invalid_value"),
    "blank": (form(recording(), id="x", text=" "), "text", "text_empty"),
    "long": (form(recording(), id="x", text="a " * 600), "text", "text_too_long"),
    "control": (form(recording(), id="x", text="a\x07b"), "text", "control_character"),
    "language": (form(recording(), id="x", text=WORDS, language="?"), "language", "invalid_value"),
    "unknown": (form(recording(), id="x", text=WORDS, pitch="1"), "pitch", "unknown_field"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_bad_fields_are_named(server: Server, name: str) -> None:
    parts, param, code = BAD_FORMS[name]
    answer = server.http.post("/v1/voices", files=parts)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)


def test_bodies_that_are_no_form(server: Server) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for headers, body in (({}, b"{}"), (kind, b"no boundary at all"), (kind, b"--x\r\nbad\r\n")):
        answer = server.http.post("/v1/voices", content=body, headers=headers)
        assert answer.status_code == 400
    huge = server.http.post("/v1/voices", content=b"x" * (17 << 20), headers=kind)
    assert huge.status_code == 413


# ---- kept, and never mixed -----------------------------------------------------------------------


def test_voices_survive_a_restart_and_damage_is_left_out(tmp_path: Path) -> None:
    daemon = {"state_dir": str(tmp_path / "state")}
    with serving(tmp_path / "one", daemon=daemon) as first:
        first.wait_ready()
        add(first, "anna")
        add(first, "bob", recording(pitch=220))
        first.http.put("/v1/voices/tone-b", files=form(recording(pitch=90), text=WORDS))
        spoken = {name: said(first, name) for name in ("anna", "bob", "tone-b")}
        first.process.kill()
        first.wait()
    with serving(tmp_path / "two", daemon=daemon, settings={"default_voice": "bob"}) as second:
        second.wait_ready()
        assert {name: said(second, name) for name in spoken} == spoken
        assert second.ready()["default_voice"] == "bob"
        refused = second.http.delete("/v1/voices/bob").json()["error"]
        assert refused["code"] == "voice_is_default"
    file = audio_file(tmp_path / "state", "anna")
    file.write_bytes(file.read_bytes()[:-400])
    with serving(tmp_path / "three", daemon=daemon) as third:
        third.wait_ready()
        assert third.ready()["voices"] == ["tone-a", "tone-b", "bob"]
        assert "a voice is put aside voice=anna" in third.log


def audio_file(state: Path, name: str) -> Path:
    """The file with a voice's recording."""
    listing = json.loads((state / "voices/voices.json").read_text())
    keys = {entry["id"]: entry["key"] for entry in listing["voices"]}
    return state / "voices/audio" / f"{keys[name].split('-')[0]}.wav"


def test_alternating_voices_never_mix_while_one_is_replaced_under_way(server: Server) -> None:
    """What was asked for under the old recording is spoken by it, whatever came meanwhile."""
    add(server, "left", recording(pitch=100))
    add(server, "right", recording(pitch=300))
    texts = [f"line {number:02}" for number in range(12)]
    expected = {
        (name, text): said(server, name, text) for name in ("left", "right") for text in texts
    }
    asked = [(name, text) for text in texts for name in ("left", "right")]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda pair: said(server, *pair), asked))
    assert [expected[pair] for pair in asked] == found

    slow = "on and on fault:slow:0.5"
    old = said(server, "left", slow)
    answers: list[bytes] = []
    under_way = threading.Thread(target=lambda: answers.append(said(server, "left", slow)))
    under_way.start()
    eventually(lambda: server.ready()["queue"]["busy"])
    waiting = threading.Thread(target=lambda: answers.append(said(server, "left", slow)))
    waiting.start()
    eventually(lambda: server.ready()["queue"]["depth"] == 1)
    replaced = server.http.put("/v1/voices/left", files=form(recording(pitch=180)))
    assert replaced.status_code == 200
    under_way.join()
    waiting.join()
    assert answers == [old, old]
    assert said(server, "left", slow) != old


def test_there_is_a_limit_and_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    voices = Voices(ToneEngine("").builtin, "tone-a", VoiceStore(tmp_path))
    for number in range(MOST_VOICES - 2):
        samples = np.full(100, number / 100, dtype=np.float32)
        voices.put(f"v{number}", None, keyed(samples, RATE, WORDS))
    with pytest.raises(VoiceConflict) as caught:
        voices.put("one-more", None, keyed(samples, RATE, WORDS))
    assert caught.value.code == "too_many_voices"
    again = voices.put("v0", "en", keyed(samples, RATE, "Others."))
    assert voices.get("v0") is again
    files = sorted((tmp_path / "audio").iterdir())
    assert len(files) == MOST_VOICES - 3, "v0 and the last one share a recording"

    listing = tmp_path / "voices.json"
    listing.unlink()
    listing.mkdir()  # nothing can be moved there any more
    with pytest.raises(StoreFailed):
        voices.remove("v1")
    assert "v1" in voices.ids
    with pytest.raises(StoreFailed):
        voices.put("v2", None, keyed(samples, RATE, "Others."))
    assert voices.get("v2").reference.text == WORDS  # type: ignore[union-attr]
    assert set(files) <= set((tmp_path / "audio").iterdir())


def test_a_damaged_list_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "voices.json").write_text('{"voices": [{"id": ')
    store = VoiceStore(tmp_path)
    assert store.load() == []
    assert (tmp_path / "voices.damaged").read_text().startswith('{"voices"')
    store.put("anna", None, keyed(np.ones(9, dtype=np.float32), RATE, WORDS))
    assert [one.id for one in VoiceStore(tmp_path).load()] == ["anna"]


def test_without_a_folder_nothing_is_promised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving(tmp_path, daemon={"state_dir": str(tmp_path / "file")}) as server:
        server.wait_ready()
        answer = add(server, "anna")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_failed")
        assert "daemon.state_dir" in answer.json()["error"]["message"]
        assert server.ready()["voices"] == ["tone-a", "tone-b"]


def test_a_daemon_that_is_not_ready_takes_no_voice(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "load:600"}
    daemon = {"state_dir": str(tmp_path / "state"), "fallback": "never"}
    with serving(tmp_path, daemon=daemon, env=env) as server:
        server.wait_listening()
        answer = add(server, "anna")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert "retry-after" in answer.headers
