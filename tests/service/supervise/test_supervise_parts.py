"""Listening, asking, telling a leak: each part by itself."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from ishowtts_ops.config import BackendRequest
from ishowtts_ops.errors import ReadOnlyViolation, ToolMissing
from ishowtts_ops.host import Host
from ishowtts_ops.supervise.audio import NotHeard, hear
from ishowtts_ops.supervise.memory import MIB, Sentinel
from ishowtts_ops.supervise.probe import Attempt, Prober
from ishowtts_ops.supervise.tree import Tree, moved, rested
from tests.service.supervise.supervised import STANDIN
from tests.support.ports import free_port

RATE = 24_000


def file(samples: np.ndarray, format: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format=format, subtype=subtype)
    return out.getvalue()


def sine(seconds: float, loudness: float = 0.5) -> np.ndarray:
    return loudness * np.sin(np.arange(int(seconds * RATE)) / 10)


def in_json(raw: bytes) -> bytes:
    return json.dumps({"audio_base64": base64.b64encode(raw).decode()}).encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (file(sine(1)), "audio/wav"),
        (file(sine(1)), "application/octet-stream"),
        (file(sine(1), subtype="FLOAT"), "audio/x-wav"),
        (file(sine(1), "FLAC"), "audio/flac"),
        (in_json(file(sine(1))), "application/json"),
        (file(sine(1, 0.01)), "audio/wav"),
    ],
)
def test_speech_is_heard(body: bytes, content_type: str) -> None:
    assert hear(body, content_type) == pytest.approx(1)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "holds no audio"),
        (b'{"audio_base64": ""}', "is empty"),
        (b'{"audio_base64": "!"}', "holds no audio"),
        (b'{"audio_base64": null}', "holds no audio"),
        (b'{"error": "no"}', "holds no audio"),
        (b"[]", "holds no audio"),
        (in_json(b"RIFF and nothing more"), "cannot be read"),
        (file(sine(1))[:30], "cannot be read"),
        (file(np.zeros(0)), "is 0 s long"),
        (file(sine(0.01)), "is 0.01 s long"),
        (file(np.zeros(RATE)), "is silent"),
        (file(np.full(RATE, 0.5)), "is silent"),
        (file(np.full(RATE, np.nan), subtype="FLOAT"), "finite"),
    ],
)
def test_what_is_no_speech_is_told(body: bytes, why: str) -> None:
    with pytest.raises(NotHeard, match=why):
        hear(body, "application/json")


# ---- asking --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standin() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, str(STANDIN), "--port", str(port)], stdout=subprocess.DEVNULL
    )
    outcome(Prober(lambda: None).ask(BackendRequest(path=f"{url}/api/health"), 30, patient=True))
    yield url
    process.kill()
    process.wait()


def outcome(attempt: Attempt, limit: float = 30) -> str:
    end = time.monotonic() + limit
    while attempt.answer is None and attempt.failure is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    return attempt.failure or "good"


def test_answers_are_judged(standin: str) -> None:
    done = threading.Event()
    prober = Prober(done.set)

    def ask(path: str, expect: str = "ok", body: object = None) -> str:
        method = "GET" if body is None else "POST"
        request = BackendRequest(method=method, path=standin + path, body=body, expect=expect)
        return outcome(prober.ask(request, 10))

    assert ask("/api/health") == ask("/api/health", "json") == "good"
    assert done.is_set()
    assert ask("/api/health", 'contains:"ok"') == "good"
    assert "does not contain 'well'" in ask("/api/health", "contains:well")
    assert "holds no audio" in ask("/api/health", "audio")
    assert ask("/api/tts", "audio", {"text": "Hello."}) == "good"
    assert "answered 400: " in ask("/api/tts", "audio", {"text": "x", "voice_id": "nobody"})
    assert "answered 404" in ask("/nothing")


def test_a_refused_connection_is_told_or_waited_for() -> None:
    request = BackendRequest(path=f"http://127.0.0.1:{free_port()}/")
    prober = Prober(lambda: None)
    assert "no connection" in outcome(prober.ask(request, 10))
    said = outcome(prober.ask(request, 0.2, patient=True))
    assert "gave no answer within 0.2 s (last: " in said
    assert "no connection" in said


def test_an_answer_that_never_ends_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b"x")
                        time.sleep(0.02)
                except OSError:
                    pass

        threading.Thread(target=trickle, daemon=True).start()
        request = BackendRequest(path=f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert "gave no answer within 0.3 s" in outcome(Prober(lambda: None).ask(request, 0.3))


def test_what_broke_off_or_is_no_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def stammer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"this is no HTTP\r\n\r\n")

        threading.Thread(target=stammer, daemon=True).start()
        request = BackendRequest(path=f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert "broke off" in outcome(Prober(lambda: None).ask(request, 10))


# ---- memory --------------------------------------------------------------------------------------


def verdicts(sentinel: Sentinel, readings: list[float], every: float) -> list[str]:
    """Feed readings in MiB, `every` seconds."""
    found = (sentinel.add(n * every, int(mib * MIB)) for n, mib in enumerate(readings))
    return [text for text in found if text]


def test_a_steady_leak_is_found_after_a_window_and_not_before() -> None:
    leak = [500 + n / 5 for n in range(800)]
    assert verdicts(Sentinel(1e12, 100 * MIB, 3600), leak[:715], 5) == []
    found = verdicts(Sentinel(1e12, 100 * MIB, 3600), leak, 5)
    assert found and re.search(r"grows by 14\d MiB an hour .* over 100 MiB an hour", found[0])


@pytest.mark.parametrize(
    "readings",
    [
        [500.0] * 2000,
        # Warm caches: much at once, then nothing more.
        [500.0] * 20 + [2500.0] * 2000,
        # Requests that take a gigabyte and give it back.
        [500.0 + (1000 if n % 7 < 3 else 0) for n in range(2000)],
        # It grows more slowly than it may: 36 MiB an hour.
        [500 + n / 20 for n in range(2000)],
        [2500 - n / 10 for n in range(2000)],
    ],
    ids=["steady", "a step", "bursts", "slow", "shrinking"],
)
def test_what_is_no_leak_is_left_alone(readings: list[float]) -> None:
    assert verdicts(Sentinel(1e12, 100 * MIB, 3600), readings, 5) == []


def test_bursts_do_not_hide_a_leak_and_zero_lets_it_grow() -> None:
    leak = [500 + n / 5 + (1000 if n % 7 < 3 else 0) for n in range(2000)]
    assert verdicts(Sentinel(1e12, 100 * MIB, 3600), leak, 5)
    assert verdicts(Sentinel(1e12, 0, 3600), leak, 5) == []


def test_over_the_limit_is_told_at_once() -> None:
    assert "over 100 MiB" in verdicts(Sentinel(100 * MIB, 0, 3600), [99, 101], 5)[0]


# ---- processes -----------------------------------------------------------------------------------


def test_all_processes_of_a_service_are_seen() -> None:
    host = Host.at("/")
    child = host.spawn_here(["sh", "-c", "sleep 60 & exec sleep 60"], env={})
    tree = Tree(child.pid)
    end = time.monotonic() + 20
    while sum("command='sleep 60'" in text for text in tree.story()) < 2:
        assert time.monotonic() < end
    while True:  # their last work before they sleep may be booked a moment later
        first = tree.look()
        assert first.rss > 0 and len(first.pids) == 2
        time.sleep(0.1)
        second = tree.look()
        if rested(first, second) and not moved(first, second):
            break
        assert time.monotonic() < end
    assert any("command='sleep 60'" in text and "state=" in text for text in tree.story())
    child.signal_group(9)
    child.wait_for_end()
    assert child.reap() == -9
    while tree.members():
        assert time.monotonic() < end


def test_work_is_seen() -> None:
    child = Host.at("/").spawn_here([sys.executable, "-c", "while True: pass"], env={})
    tree = Tree(child.pid)
    first = tree.look()
    end = time.monotonic() + 60
    while True:  # on a busy machine its turn comes late
        time.sleep(0.1)
        second = tree.look()
        if moved(first, second) and not rested(first, second):
            break
        assert time.monotonic() < end
    child.signal(9)
    assert child.reap() == -9


def test_a_read_only_host_starts_nothing() -> None:
    with pytest.raises(ReadOnlyViolation):
        Host.at("/").read_only().spawn_here(["true"], env={})
    with pytest.raises(ToolMissing):
        Host.at("/").spawn_here(["/no/such/program"], env={})
