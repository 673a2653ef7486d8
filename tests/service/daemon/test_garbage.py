"""What a request made is gone with it. Speech that only the garbage collector frees is megabytes
that stay for seconds, and the collector's pauses are the tail of everybody's latency."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.service.daemon.daemon_server import PROGRAM, Server, eventually, serving

REQUESTS = 20
LOOK = """
import gc, signal, sys
def look(*_):
    found = gc.collect()
    names = [f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage]
    kinds = " ".join(f"{name}*{names.count(name)}" for name in sorted(set(names)))
    gc.garbage.clear()
    print(f"collected {found}: {kinds}", file=sys.stderr, flush=True)
gc.disable()
gc.set_debug(gc.DEBUG_SAVEALL)
signal.signal(signal.SIGUSR1, look)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path_factory.mktemp("garbage"), env=env, program=LOOK + PROGRAM) as made:
        yield made.wait_ready()


def collected(server: Server) -> str:
    """What the collector found since the last time."""
    before = server.log.count("collected ")
    server.process.send_signal(signal.SIGUSR1)
    eventually(lambda: server.log.count("collected ") > before and server.log.endswith("\n"))
    rows = [line for line in server.log.splitlines() if line.startswith("collected ")]
    return rows[-1]


KINDS = {
    "whole": {"input": "hello"},
    "streamed": {"input": "hello", "response_format": "pcm"},
    "events": {"input": "hello", "stream_format": "sse"},
    "with a way out": {"input": "hello", "fallback": True},
    "to the fallback": {"input": "fault:raise", "fallback": True},
    "unspoken": {"input": "fault:raise"},
    "unspoken stream": {"input": "fault:raise", "response_format": "pcm"},
    "refused": {"input": "hello", "voice": "nobody"},
}


@pytest.mark.parametrize("name", KINDS)
def test_nothing_of_a_request_is_left_to_the_collector(server: Server, name: str) -> None:
    server.http.post("/v1/audio/speech", json=KINDS[name])
    server.http.get("/metrics")
    collected(server)
    for _ in range(REQUESTS):
        server.http.post("/v1/audio/speech", json=KINDS[name])
    # Brings the books up to date, which hold what they have to write.
    server.http.get("/metrics")
    found = collected(server)
    assert "ishowtts_ops" not in found, found
    assert int(found.split()[1].rstrip(":")) < REQUESTS, found
