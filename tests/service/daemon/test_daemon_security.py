"""What a request can never do: have a file opened, leave a secret in the log, or be without end."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.service.daemon.daemon_server import Server, eventually, serving
from tests.service.daemon.recordings import WORDS, recording

IN_OPEN = 0x20
IN_NONBLOCK = os.O_NONBLOCK


class Trap:
    """A folder the kernel watches: who opens anything in it is seen, by whatever library."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "secret.wav"
        self.file.write_bytes(recording())
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(IN_NONBLOCK)
        assert self._handle >= 0
        watch = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), IN_OPEN)
        assert watch >= 0

    def opened(self) -> list[str]:
        """Names of what was opened since the last time."""
        names = []
        try:
            data = os.read(self._handle, 65536)
        except BlockingIOError:
            return []
        while data:
            size = struct.unpack("iIII", data[:16])[3]
            names.append(data[16 : 16 + size].rstrip(b"\0").decode())
            data = data[16 + size :]
        return names

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    folder = tmp_path / "trap"
    folder.mkdir()
    made = Trap(folder)
    made.file.read_bytes()
    assert made.opened() == ["secret.wav"], "the trap works"
    yield made
    made.close()


ENGINES = ["tone", *(["espeak"] if shutil.which("espeak-ng") else [])]


@pytest.mark.parametrize("kind", ENGINES)
def test_no_path_from_any_part_of_a_request_is_opened(
    trap: Trap, tmp_path: Path, kind: str
) -> None:
    with serving(tmp_path, kind, daemon={"state_dir": str(tmp_path / "state")}) as server:
        server.wait_ready()
        direct = str(trap.file)
        for path in (direct, f"file://{direct}", f"../../../../../../../..{direct}", f"@{direct}"):
            offer(server, path)
        assert server.status("/livez") == 200
    assert trap.opened() == []


def offer(server: Server, path: str) -> None:
    """Every field of every route, and the address itself."""
    quoted = path.replace("/", "%2F")
    speech = [{name: path} for name in ("voice", "model", "instructions", "response_format")]
    speech += [{"voice": {"id": path}}, {"stream_format": path}]
    for fields in speech:
        server.speak("hello", **fields)
    for text in (path, f'<audio src="{path}"/>', f"-f {path}", f"[[{path}]]"):
        server.speak(text)
        server.http.post("/api/tts", json={"text": text, "voice_id": path, "engine": path})
    addresses = [f"/v1/voices/{quoted}", f"/v1/voices/{quoted}/audio", f"/v1/models/{quoted}"]
    addresses += [f"/api/voices/{quoted}/reference", f"/web/{path}", f"/web/{quoted}", path]
    for address in addresses:
        for method in ("GET", "PUT", "DELETE", "POST"):
            server.http.request(method, "/" + address.lstrip("/"), params={"source": path})
    playlists = (
        f"ffconcat version 1.0\nfile '{path}'\n",
        f"#EXTM3U\n#EXTINF:3,\n{path}\n#EXT-X-ENDLIST\n",
        f"<?xml version='1.0'?><MPD><Period><BaseURL>{path}</BaseURL></Period></MPD>",
        path,
    )
    for audio in (recording(), *(text.encode() for text in playlists)):
        files: dict[str, Any] = {
            "id": (None, path),
            "text": (path, WORDS),
            "language": (None, path),
            "audio": (path, audio, "audio/wav"),
        }
        server.http.post("/v1/voices", files=files)
        files |= {"id": (None, "x"), "language": (None, "en")}
        server.http.post("/v1/voices", files=files)
        server.http.put("/v1/voices/x", files={"audio": files["audio"], "text": files["text"]})
        server.http.post("/api/voices/x/reference", files={"audio": files["audio"]})
    server.http.get("/livez", headers={"X-Request-Id": path})
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    with connect(url, proxy=None) as talk:
        talk.send(json.dumps({"type": "speak", "id": path[:100], "input": path, "voice": path}))
        talk.recv()


