"""What comes over a connection that is no decent request, and more connections than there should
be."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.daemon.wire import MAX_HEAD_BYTES, MOST_CONNECTIONS, MOST_OF_ONE_ADDRESS
from tests.service.daemon.daemon_server import PATIENCE_S, Server, eventually, serving

HEAD = b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FILES = 2 * MOST_CONNECTIONS + 500


@pytest.fixture(scope="module", autouse=True)
def files() -> Iterator[None]:
    """Enough of them, for the daemon too, which inherits the limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(FILES, before[0])
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"no more than {before[1]} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: None) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path_factory.mktemp("wire"), env=env) as made:
        yield made.wait_ready()


def connected(server: Server, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, server.port), timeout=PATIENCE_S)


def everything(wire: socket.socket) -> bytes:
    data = b""
    while part := wire.recv(1 << 16):
        data += part
    return data


def asked(server: Server, raw: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer to some bytes, after which the connection ends."""
    with connected(server) as wire:
        wire.sendall(raw)
        return parsed(everything(wire))


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rows = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}
    assert len(body) == int(headers["content-length"])
    return int(first.split()[1]), headers, json.loads(body)


NO_HTTP = {
    "words": b"GARBAGE\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "version": b"GET /livez HTTP/9.9\r\n\r\n",
    "header": b"GET /livez HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length": HEAD + b"Content-Length: -5\r\n\r\n",
    "chunk": CHUNKED + b"5\r\n{abcd\r\nzz\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_told_so_in_the_one_shape(server: Server, name: str) -> None:
    status, headers, body = asked(server, NO_HTTP[name])
    assert (status, body["error"]["code"]) == (400, "invalid_http")
    assert set(body["error"]) == {"message", "type", "param", "code"}
    line = eventually(
        lambda: [row for row in server.log.splitlines() if headers["x-request-id"] in row]
    )
    assert "refused" in line[0] and "code=invalid_http" in line[0]
    assert "Traceback" not in server.log


def test_garbage_behind_a_request_does_not_become_part_of_its_answer(server: Server) -> None:
    wish = json.dumps({"input": "x" * 20 + "fault:late:1 fault:slow:0.3", "response_format": "pcm"})
    raw = HEAD + f"Content-Length: {len(wish)}\r\n\r\n{wish}".encode()
    with connected(server) as wire:
        wire.sendall(raw)
        data = wire.recv(1 << 16)
        assert data.startswith(b"HTTP/1.1 200")
        wire.sendall(b"GARBAGE\r\n\r\n")
        with suppress(ConnectionResetError):
            data += everything(wire)
        assert b"HTTP/1.1 400" not in data
        assert not data.endswith(b"0\r\n\r\n"), "a cut answer does not look whole"


def endless_heads() -> dict[str, tuple[bytes, bytes]]:
    many = b"".join(b"X-%06d: %s\r\n" % (at, b"a" * 100) for at in range(1000))
    return {
        "headers": (HEAD, many),
        "one header": (HEAD + b"X: ", b"a" * 100_000),
        "path": (b"GET /livez?", b"a" * 100_000),
        "trailers": (CHUNKED + b"0\r\n", many),
        "chunk extension": (CHUNKED + b"1;", b"a" * 100_000),
    }


@pytest.mark.parametrize("name", endless_heads())
def test_a_head_without_end_takes_no_memory(server: Server, name: str) -> None:
    begin, more = endless_heads()[name]
    before = server.metric("process_resident_memory_bytes")
    refused = server.log.count("code=head_too_large")
    with connected(server) as wire:
        wire.sendall(begin)
        sent = 0
        # It may be cut off in the middle.
        with suppress(OSError):
            while sent < 40_000_000:
                wire.sendall(more)
                sent += len(more)
        grown = server.metric("process_resident_memory_bytes") - before
    assert grown < 8e6, f"{grown / 1e6:.0f} MB more"
    eventually(lambda: server.log.count("code=head_too_large") == refused + 1)


def test_its_sender_is_told_why(server: Server) -> None:
    status, headers, body = asked(server, HEAD + b"X: " + b"a" * (MAX_HEAD_BYTES + 1))
    assert (status, body["error"]["code"]) == (431, "head_too_large")
    assert eventually(lambda: headers["x-request-id"] in server.log)


def test_a_large_head_that_ends_is_fine(server: Server) -> None:
    fields = {f"X-{at}": "a" * 1000 for at in range(40)}
    assert server.http.get("/livez", headers=fields).status_code == 200


def test_head_is_as_get_without_a_body(server: Server) -> None:
    for path in ("/", "/livez", "/readyz", "/metrics", "/v1/voices", "/nowhere"):
        got, head = server.http.get(path), server.http.head(path)
        assert head.status_code == got.status_code
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.content == b""
        assert head.headers["x-request-id"]
    # And the connection can be used on.
    assert server.http.head("/v1/audio/speech").status_code == 405
    assert server.speak("still here").status_code == 200


def test_too_many_connections_are_told_so_and_health_still_answers(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 20):
            stack.enter_context(connected(server))
        with connected(server) as late:
            late.sendall(b"GET /v1/voices HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, body = parsed(everything(late))
        assert (status, body["error"]["code"]) == (429, "too_many_connections")
        assert int(headers["retry-after"]) >= 1
        assert eventually(lambda: headers["x-request-id"] in server.log)
        with connected(server) as health:
            health.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert parsed(everything(health))[0] == 200
    eventually(lambda: server.status("/v1/voices") == 200)


def address_of_this_machine() -> str | None:
    """One that is not loopback. Nothing is sent: a datagram's socket is only given its route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


def test_one_machine_cannot_take_all_connections(tmp_path: Path) -> None:
    address = address_of_this_machine()
    if address is None:
        pytest.skip("this machine has no network, which the test would come over")
    keys = [{"name": "x", "hash": "sha256:" + "0" * 64}]
    with serving(tmp_path, daemon={"host": "0.0.0.0", "api_keys": keys}) as server:
        server.wait_ready()
        with ExitStack() as stack:
            for _ in range(MOST_OF_ONE_ADDRESS):
                stack.enter_context(connected(server, address))
            with connected(server, address) as late:
                late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert parsed(everything(late))[0] == 429
            # Others are served, the box's own above all.
            assert server.status("/v1/voices") == 200
