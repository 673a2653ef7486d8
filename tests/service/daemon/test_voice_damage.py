"""Stored voices that are damaged, vanished or raced for: no start is stopped, no voice is lost."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ishowtts_ops.cli.app import run
from ishowtts_ops.config import Manifest, parse
from ishowtts_ops.daemon.engine import Voice
from ishowtts_ops.daemon.failures import UnknownVoice, VoiceConflict
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.voice_store import Aside, KeyedReference, VoiceStore, keyed
from ishowtts_ops.daemon.voice_table import Base, Voices
from ishowtts_ops.daemon.voices import load_voices
from ishowtts_ops.host import Host
from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.recordings import RATE, WORDS, recording

BUILT_IN = ToneEngine("").builtin


def reference(number: int) -> KeyedReference:
    return keyed(np.full(100, number / 100, dtype=np.float32), RATE, WORDS)


def add(server: Server, name: str, pitch: float = 140.0) -> int:
    form = {
        "id": (None, name),
        "text": (None, WORDS),
        "audio": ("a.wav", recording(pitch=pitch), "audio/wav"),
    }
    return server.http.post("/v1/voices", files=form).status_code


def audio_file(state: Path, name: str) -> Path:
    listing = json.loads((state / "voices/voices.json").read_text())
    keys = {entry["id"]: entry["key"] for entry in listing["voices"]}
    return state / "voices/audio" / f"{keys[name].split('-')[0]}.wav"


# ---- damage --------------------------------------------------------------------------------------


def test_a_damaged_default_voice_is_put_aside_and_another_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    how: dict[str, Any] = {"daemon": {"state_dir": str(state)}}
    with serving(tmp_path / "one", **how) as first:
        first.wait_ready()
        for number, name in enumerate(("anna", "bob", "carl")):
            assert add(first, name, 100 + 40 * number) == 201
        assert first.stop() == 0
    damaged, lost = audio_file(state, "anna"), audio_file(state, "bob")
    data = bytearray(damaged.read_bytes())
    data[-500] ^= 1
    damaged.write_bytes(data)
    lost.unlink()
    how["settings"] = {"default_voice": "anna"}
    for start in ("two", "three"):
        with serving(tmp_path / start, **how) as server:
            server.wait_ready()
            story = server.ready()
            assert (story["ready"], story["default_voice"]) == (True, "tone-a")
            assert story["voices"] == ["tone-a", "tone-b", "carl"]
            asides = {one["id"]: one["why"] for one in story["voices_aside"]}
            assert set(asides) == {"anna", "bob"}
            assert asides["bob"] == "Its recording is gone."
            assert server.http.get("/v1/voices").json()["aside"] == story["voices_aside"]
            assert "a voice is put aside voice=anna" in server.log
            assert "voice=anna speaks_instead=tone-a" in server.log
            assert server.speak("hello").headers["x-ishowtts-voice"] == "tone-a"
            assert server.speak("hello", voice="anna").status_code == 404
            assert server.metric("ishowtts_voices_aside") == 2
            assert run(["voices", "list", "--config", str(tmp_path / start / "config.yaml")]) == 0
            told = " ".join(capsys.readouterr().err.split())
            assert "bob cannot be used: Its recording is gone." in told
            assert server.stop() == 0
    # It is there for whoever wants to mend it, and gives way to a better one.
    assert (state / "voices/aside" / damaged.name).read_bytes() == data
    with serving(tmp_path / "four", **how) as server:
        server.wait_ready()
        assert add(server, "anna") == 201
        assert server.http.delete("/v1/voices/bob").status_code == 200
        assert server.ready()["voices_aside"] == []
        assert server.ready()["default_voice"] == "anna"
    with serving(tmp_path / "five", **how) as server:
        server.wait_ready()
        assert server.ready()["voices"] == ["tone-a", "tone-b", "anna", "carl"]


def test_the_list_before_the_last_change_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path)
    store.load()
    for number, name in enumerate(("anna", "bob")):
        store.put(name, "en", reference(number))
    (tmp_path / "voices.json").write_text('{"voices": [{"id": ')
    again = VoiceStore(tmp_path)
    assert [voice.id for voice in again.load()] == ["anna"]
    assert (tmp_path / "voices.damaged").exists()
    again.put("carl", None, reference(2))
    # What the list does not know is left alone: somebody may still mend it.
    assert len(list((tmp_path / "audio").iterdir())) == 3
    assert [voice.id for voice in VoiceStore(tmp_path).load()] == ["anna", "carl"]


def test_a_folder_that_cannot_be_changed_is_read_all_the_same(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path)
    for number, name in enumerate(("anna", "bob")):
        store.put(name, "en", reference(number))
    key = store.load()[0].reference.key.split("-")[0]  # type: ignore[union-attr]
    (tmp_path / "audio" / f"{key}.wav").write_bytes(b"no recording")
    (tmp_path / "aside").write_text("in the way")
    again = VoiceStore(tmp_path)
    assert [voice.id for voice in again.load()] == ["bob"]
    assert [one.id for one in again.asides] == ["anna"]


def test_two_transcripts_may_share_a_recording_and_only_one_is_damaged(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path)
    store.put("anna", None, reference(1))
    store.put("bob", None, keyed(reference(1).samples, RATE, "Other words."))
    listing = json.loads((tmp_path / "voices.json").read_text())
    listing["voices"][0]["text"] = "Words that somebody changed."
    (tmp_path / "voices.json").write_text(json.dumps(listing))
    again = VoiceStore(tmp_path)
    assert [voice.id for voice in again.load()] == ["bob"]
    assert [voice.id for voice in VoiceStore(tmp_path).load()] == ["bob"]


def test_no_path_of_a_list_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(recording())
    entry = {"id": "x", "text": "t", "key": "../secret-0", "updated_at": "2026"}
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices/voices.json").write_text(json.dumps({"voices": [entry]}))
    store = VoiceStore(tmp_path / "voices")
    assert store.load() == []
    store.remove("x")
    assert (tmp_path / "secret.wav").exists()


def test_strict_loading_refuses_what_lenient_loading_puts_aside(tmp_path: Path) -> None:
    engine = ToneEngine("")
    engine.needs_reference = True
    settings = parse(
        "{voices: [{id: gone, audio: /gone.wav, text: words}], default_voice: gone}", "test"
    )
    host = Host.at(tmp_path)
    voices = load_voices(settings, Manifest(), engine, host, strict=False)
    assert voices.ids == ["tone-a", "tone-b"]
    assert voices.default.id == "tone-a"
    assert [one.id for one in voices.asides] == ["gone"]
    wrong = settings.model_copy(update={"default_voice": "nobody"})
    with pytest.raises(Exception, match="'nobody', which is none of the voices"):
        load_voices(wrong, Manifest(), engine, host, strict=False)


def test_a_stored_voice_that_the_engine_cannot_speak_with_is_put_aside(tmp_path: Path) -> None:
    table = Voices(BUILT_IN, "tone-b", VoiceStore(tmp_path))
    over = table.put("tone-b", None, reference(3))
    other = table.put("anna", None, reference(4))
    assert table.put_aside(over, "It makes nothing but silence.")
    assert table.get("tone-b") is BUILT_IN[1]
    assert table.asides == [Aside("tone-b", "It makes nothing but silence.")]
    assert table.put_aside(other, "So does this.")
    assert table.ids == ["tone-a", "tone-b"]
    assert table.put("anna", None, reference(5)).id == "anna"
    assert [one.id for one in table.asides] == ["tone-b"]
    alone = Voices(BUILT_IN[:1], "tone-a")
    assert not alone.put_aside(BUILT_IN[0], "It was the last.")
    assert alone.ids == ["tone-a"]


# ---- races ---------------------------------------------------------------------------------------


def test_a_reload_in_the_midst_of_new_voices_loses_none(tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = {"state_dir": str(state), "queue_limit": 100}
    with serving(tmp_path, daemon=daemon) as server:
        server.wait_ready()
        names = [f"v{number:02}" for number in range(24)]
        stop = threading.Event()

        def reloads() -> None:
            path = tmp_path / "config.yaml"
            number = 0
            while not stop.is_set():
                number += 1
                config = yaml.safe_load(path.read_text())
                entries = [
                    {"id": f"box-{number}-{n}", "audio": "/x.wav", "text": "w"} for n in range(3)
                ]
                config["voices"] = entries
                path.write_text(yaml.safe_dump(config))
                server.process.send_signal(signal.SIGHUP)
                stop.wait(0.02)

        reloading = threading.Thread(target=reloads)
        reloading.start()
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda pair: add(server, pair[1], 90 + pair[0]), enumerate(names)))
        stop.set()
        reloading.join()
        assert made == [201] * len(names)
        done = server.metric("ishowtts_reloads_total", outcome="done")
        assert done >= 1
        assert set(names) <= set(server.ready()["voices"])
        assert all(server.speak("hi", voice=name).status_code == 200 for name in names[::5])
        server.process.kill()
        server.wait()
    with serving(tmp_path / "again", daemon={"state_dir": str(state)}) as server:
        server.wait_ready()
        assert set(names) <= set(server.ready()["voices"])


def test_of_many_reloads_the_last_word_holds(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.wait_ready()
        path = tmp_path / "config.yaml"
        for number in range(30):
            config = yaml.safe_load(path.read_text())
            config["daemon"]["queue_limit"] = 10 + number
            fresh = path.with_suffix(".new")
            fresh.write_text(yaml.safe_dump(config))
            fresh.replace(path)
            server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.ready()["queue"]["limit"] == 39)
        # Whatever is still under way says the same.
        done = server.metric("ishowtts_reloads_total", outcome="done")
        assert done >= 1
        assert [server.ready()["queue"]["limit"] for _ in range(20)] == [39] * 20


def test_of_two_who_create_the_same_voice_one_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"state_dir": str(tmp_path / "state")}) as server:
        server.wait_ready()
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n: add(server, "anna", 100.0 + 20 * n), range(8)))
        assert sorted(made) == [201] + [409] * 7


def test_other_voices_of_the_box_leave_the_added_ones_alone(tmp_path: Path) -> None:
    table = Voices(BUILT_IN, "tone-a", VoiceStore(tmp_path))
    added = table.put("anna", None, reference(1))
    other = Voice("other", "en")
    table.rebase(Base((other,), "anna"))
    assert (table.ids, table.default) == (["other", "anna"], added)
    with pytest.raises(UnknownVoice):
        table.rebase(Base(BUILT_IN, "nobody"))
    assert table.ids == ["other", "anna"], "nothing was changed"
    with pytest.raises(VoiceConflict):
        table.remove("anna")
    eventually(lambda: VoiceStore(tmp_path).load())
