"""Keys, rates, and who needs them; the network is a second address of this machine's loopback."""

from __future__ import annotations

import ast
import hashlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from ishowtts_ops.client import DaemonClient
from ishowtts_ops.config import ApiKey, parse
from ishowtts_ops.daemon import auth
from ishowtts_ops.daemon.auth import Keys, matches, scrypt_hash
from ishowtts_ops.daemon.ratelimit import RateLimit
from ishowtts_ops.errors import ConfigError
from tests.service.daemon.daemon_server import Server, eventually, serving

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


def test_every_answer_has_a_request_id(server: Server, tmp_path: Path) -> None:
    own = {"X-Request-Id": "chat-7"}
    for answer in (bare(server, **own), bare(server, Authorization="Bearer no", **own)):
        assert (answer.status_code, answer.headers["x-request-id"]) == (401, "chat-7")
    server.http.get("/metrics")
    codes = [row.split("code=")[1] for row in server.log.splitlines() if "id=chat-7" in row]
    assert codes == ["missing_api_key", "invalid_api_key"]
    made = bare(server).headers["x-request-id"]
    assert len(made) == 32 and made != bare(server).headers["x-request-id"]
    with serving(tmp_path, daemon={"requests_per_minute": 6}) as limited:
        limited.wait_ready()
        answers = [bare(limited, **own) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 429, 429]
        assert {one.headers["x-request-id"] for one in answers} == {"chat-7"}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_browsers_preflight_needs_no_key_and_the_answers_can_be_read(
    server: Server, method: str
) -> None:
    """A page of this machine on another port, as iShowTTS's frontend is. Browsers never send a key
    with a preflight."""
    page = {"Origin": "http://127.0.0.1:8080"}
    asked = httpx.options(
        f"{server.url}/v1/audio/speech",
        headers={
            **page,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
        },
        trust_env=False,
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == page["Origin"]
    assert method in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    refused = bare(server, **page)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == page["Origin"]
    assert "x-request-id" in refused.headers["access-control-expose-headers"]
    spoken = bare(server, Authorization=f"Bearer {KEY}", **page)
    assert spoken.status_code == 200
    assert "x-ishowtts-rtf" in spoken.headers["access-control-expose-headers"]
    stranger = {"Origin": "https://evil.example"}
    foreign = httpx.options(f"{server.url}/api/tts", headers=stranger, trust_env=False)
    assert foreign.status_code == 403 and foreign.headers["x-request-id"]


def test_a_websocket_is_told_in_http_what_is_missing(server: Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, proxy=None, additional_headers={"X-Request-Id": "chat-8"})
    response = caught.value.response
    assert (response.status_code, response.headers["X-Request-Id"]) == (401, "chat-8")
    assert json.loads(response.body)["error"]["code"] == "missing_api_key"
    headers = {"Authorization": f"Bearer {KEY}"}
    with connect(url, proxy=None, additional_headers=headers) as talk:
        talk.send(json.dumps({"type": "speak", "id": "a", "input": "hi"}))
        assert json.loads(talk.recv())["type"] == "begin"


def test_a_pages_websocket_carries_its_key_as_a_subprotocol(server: Server) -> None:
    """As in a browser: new WebSocket(url, ["ishowtts", "ishowtts-key." + key])."""
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    offered = [Subprotocol("ishowtts"), Subprotocol(f"ishowtts-key.{KEY}")]
    with connect(url, proxy=None, subprotocols=offered) as talk:
        assert talk.subprotocol == "ishowtts"
        talk.send(json.dumps({"type": "speak", "input": "hi"}))
        assert json.loads(talk.recv())["type"] == "begin"
    wrong = [Subprotocol("ishowtts"), Subprotocol("ishowtts-key.nobodys")]
    with pytest.raises(InvalidStatus) as caught:
        connect(url, proxy=None, subprotocols=wrong)
    assert caught.value.response.status_code == 401
    assert KEY not in server.log


def test_all_keys_are_compared_in_constant_time_whichever_it_is() -> None:
    """Seen from outside: the library's comparison is called once for every stored key, and nothing
    else is asked about the digests, found or not."""
    stored = [
        ApiKey(name=f"k{n}", hash="sha256:" + hashlib.sha256(f"key{n}".encode()).hexdigest())
        for n in range(4)
    ]
    keys = Keys(stored)

    def calls(key: bytes) -> int:
        seen = 0

        def watch(frame: object, event: str, called: object) -> None:
            nonlocal seen
            seen += event == "c_call" and getattr(called, "__name__", "") == "compare_digest"

        sys.setprofile(watch)
        try:
            keys._look(key)
        finally:
            sys.setprofile(None)
        return seen

    assert keys._look(b"key2") == "k2"
    for guess in (b"key0", b"key3", b"no key", b""):
        assert calls(guess) == len(stored)
    source = ast.parse(Path(auth.__file__).read_text())
    compared = [
        ast.unparse(node)
        for function in ast.walk(source)
        if isinstance(function, ast.FunctionDef) and function.name in ("matches", "_look")
        for node in ast.walk(function)
        if isinstance(node, ast.Compare)
    ]
    assert compared == ["kind == 'sha256'"]


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


def test_guessing_is_slowed_down_and_known_keys_are_not(tmp_path: Path) -> None:
    keys = [
        {"name": "friend", "hash": scrypt_hash(WORD)},
        {"name": "studio", "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()},
    ]
    daemon = {"api_keys": keys, "api_keys_for": "everyone"}
    with serving(tmp_path, daemon=daemon) as server:
        server.wait_listening()
        assert bare(server, **{"X-Api-Key": KEY}).status_code != 401
        guesses = [bare(server, **{"X-Api-Key": f"guess {n}"}) for n in range(9)]
        statuses = [guess.status_code for guess in guesses]
        assert statuses[:5] == [401] * 5 and statuses[-1] == 429
        assert guesses[-1].json()["error"]["code"] == "too_many_guesses"
        assert 1 <= int(guesses[-1].headers["retry-after"]) <= 3
        # Nothing new is looked at for a while; what is known by now is.
        assert bare(server, **{"X-Api-Key": WORD}).status_code == 429
        assert bare(server, **{"X-Api-Key": KEY}).status_code not in (401, 429)
        drops = server.http.get("/metrics", headers={"X-Api-Key": KEY}).text
        assert 'reason="too_many_guesses"' in drops


def test_callers_on_the_box_need_none_unless_told(tmp_path: Path) -> None:
    keys = [{"name": "friend", "hash": scrypt_hash(WORD)}]
    with serving(tmp_path, daemon={"api_keys": keys}) as server:
        server.wait_ready()
        assert bare(server).status_code == 200
        # As a proxy on this box tells it.
        assert bare(server, **{"X-Forwarded-For": "192.0.2.7"}).status_code == 401


def test_it_listens_on_loopback_alone_unless_told(tmp_path: Path) -> None:
    """127.0.0.2 stands for the network: an address of this machine that was not asked for."""
    with serving(tmp_path / "own") as own:
        own.wait_listening()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", own.port), timeout=5)
    keys = [{"name": "friend", "hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}]
    with serving(tmp_path / "wide", daemon={"host": "0.0.0.0", "api_keys": keys}) as wide:
        wide.wait_ready()
        answer = httpx.get(f"http://127.0.0.2:{wide.port}/livez", trust_env=False)
        assert answer.status_code == 200
    with serving(tmp_path / "six", daemon={"host": "::1"}) as six:
        url = f"http://[::1]:{six.port}"
        eventually(lambda: "listening" in six.log)
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        with DaemonClient(url) as client:
            eventually(lambda: client.readyz().ready)
            assert client.speak("hello").voice == "tone-a"


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
