"""Keys, rates, and who needs them; the network is a second address of this machine's loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ishowtts_ops.config import parse
from ishowtts_ops.daemon.auth import matches, scrypt_hash
from ishowtts_ops.daemon.ratelimit import RateLimit
from ishowtts_ops.errors import ConfigError
from tests.service.daemon.daemon_server import Server, serving

KEY = "3b1c6a0f5c0e4a8a9d4f4e7f1c2d3e4f"
WORD = "a word that a person thought up"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = [
        {"name": "studio", "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()},
        {"name": "friend", "hash": scrypt_hash(WORD)},
    ]
    daemon = {"api_keys": keys, "api_keys_for": "everyone"}
    with serving(tmp_path_factory.mktemp("auth"), daemon=daemon) as made:
        headers = {"Authorization": f"Bearer {KEY}"}
        made.http.headers.update(headers)
        yield made.wait_ready()


def bare(server: Server, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/speech", json={"input": "hello"}, headers=headers, trust_env=False
    )


def test_a_key_is_wanted_and_known_in_each_of_its_forms(server: Server) -> None:
    assert bare(server, Authorization=f"Bearer {KEY}").status_code == 200
    assert bare(server, **{"X-Api-Key": KEY}).status_code == 200
    for _ in range(3):
        assert bare(server, Authorization=f"bearer {WORD}").status_code == 200
    assert "caller=studio" in server.log and "caller=friend" in server.log


def test_without_it_nothing_is_said(server: Server) -> None:
    missing = bare(server)
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
    assert missing.headers["www-authenticate"] == "Bearer"
    wrong = bare(server, Authorization="Bearer wrong")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    for path in ("/metrics", "/v1/voices", "/readyz", "/api/voices"):
        assert httpx.get(server.url + path, trust_env=False).status_code == 401
    assert httpx.get(server.url + "/livez", trust_env=False).status_code == 200


def test_keys_are_in_no_log_and_no_answer(server: Server) -> None:
    bare(server, Authorization="Bearer a-secret-guess")
    shown = server.log + server.http.get("/readyz").text + server.http.get("/metrics").text
    for secret in (KEY, WORD, "a-secret-guess", hashlib.sha256(KEY.encode()).hexdigest()):
        assert secret not in shown


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    keys = [{"name": "friend", "hash": scrypt_hash(WORD)}]
    daemon = {"api_keys": keys, "api_keys_for": "everyone"}
    with serving(tmp_path, daemon=daemon) as server:
        server.wait_listening()
        for number in range(4):
            assert bare(server, **{"X-Api-Key": f"guess {number}"}).status_code == 401
        # Now also the right one is not looked at for a while.
        assert bare(server, **{"X-Api-Key": WORD}).status_code == 401


def test_callers_on_the_box_need_none_unless_told(tmp_path: Path) -> None:
    keys = [{"name": "friend", "hash": scrypt_hash(WORD)}]
    with serving(tmp_path, daemon={"api_keys": keys}) as server:
        server.wait_ready()
        assert bare(server).status_code == 200
        # As a proxy on this box tells it.
        assert bare(server, **{"X-Forwarded-For": "192.0.2.7"}).status_code == 401


def test_the_rate_is_kept_per_caller(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"requests_per_minute": 12}) as server:
        server.wait_ready()
        statuses = [server.speak("hello").status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        refused = server.speak("hello")
        assert refused.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert server.status("/readyz") == 200
        other = bare(server, **{"X-Forwarded-For": "192.0.2.7"})
        assert other.status_code == 200
        assert server.metric("ishowtts_drops_total", reason="rate_limited") == 3


def test_a_bucket_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the only thing replaced: waiting for it would take a minute."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rate = RateLimit(60)
    for _ in range(10):
        assert rate.wait("a") == 0
        rate.spend("a")
    assert rate.wait("a") == pytest.approx(1)
    assert rate.wait("b") == 0
    now += 1
    assert rate.wait("a") == pytest.approx(0, abs=1e-6)
    assert not RateLimit(0) and RateLimit(0).wait("a") == 0


def test_hashes() -> None:
    assert matches(scrypt_hash("word"), b"word")
    assert not matches(scrypt_hash("word"), b"other")
    assert scrypt_hash("word") != scrypt_hash("word"), "salted"
    assert not matches("scrypt:1000000:99:1:" + "00" * 16 + ":" + "00" * 32, b"word"), "too large"


def test_listening_elsewhere_wants_keys() -> None:
    with pytest.raises(ConfigError, match="api_keys"):
        parse("daemon: {host: 0.0.0.0}", "test")
    key = "{name: a, hash: 'sha256:" + "0" * 64 + "'}"
    assert parse(f"daemon: {{host: 0.0.0.0, api_keys: [{key}]}}", "test").daemon.api_keys
    with pytest.raises(ConfigError, match="same name"):
        parse(f"daemon: {{api_keys: [{key}, {key}]}}", "test")
    with pytest.raises(ConfigError, match=r"daemon.api_keys.0.hash"):
        parse("daemon: {api_keys: [{name: a, hash: my-plain-key}]}", "test")