def test_no_secret_and_no_text_is_in_the_log(tmp_path: Path) -> None:
    key, guess, words = "0123456789abcdef-the-key", "a-wrong-guess-of-a-key", "private words"
    keys = [{"name": "studio", "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}]
    daemon = {
        "api_keys": keys,
        "api_keys_for": "everyone",
        "state_dir": str(tmp_path / "state"),
        "requests_per_minute": 600,
    }
    with serving(tmp_path, daemon=daemon, env={"ISHOWTTS_TONE_FAULT": "text"}) as server:
        server.http.headers["Authorization"] = f"Bearer {key}"
        server.wait_ready()
        for fields in ({}, {"voice": words}, {"model": words}, {"speed": 99}, {words: 1}):
            server.speak(f"{words}", **fields)
        server.speak(f"{words} fault:raise")
        server.speak(f"{words} fault:nan", stream_format="sse")
        server.http.post("/v1/audio/speech", content=f'{{"input": "{words}'.encode())
        server.http.post("/api/tts", json={"text": words})
        server.http.get(f"/v1/voices/{words}", params={"api_key": key})
        form = {"id": (None, "me"), "text": (None, f"Very {words} that were spoken here tonight."),
                "audio": ("a", recording(), "audio/wav")}  # fmt: skip
        assert server.http.post("/v1/voices", files=form).status_code == 201
        for headers in ({"Authorization": f"Bearer {guess}"}, {"X-Api-Key": guess}):
            for path in ("/v1/voices", f"/{guess}"):
                httpx.get(server.url + path, headers=headers, trust_env=False)
        url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
        headers = {"Authorization": f"Bearer {key}"}
        with connect(url, proxy=None, additional_headers=headers) as talk:
            talk.send(json.dumps({"type": "speak", "input": words}))
            talk.recv()
            talk.send(words)
            talk.recv()
        shown = [server.http.get(path).text for path in ("/readyz", "/metrics", "/v1/stats")]
        assert server.stop() == 0
        shown.append(server.log)
        # What it says of requests is there, so the rest is left out and not just late.
        assert "spoken id=" in server.log and "caller=studio" in server.log
        for secret in (key, guess, words, keys[0]["hash"].removeprefix("sha256:")):
            assert all(secret not in text for text in shown), secret
        state = (tmp_path / "state").rglob("*")
        assert all(key.encode() not in file.read_bytes() for file in state if file.is_file())


def test_voices_are_kept_for_the_daemon_alone(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"state_dir": str(tmp_path / "state")}) as server:
        server.wait_ready()
        form = {"id": (None, "me"), "text": (None, WORDS), "audio": ("a", recording())}
        assert server.http.post("/v1/voices", files=form).status_code == 201
    for folder in ("", "voices", "voices/audio"):
        assert (tmp_path / "state" / folder).stat().st_mode & 0o077 == 0, folder


# ---- without end ---------------------------------------------------------------------------------


def unending(server: Server, path: str, kind: str) -> bytes:
    """Send a body that does not end, until the daemon answers."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(head.encode())
        caller.settimeout(0.01)
        for _ in range(1000):
            try:
                return caller.recv(4096)
            except TimeoutError:
                caller.settimeout(30)
                caller.sendall(piece)
                caller.settimeout(0.001)
    raise AssertionError("64 MB were taken")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("end")) as running:
        yield running.wait_ready()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/audio/speech", "application/json"),
        ("/api/tts", "application/json"),
        ("/v1/voices", "multipart/form-data; boundary=x"),
        ("/api/voices/tone-a/reference", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_that_does_not_end_is_refused_in_its_midst(
    server: Server, path: str, kind: str
) -> None:
    answer = unending(server, path, kind)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"x-request-id: " in answer.lower()
    eventually(lambda: server.speak("next, please").status_code == 200)


def test_a_message_on_a_websocket_is_bounded_too(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    with connect(url, proxy=None, max_size=None) as talk:
        with pytest.raises(ConnectionClosed) as caught:
            talk.send("x" * (2 << 20))
            talk.recv()
        # What was still under way when the server closed may make the kernel reset the connection,
        # and the reset may overtake the frame that says why.
        assert caught.value.rcvd is None or caught.value.rcvd.code == 1009
    assert server.speak("next, please").status_code == 200


def test_texts_on_a_websocket_count_for_the_rate(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"requests_per_minute": 18}) as limited:
        limited.wait_ready()
        url = f"ws://127.0.0.1:{limited.port}/v1/audio/stream"
        with connect(url, proxy=None) as talk:
            for number in range(4):
                talk.send(json.dumps({"type": "speak", "id": str(number), "input": "hi"}))
            ends: dict[str, dict[str, Any]] = {}
            while len(ends) < 4:
                message = talk.recv()
                row = json.loads(message) if isinstance(message, str) else {"type": ""}
                if row["type"] in ("end", "error"):
                    ends[row["id"]] = row
        kinds = [ends[str(number)]["type"] for number in range(4)]
        assert kinds == ["end", "end", "error", "error"]
        refused = ends["3"]
        assert refused["error"]["code"] == "rate_limited" and refused["retry_after"] > 0
