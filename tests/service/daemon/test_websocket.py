"""The WebSocket, with the `websockets` library at the other end."""

from __future__ import annotations

import io
import json
import signal
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.service.daemon.daemon_server import PATIENCE_S, Server, eventually, serving

CHARACTER = 2400
"""Bytes of PCM."""
STUCK_LATER = "Quick. Then fault:slow:600 for ever. Never."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(
        tmp_path_factory.mktemp("websocket"), daemon={"queue_limit": 2}, env=env
    ) as running:
        yield running.wait_ready()


@pytest.fixture
def socket(server: Server) -> Iterator[ClientConnection]:
    with open_socket(server) as connection:
        yield connection


def open_socket(server: Server) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    return connect(url, proxy=None, max_size=None, close_timeout=0.5)


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def receive(socket: ClientConnection) -> dict[str, Any] | bytes:
    got = socket.recv(timeout=PATIENCE_S)
    return got if isinstance(got, bytes) else json.loads(got)


def until(socket: ClientConnection, *kinds: str) -> list[Any]:
    """Everything up to an event of one of these kinds, that included."""
    found: list[Any] = []
    while not found or isinstance(found[-1], bytes) or found[-1]["type"] not in kinds:
        found.append(receive(socket))
    return found


def kinds(messages: list[Any]) -> list[str]:
    """Types in order, audio as `audio`, in a row counted once."""
    names = ["audio" if isinstance(one, bytes) else one["type"] for one in messages]
    return [name for at, name in enumerate(names) if at == 0 or name != names[at - 1]]


def test_sentence_by_sentence(socket: ClientConnection) -> None:
    send(socket, type="speak", id="a", input="First one. Then another!", voice="tone-b")
    got = until(socket, "end")
    assert kinds(got) == [
        "begin",
        *["sentence", "audio", "sentence_end"] * 2,
        "end",
    ]
    begin, *_ = got
    assert (begin["id"], begin["sentences"], begin["format"]) == ("a", 2, "pcm")
    sentences = [one for one in got if isinstance(one, dict) and one["type"] == "sentence"]
    assert [(one["index"], one["text"], one["voice"]) for one in sentences] == [
        (0, "First one.", "tone-b"),
        (1, "Then another!", "tone-b"),
    ]
    audio = b"".join(one for one in got if isinstance(one, bytes))
    assert len(audio) == len("First one.Then another!") * CHARACTER
    ends = [one for one in got if isinstance(one, dict) and one["type"] == "sentence_end"]
    assert ends[0]["timings"]["audio_seconds"] == pytest.approx(0.5)


def test_it_is_the_same_speech_as_over_http(server: Server, socket: ClientConnection) -> None:
    send(socket, type="speak", input="One sentence only", speed=2)
    audio = b"".join(one for one in until(socket, "end") if isinstance(one, bytes))
    answer = server.speak("One sentence only", speed=2, response_format="pcm")
    assert audio == answer.content


