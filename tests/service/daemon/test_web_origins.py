"""Pages of other machines are kept out, those of this one are let in."""

from __future__ import annotations

from collections.abc import Iterator

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
