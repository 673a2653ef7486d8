"""Clients that let a daemon wait: they do not send the rest, or do not read what they get."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.service.daemon.daemon_server import Server, eventually, serving

PATIENCE_S = 1.0
LONG = {"input": "x" * 4000, "response_format": "pcm", "speed": 0.5}
"""19 MB: more than all the buffers of a connection."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    daemon = {"client_seconds": PATIENCE_S}
    with serving(tmp_path_factory.mktemp("slow"), daemon=daemon) as made:
        yield made.wait_ready()


def request(fields: dict[str, object]) -> bytes:
    raw = json.dumps(fields).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def connected(server: Server, stack: ExitStack) -> socket.socket:
    made = stack.enter_context(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    made.connect(("127.0.0.1", server.port))
    made.settimeout(30)
    return made


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def test_requests_that_never_come_whole_are_cut_off(server: Server) -> None:
    whole = request({"input": "hello"})
    before = open_files(server)
    with ExitStack() as stack:
        # Nothing, half a head, a head, most of a body: twenty-five of each.
        parts = (b"", whole[:30], whole[: whole.index(b"\r\n\r\n") + 4], whole[:-5])
        slow = []
        for part in parts * 25:
            one = connected(server, stack)
            one.sendall(part)
            slow.append(one)
        for _ in range(5):
            assert server.speak("others are served").status_code == 200
        for one in slow:
            with suppress(ConnectionResetError):
                assert one.recv(100) == b""
        eventually(lambda: open_files(server) <= before + 2)
    assert "does not send its request" in server.log
    assert server.status("/livez") == 200


def test_a_byte_now_and_then_does_not_help(server: Server) -> None:
    whole = request({"input": "hello"})
    with ExitStack() as stack:
        one = connected(server, stack)
        began = time.monotonic()
        with pytest.raises(OSError):
            for at in range(len(whole)):
                one.sendall(whole[at : at + 1])
                time.sleep(0.1)
            raise AssertionError("it was let to send it all")
        assert time.monotonic() - began < len(whole) * 0.1


@pytest.mark.parametrize("form", ["pcm", "wav"], ids=["streamed", "whole"])
def test_a_reader_who_stops_is_cut_off(server: Server, form: str) -> None:
    words = "does not read its answer"
    before, cut = open_files(server), server.log.count(words)
    with ExitStack() as stack:
        stuck = [connected(server, stack) for _ in range(5)]
        for one in stuck:
            one.sendall(request({**LONG, "response_format": form}))
        for one in stuck:
            assert one.recv(10)
        for _ in range(5):
            assert server.speak("others are served").status_code == 200
        eventually(lambda: server.log.count(words) == cut + len(stuck))
        assert open_files(server) <= before + 2
        for one in stuck:
            with pytest.raises(ConnectionResetError):
                while one.recv(1 << 20):
                    pass
                raise AssertionError("the answer ended as if it were whole")
    assert not server.ready()["queue"]["busy"]


def test_a_slow_reader_who_reads_is_not(server: Server) -> None:
    with ExitStack() as stack:
        one = connected(server, stack)
        one.sendall(request(LONG))
        size = 0
        began = time.monotonic()
        # Slower than it is made by far, and for longer than anybody may do nothing.
        while time.monotonic() - began < 4 * PATIENCE_S:
            size += len(one.recv(1 << 12))
            time.sleep(0.05)
        wanted = 4000 * 2 * 2400
        while size < wanted and (data := one.recv(1 << 20)):
            size += len(data)
        assert size >= wanted


def listening(server: Server, stack: ExitStack) -> ClientConnection:
    """A WebSocket whose client takes what it is given, and no more than it asks for."""
    url = f"ws://127.0.0.1:{server.port}/v1/audio/stream"
    wire = connected(server, stack)
    # Its own pings would end it: their answers come behind the speech that it has not read.
    return stack.enter_context(
        connect(url, sock=wire, proxy=None, max_queue=1, ping_interval=None, close_timeout=0.1)
    )


WISH = json.dumps({"type": "speak", "input": "x" * 4000, "speed": 0.5, "normalize": False})
"""As long as `LONG`."""


def test_a_websocket_whose_client_stops_reading_is_cut_off(server: Server) -> None:
    words = "does not read its WebSocket"
    cut = server.log.count(words)
    with ExitStack() as stack:
        stuck = [listening(server, stack) for _ in range(3)]
        for one in stuck:
            one.send(WISH)
        eventually(lambda: server.metric("ishowtts_websockets") == 3)
        eventually(lambda: server.log.count(words) == cut + 3)
        eventually(lambda: server.metric("ishowtts_websockets") == 0)
        for one in stuck:
            with pytest.raises(ConnectionClosed):
                while True:
                    one.recv(timeout=30)
    assert not server.ready()["queue"]["busy"]


def test_a_websocket_whose_client_plays_before_it_reads_on_is_not(server: Server) -> None:
    with ExitStack() as stack:
        player = listening(server, stack)
        player.send(WISH)
        began = time.monotonic()
        size = 0
        # Behind by megabytes, for longer than anybody may do nothing.
        while time.monotonic() - began < 4 * PATIENCE_S:
            got = player.recv(timeout=30)
            size += len(got) if isinstance(got, bytes) else 0
            time.sleep(0.1)
        while isinstance(got, bytes) or json.loads(got)["type"] != "end":
            got = player.recv(timeout=30)
            size += len(got) if isinstance(got, bytes) else 0
        assert size == 4000 * 2 * 2400


def test_a_websocket_that_says_nothing_stays(server: Server) -> None:
    with ExitStack() as stack:
        quiet = listening(server, stack)
        time.sleep(2 * PATIENCE_S)
        quiet.send(json.dumps({"type": "speak", "input": "hello"}))
        assert json.loads(quiet.recv(timeout=30))["type"] == "begin"