def test_every_sentence_is_a_file_of_its_own(socket: ClientConnection) -> None:
    send(socket, type="speak", input="First one. Then another!", response_format="wav")
    files: list[bytes] = []
    for one in until(socket, "end"):
        if isinstance(one, dict) and one["type"] == "sentence":
            files.append(b"")
        elif isinstance(one, bytes):
            files[-1] += one
    frames = []
    for file in files:
        with wave.open(io.BytesIO(file)) as opened:
            frames.append(len(opened.readframes(1 << 20)) // 2)
    assert frames == [len("First one.") * 1200, len("Then another!") * 1200]


def test_chat_is_made_speakable_before_it_is_cut(socket: ClientConnection) -> None:
    send(socket, type="speak", input="see https://www.example.com/a.b?c noooooow")
    got = until(socket, "end")
    assert [one["text"] for one in got if isinstance(one, dict) and "text" in one] == [
        "see example.com nooow"
    ]


def test_texts_are_spoken_in_the_order_they_came(socket: ClientConnection) -> None:
    for name in "abc":
        send(socket, type="speak", id=name, input=f"text {name}")
    got = [one for _ in "abc" for one in until(socket, "end")]
    assert [one["id"] for one in got if isinstance(one, dict) and one["type"] == "end"] == [
        "a",
        "b",
        "c",
    ]


def test_a_text_is_taken_back_in_the_middle(server: Server, socket: ClientConnection) -> None:
    cancelled = {"outcome": "cancelled", "engine": "tone"}
    before = server.metric("ishowtts_requests_total", **cancelled)
    send(socket, type="speak", id="long", input=STUCK_LATER, normalize=False)
    send(socket, type="speak", id="next", input="Next one")
    until(socket, "sentence_end")
    eventually(lambda: server.ready()["queue"]["busy"])
    send(socket, type="cancel", id="long")
    assert until(socket, "cancelled")[-1]["id"] == "long"
    assert until(socket, "end")[-1]["id"] == "next"
    assert server.metric("ishowtts_requests_total", **cancelled) == before + 1


def test_cancel_without_an_id_takes_everything_back(socket: ClientConnection) -> None:
    for name in "abc":
        send(socket, type="speak", id=name, input="fault:slow:600", normalize=False)
    send(socket, type="cancel")
    assert [until(socket, "cancelled")[-1]["id"] for _ in "abc"] == ["a", "b", "c"]


def test_who_leaves_is_cancelled(server: Server) -> None:
    with open_socket(server) as socket:
        send(socket, type="speak", input="fault:slow:600", normalize=False)
        eventually(lambda: server.ready()["queue"]["busy"])
    assert server.speak("next please").status_code == 200


BAD: dict[str, tuple[Any, str | None, str]] = {
    "json": ("{", None, "invalid_json"),
    "list": ("[]", None, "invalid_json"),
    "binary": (b"\x00", None, "invalid_json"),
    "type": ('{"id": "x"}', "type", "invalid_value"),
    "id": ('{"id": 5, "type": "speak"}', "id", "invalid_value"),
    "input": ('{"type": "speak", "id": "x"}', "input", "missing"),
    "empty": ('{"type": "speak", "id": "x", "input": "?!"}', "input", "input_empty"),
    "surrogate": ('{"type": "speak", "input": "\\ud83d"}', "input", "invalid_utf8"),
    "voice": ('{"type": "speak", "input": "a", "voice": "x"}', "voice", "voice_not_found"),
    "model": ('{"type": "speak", "input": "a", "model": "x"}', "model", "model_not_found"),
    "stream": (
        '{"type": "speak", "input": "a", "stream_format": "sse"}',
        "stream_format",
        "invalid_value",
    ),
    "field": ('{"type": "speak", "input": "a", "pitch": 1}', "pitch", "unknown_field"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_and_the_connection_stays(
    socket: ClientConnection, name: str
) -> None:
    message, param, code = BAD[name]
    socket.send(message)
    answer = receive(socket)
    assert isinstance(answer, dict)
    assert answer["type"] == "error"
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)
    assert answer["request_id"]
    send(socket, type="speak", id="good", input="And on")
    assert until(socket, "end")[-1]["id"] == "good"


def test_an_engine_that_fails_in_the_middle_is_told(
    server: Server, socket: ClientConnection
) -> None:
    text = "All is well. Now fault:raise happens. And on."
    send(socket, type="speak", id="a", input=text, fallback=False)
    got = until(socket, "error", "end")
    assert kinds(got)[-2:] == ["sentence_end", "error"]
    assert (got[-1]["id"], got[-1]["error"]["code"]) == ("a", "engine_failed")
    ids = [one["request_id"] for one in got if isinstance(one, dict) and "request_id" in one]
    assert len(set(ids)) == 2
    server.http.get("/metrics")
    for request_id, words in zip(ids, ("spoken", "not spoken"), strict=True):
        line = next(row for row in server.log.splitlines() if f"id={request_id} engine" in row)
        assert f" {words} " in line


def test_or_the_light_voice_says_that_sentence(socket: ClientConnection) -> None:
    send(socket, type="speak", id="a", input="All is well. Now fault:raise happens. And on.")
    said = [one for one in until(socket, "end") if one_of(one, "sentence")]
    assert [one["fallback"] for one in said] == [False, True, False]


def one_of(message: Any, kind: str) -> bool:
    return isinstance(message, dict) and message["type"] == kind


def test_too_many_texts_are_refused(socket: ClientConnection) -> None:
    for number in range(34):
        send(socket, type="speak", id=str(number), input="fault:slow:600", normalize=False)
    refused = until(socket, "error")[-1]
    assert refused["error"]["code"] == "queue_full"
    send(socket, type="cancel")
    until(socket, "cancelled")


def test_fields_that_are_null_count_as_left_out(socket: ClientConnection) -> None:
    send(socket, type="speak", input="hi", response_format=None, voice=None, speed=None)
    assert until(socket, "end")[0]["format"] == "pcm"


def refused_at(server: Server, path: str) -> Any:
    url = f"ws://127.0.0.1:{server.port}{path}"
    with pytest.raises(InvalidStatus) as caught, connect(url, proxy=None):
        pass
    return caught.value.response


def test_there_is_one_and_whoever_looks_elsewhere_is_told(server: Server) -> None:
    lost = refused_at(server, "/v1/audio/streams")
    assert (lost.status_code, json.loads(lost.body)["error"]["code"]) == (404, "not_found")
    assert lost.headers["x-request-id"]
    plain = server.http.get("/v1/audio/stream")
    assert (plain.status_code, plain.json()["error"]["code"]) == (404, "websocket_only")


def test_so_many_may_be_open_and_no_more(tmp_path: Path) -> None:
    limits = {"max_websockets": 3, "max_websockets_per_client": 2}
    with serving(tmp_path, daemon=limits) as server, ExitStack() as stack:
        server.wait_ready()

        def opened(caller: str) -> ClientConnection:
            # A proxy on this machine says whose it is.
            headers = {"X-Forwarded-For": caller}
            url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
            made = connect(url, proxy=None, additional_headers=headers, close_timeout=0.5)
            return stack.enter_context(made)

        first, _, last = opened("192.0.2.7"), opened("192.0.2.7"), opened("192.0.2.8")
        for caller in ("192.0.2.7", "192.0.2.9"):
            with pytest.raises(InvalidStatus) as caught:
                opened(caller)
            answer = caught.value.response
            assert answer.status_code == 429
            assert answer.body is not None
            assert json.loads(answer.body)["error"]["code"] == "too_many_websockets"
            assert eventually(lambda at=answer.headers["x-request-id"]: at in server.log)
        assert server.metric("ishowtts_websockets") == 3
        assert server.metric("ishowtts_drops_total", reason="too_many_websockets") == 2
        # Those that are open go on, and a place that is given up is given away.
        send(last, type="speak", input="hello")
        until(last, "end")
        first.close()
        eventually(lambda: server.metric("ishowtts_websockets") == 2)
        another = opened("192.0.2.7")
        send(another, type="speak", input="hello")
        until(another, "end")
    assert "ERROR" not in server.log


def test_the_light_voice_speaks_here_while_the_engine_warms_up(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "load:600"}
    with serving(tmp_path, env=env) as server:
        server.wait_listening()
        eventually(lambda: (server.ready()["fallback"] or {}).get("ready"))
        with open_socket(server) as socket:
            send(socket, type="speak", id="a", input="Never silent.")
            said = next(one for one in until(socket, "end") if one_of(one, "sentence"))
            assert (said["engine"], said["fallback"]) == ("espeak", True)
            send(socket, type="speak", id="b", input="But I do not want it.", fallback=False)
            assert until(socket, "error")[-1]["error"]["code"] == "not_ready"


def test_a_daemon_that_goes_down_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"drain_seconds": 30}) as server:
        server.wait_ready()
        with open_socket(server) as socket:
            send(socket, type="speak", input="hello")
            until(socket, "end")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as caught:
                socket.recv(timeout=PATIENCE_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
        assert server.wait() == 0
