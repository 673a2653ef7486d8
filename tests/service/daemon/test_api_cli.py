"""`say` and `voices` of the command line against a running daemon."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from ishowtts_ops.cli.app import run
from ishowtts_ops.client import DaemonClient, DaemonRefused
from ishowtts_ops.config import load
from ishowtts_ops.facts.daemon_health import DaemonHealth, read_daemon_health
from ishowtts_ops.facts.value import Unknown
from tests.service.daemon.daemon_server import Server, serving
from tests.service.daemon.recordings import WORDS, recording

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(folder, daemon={"state_dir": str(folder / "state")}, env=env) as running:
        yield running.wait_ready()


@pytest.fixture
def cli(server: Server, folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Cli:
    def call(*words: str) -> tuple[int, str, str]:
        code = run([*words, "--config", str(folder / "config.yaml")])
        out, err = capsysbinary.readouterr()
        return code, out.decode("latin-1"), err.decode()

    return call


def test_a_voice_from_the_command_line(cli: Cli, server: Server, tmp_path: Path) -> None:
    (tmp_path / "me.wav").write_bytes(recording())
    code, out, err = cli(
        "voices", "add", "anna", str(tmp_path / "me.wav"), "--text", WORDS, "--language", "en"
    )
    assert code == 0, err
    assert "characters per second: 1" in out
    code, out, _ = cli("voices", "list")
    row = next(line for line in out.splitlines() if line.startswith("anna"))
    assert "added" in row and WORDS in row
    code, out, _ = cli("voices", "show", "anna", "-o", str(tmp_path / "back.wav"))
    assert (code, WORDS in out) == (0, True)
    assert soundfile.info(str(tmp_path / "back.wav")).samplerate == 24_000

    code, _, err = cli("voices", "add", "anna", str(tmp_path / "me.wav"), "--text", WORDS)
    assert code == 1 and "There is a voice 'anna' already." in err
    slow = "Good evening to everybody."
    code, out, err = cli("voices", "add", "anna", "--replace", "--text", slow, "--json")
    assert json.loads(out)["data"]["voice"]["reference_text"] == slow
    assert "fewer words" in json.loads(out)["data"]["warnings"][0]

    code, out, _ = cli("voices", "remove", "anna")
    assert (code, out.strip()) == (0, "anna: deleted.")
    code, _, err = cli("voices", "remove", "tone-a")
    assert code == 1 and "is built into the engine" in err


def test_a_bad_recording_is_refused_with_its_reason(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "me.wav").write_bytes(recording())
    code, _, err = cli("voices", "add", "bad", str(tmp_path / "me.wav"), "--text", "Too few words")
    assert code == 1
    assert "fewer words than are spoken" in " ".join(err.split())
    code, _, err = cli("voices", "add", "bad", str(tmp_path / "none.wav"), "--text", "x")
    assert code == 2 and "There is no file" in err
    code, _, err = cli("voices", "add", "bad")
    assert code == 2 and "--text" in err


@pytest.mark.parametrize(("name", "kind"), [("a.flac", "FLAC"), ("a.ogg", "OGG"), ("a.mp3", "MP3")])
def test_a_file_is_written_as_it_is_called(cli: Cli, tmp_path: Path, name: str, kind: str) -> None:
    code, out, err = cli("say", "hello to all of you", "-o", str(tmp_path / name))
    assert code == 0, err
    assert name in out
    info = soundfile.info(str(tmp_path / name))
    assert info.format == kind
    assert info.duration == pytest.approx(0.95, abs=0.15)


def test_a_stream_goes_to_standard_output(cli: Cli) -> None:
    code, out, err = cli("say", "hello to all of you", "--stream", "-o", "-")
    assert code == 0, err
    samples, rate = soundfile.read(io.BytesIO(out.encode("latin-1")))
    assert (rate, len(samples)) == (24_000, 19 * 1200)


def test_a_refused_text_leaves_an_older_file_as_it_was(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("older")
    code, _, err = cli("say", "?!", "--stream", "-o", str(tmp_path / "a.wav"))
    assert code == 1 and "input" in err
    assert (tmp_path / "a.wav").read_text() == "older"
    code, _, err = cli("say", "hello", "--format", "wma")
    assert code == 2 and "Formats: wav" in err


def test_the_client_gives_parts_as_they_come_and_quotes_ids(server: Server) -> None:
    parts: list[bytes] = []
    with DaemonClient(server.url) as client:
        text = "one piece and another one fault:slow:0.05"
        spoken = client.speak(text, format="pcm", on_part=parts.append)
        assert len(parts) > 1 and b"".join(parts) == spoken.content
        assert np.frombuffer(spoken.content, "<i2").any()
        with pytest.raises(DaemonRefused) as caught:
            client.voice("../metrics")
        assert caught.value.status == 404


# ---- keys ----------------------------------------------------------------------------------------

KEY = "5f0c1b7e4a2d9c8e6f3a1b0d7c9e2f4a"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "key").write_text(KEY + "\n")
    keys = [{"name": "box", "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}]
    daemon = {"api_keys": keys, "api_keys_for": "everyone", "state_dir": str(folder / "state")}
    with serving(folder, daemon=daemon) as running:
        running.http.headers["X-Api-Key"] = KEY
        yield running.wait_ready(), folder


def call(folder: Path, *words: str, config: str = "config.yaml") -> int:
    return run([*words, "--config", str(folder / config)])


def test_the_command_line_sends_its_key(
    locked: tuple[Server, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, folder = locked
    speech = str(tmp_path / "a.wav")
    monkeypatch.delenv("ISHOWTTS_API_KEY", raising=False)
    for words in (("say", "hello", "-o", speech), ("voices", "list")):
        assert call(folder, *words) == 1
        err = " ".join(capsys.readouterr().err.split())
        assert "wants an API key" in err
        for way in ("ISHOWTTS_API_KEY", "--api-key-file", "daemon.api_key_file"):
            assert way in err
        assert call(folder, *words, "--api-key-file", str(folder / "key")) == 0
        monkeypatch.setenv("ISHOWTTS_API_KEY", KEY)
        assert call(folder, *words) == 0
        monkeypatch.delenv("ISHOWTTS_API_KEY")

    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["daemon"]["api_key_file"] = str(folder / "key")
    (folder / "with-file.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert call(folder, "voices", "list", config="with-file.yaml") == 0
    assert "tone-a" in capsys.readouterr().out
    health = read_daemon_health(load(folder / "with-file.yaml"))
    assert isinstance(health, DaemonHealth) and health.ready
    without = read_daemon_health(load(folder / "config.yaml"))
    assert isinstance(without, Unknown) and "wants an API key" in without.reason

    monkeypatch.setenv("ISHOWTTS_API_KEY", "a wrong one")
    assert call(folder, "voices", "list") == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "does not know the API key" in err and "a wrong one" not in err
    assert "a wrong one" not in server.log and KEY not in server.log


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no key file"), ("", "must hold one key"), ("two keys", "must hold one key")],
)
def test_a_key_file_without_a_key_is_a_mistake_of_usage(
    locked: tuple[Server, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    words: str,
) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    assert call(locked[1], "voices", "list", "--api-key-file", str(tmp_path / "key")) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_key_that_was_made_opens_the_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["config", "key", "studio"]) == 0
    shown, row = capsys.readouterr().out.split("- {", 1)
    key = shown.removeprefix("key: ").strip()
    assert len(key) == 64
    rows = yaml.safe_load("- {" + row)

    file = tmp_path / "key"
    assert run(["config", "key", "box", "-o", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["data"]
    assert made["key"] is None and file.stat().st_mode & 0o777 == 0o600
    rows.append(made["row"])

    words = "my own words for it"
    monkeypatch.setattr("sys.stdin", io.StringIO(words + "\n"))
    assert run(["config", "key", "friend", "--own"]) == 0
    out = capsys.readouterr().out
    assert words not in out
    rows += yaml.safe_load(out)
    assert rows[-1]["hash"].startswith("scrypt:")

    daemon = {"api_keys": rows, "api_keys_for": "everyone"}
    with serving(tmp_path / "daemon", daemon=daemon) as server:
        server.wait_listening()
        for good in (key, file.read_text().strip(), words):
            with DaemonClient(server.url, api_key=good) as client:
                assert client.voices()
        assert run(["config", "key", "box", "-o", str(file)]) == 2
        assert run(["config", "key", "bad name"]) == 2
        monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
        assert run(["config", "key", "friend", "--own"]) == 2
