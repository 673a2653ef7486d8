"""Pages of other machines are kept out, those of this one are let in."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.service.daemon.daemon_server import Server, serving

FOREIGN = ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://[", "file://"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("origins")) as running:
        yield running.wait_ready()


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_of_other_machines_are_refused(server: Server, origin: str) -> None:
    headers = {"Origin": origin}
    answer = server.http.post("/api/tts", json={"text": "hi"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert server.http.delete("/v1/voices/tone-a", headers=headers).status_code == 403
    assert server.http.options("/v1/voices", headers=headers).status_code == 403
    seen = server.http.get("/v1/voices", headers=headers)
    assert "access-control-allow-origin" not in seen.headers
    with pytest.raises(InvalidStatus) as caught:
        url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
        connect(url, proxy=None, additional_headers=headers)
    assert caught.value.response.status_code == 403


def test_who_was_refused_is_in_the_books(server: Server) -> None:
    before = server.metric("ishowtts_drops_total", reason="foreign_origin")
    own = {"Origin": "https://evil.example", "X-Request-Id": "foreign-1"}
    server.http.post("/api/tts", json={"text": "hi"}, headers=own)
    assert server.metric("ishowtts_drops_total", reason="foreign_origin") == before + 1
    line = next(row for row in server.log.splitlines() if "id=foreign-1" in row)
    assert "refused" in line and "code=foreign_origin" in line


@pytest.mark.parametrize("name", ["evil.example", "EVIL.example.", "127.0.0.1.evil.example", "["])
def test_a_page_that_points_its_own_name_here_gets_nothing(server: Server, name: str) -> None:
    host = f"{name}:{server.port}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    spoken = server.http.post("/v1/audio/speech", json={"input": "hi"}, headers=headers)
    assert spoken.status_code == 403
    # A page that asks its own server says no Origin.
    for path in ("/v1/voices", "/v1/voices/tone-a/audio", "/metrics", "/v1/stats"):
        answer = server.http.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")
    with pytest.raises(InvalidStatus) as caught:
        url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
        connect(url, proxy=None, additional_headers=headers)
    # Not every library lets a client say another Host than it connects to.
    assert caught.value.response.status_code in (400, 403)


NAMES = ["127.0.0.1", "[::1]", "192.0.2.7:27130", "localhost", "box", "box.local:80", "a.lan"]


@pytest.mark.parametrize("name", [*NAMES, socket.gethostname(), ""])
def test_names_that_no_stranger_can_have(server: Server, name: str) -> None:
    assert server.http.get("/v1/voices", headers={"Host": name}).status_code == 200


def test_with_a_key_any_name_will_do(tmp_path: Path) -> None:
    key = "k" * 32
    keys = [{"name": "proxy", "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}]
    with serving(tmp_path, daemon={"api_keys": keys}) as server:
        server.wait_ready()
        public = {"Host": "tts.example.org", "Origin": "https://tts.example.org"}
        own = {**public, "Authorization": f"Bearer {key}"}
        assert server.http.post("/api/tts", json={"text": "a"}, headers=own).status_code == 200
        assert server.http.post("/api/tts", json={"text": "a"}, headers=public).status_code == 403
        assert server.http.get("/livez", headers=public).status_code == 200


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "http://localhost:27121"])
def test_a_page_of_this_machine_may_on_any_port(server: Server, origin: str) -> None:
    headers = {"Origin": origin}
    asked = server.http.options("/api/tts", headers=headers)
    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    for answer in (
        asked,
        server.http.post("/api/tts", json={"text": "hi"}, headers=headers),
        server.http.post("/api/tts", json={"text": ""}, headers=headers),
    ):
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
