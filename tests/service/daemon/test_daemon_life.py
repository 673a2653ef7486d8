"""Start, stages, readiness, watchdog, drain and exit codes of real daemon processes, with a real
notification socket at the other end of sd_notify."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ishowtts_ops.config import Manifest, parse
from ishowtts_ops.daemon.boot import boot
from ishowtts_ops.daemon.engine import StartRefused
from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.serve import LAST_WORDS_S, Daemon
from ishowtts_ops.daemon.tone import ToneEngine
from ishowtts_ops.daemon.voices import Voices
from ishowtts_ops.daemon.worker import Worker
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from tests.service.daemon.daemon_server import NotifySocket, eventually, serving

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


@pytest.fixture
def manager() -> Iterator[NotifySocket]:
    notify = NotifySocket()
    yield notify
    notify.close()


def in_background(call: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Begin a request; the result's call waits for its answer."""
    answers: list[httpx.Response | httpx.TransportError] = []

    def ask() -> None:
        try:
            answers.append(call())
        except httpx.TransportError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()

    def wait() -> httpx.Response:
        thread.join(30)
        if isinstance(answers[0], httpx.TransportError):
            raise answers[0]
        return answers[0]

    return wait


# ---- start ---------------------------------------------------------------------------------------


def test_ready_comes_after_warm_up_and_a_slow_start_is_extended(
    tmp_path: Path, manager: NotifySocket
) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "load:1.2", "NOTIFY_SOCKET": manager.address}
    with serving(tmp_path, daemon={"watchdog_seconds": 2}, env=env) as server:
        server.wait_listening()
        assert server.status("/livez") == 200
        assert server.status("/readyz") == 503
        story = server.ready()
        assert story["status"] == "warming"
        assert "loading tone" in story["reasons"][0]
        refused = server.speak("too early")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_ready"
        assert int(refused.headers["retry-after"]) >= 1
        assert "READY=1" not in manager.lines
        eventually(lambda: "READY=1" in manager.lines)
        assert server.speak("now").status_code == 200

        lines = manager.lines
        before = lines[: lines.index("READY=1")]
        assert sum(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before) >= 2
        stages = [line.removeprefix("STATUS=") for line in before if line.startswith("STATUS=")]
        assert stages[0] == "loading tone"
        assert "warming voice tone-a (1 of 2)" in stages
        assert stages.index("warming voice tone-b (2 of 2)") < stages.index(
            "ready: tone with 2 voices"
        )
        assert server.stop() == 0


@needs_espeak
def test_a_light_voice_speaks_while_the_engine_warms_up(tmp_path: Path) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "load:600"}) as server:
        server.wait_listening()
        eventually(lambda: server.ready()["fallback"]["ready"])
        answer = server.speak("Good evening, everybody.", fallback=True)
        assert answer.status_code == 200
        assert answer.headers["x-ishowtts-engine"] == "espeak"
        assert answer.headers["x-ishowtts-fallback"] == "true"
        assert server.metric("ishowtts_fallbacks_total") == 1
        assert server.speak("Good evening, everybody.").status_code == 503
        asked = server.speak("Good evening, everybody.", model="espeak")
        assert asked.headers["x-ishowtts-fallback"] == "false"
        assert asked.content == answer.content
        # A signal in the middle of a warm-up is obeyed at once.
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("text", "manifest", "words"),
    [
        ("{engine: {kind: tone}, default_voice: nobody}", Manifest(), "default_voice is 'nobody'"),
        ("engine: {kind: f5}", Manifest(), "The engine manifest names no F5-TTS sources."),
        (
            "engine: {kind: f5}",
            Manifest(source="/nowhere/src"),
            "There is no f5_tts package in /nowhere/src.",
        ),
    ],
    ids=["voice", "no-source", "lost-source"],
)
def test_what_no_restart_can_mend_is_refused_before_anything_is_begun(
    text: str, manifest: Manifest, words: str
) -> None:
    settings = parse(text, "test")
    with pytest.raises(StartRefused, match=re.escape(words)) as caught:
        Daemon(settings, manifest, Host.at("/"))
    assert caught.value.exit_code == 78
    assert caught.value.hint


def test_a_wrong_setting_ends_with_the_code_that_stops_systemd_from_trying_again(
    tmp_path: Path,
) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "sleepy", "JOURNAL_STREAM": "8:1"}
    with serving(tmp_path, env=env) as server:
        assert server.wait() == 78
        assert server.log.startswith("<3>ISHOWTTS_TONE_FAULT has 'sleepy', which is no fault. ")
        assert len(server.log.splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [("silence", "nothing but silence"), ("nan", "not a number")],
)
def test_a_voice_that_does_not_speak_in_warm_up_is_named(fault: str, words: str) -> None:
    engine = ToneEngine(fault)
    condition = Condition()
    worker = Worker(
        engine,
        condition,
        Pulse(),
        queue_limit=1,
        canary_seconds=1,
        observer=lambda job, outcome: None,
    )
    with pytest.raises(OpsError, match=words) as caught:
        boot(worker, Voices(engine.builtin, "tone-b"))
    assert "Voice 'tone-a' did not pass its warm-up" in caught.value.message
    assert not condition.warm


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        settings = parse(f"engine: {{kind: tone}}\ndaemon: {{port: {port}}}", "test")
        with pytest.raises(OpsError, match="Address already in use") as caught:
            Daemon(settings, Manifest(), Host.at("/"))
        assert f"127.0.0.1, port {port}" in caught.value.message
        assert not isinstance(caught.value, StartRefused)


def test_an_engine_that_crashes_in_warm_up_ends_the_daemon_with_its_traceback(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, env={"ISHOWTTS_TONE_FAULT": "raise"}) as server:
        assert server.wait() == 1
        assert "ToneFault: a test asked for this failure" in server.log


# ---- the queue -----------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with serving(
        tmp_path, daemon={"queue_limit": 2}, env={"ISHOWTTS_TONE_FAULT": "text"}
    ) as server:
        server.wait_ready()
        # 48 characters are 2.4 s of tones in 3 pieces; the recent RTF is then about 0.2.
        text = "a text of a good length, spoken slowly".ljust(33, "!") + "fault:slow:0.3"
        running = in_background(lambda: server.speak(text))
        eventually(lambda: server.ready()["queue"]["busy"])
        waiting = [in_background(lambda: server.speak("waiting")) for _ in range(2)]
        eventually(lambda: server.ready()["queue"]["depth"] == 2)
        assert server.metric("ishowtts_queue_depth") == 2
        refused = server.speak("one too many")
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        # As long as is predicted, unless this machine is slower than a tenth of what it should be.
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert [answer().status_code for answer in (running, *waiting)] == [200] * 3
        outcome = {"outcome": "queue_full", "engine": "none"}
        assert server.metric("ishowtts_requests_total", **outcome) == 1


# ---- the watchdog --------------------------------------------------------------------------------


def test_a_hung_engine_gets_no_watchdog_message_and_its_stacks_are_dumped(
    tmp_path: Path, manager: NotifySocket
) -> None:
    env = {
        "ISHOWTTS_TONE_FAULT": "text",
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "1500000",
    }
    with serving(tmp_path, env=env) as server:
        server.wait_ready()
        # Idle, it is fed by canaries.
        eventually(lambda: len(manager.times("WATCHDOG=1")) >= 3)
        assert server.ready()["canaries"] >= 2
        hung = in_background(lambda: server.speak("fault:hang"))
        eventually(lambda: server.ready()["queue"]["busy"])
        began = time.monotonic()
        late = server.speak("behind it", deadline_ms=100)
        assert late.status_code == 504

        # Nobody waits for ever: who is being spoken for and who waits are told before the end.
        behind = server.speak("behind it, and patient")
        for answer in (hung(), behind):
            assert answer.status_code == 503
            assert answer.json()["error"]["message"].startswith("The engine hangs.")
            assert answer.headers["retry-after"] == "5"
        eventually(lambda: server.status("/livez") == 503)
        noticed = time.monotonic()
        story = server.ready()
        assert story["status"] == "failing"
        assert "made no progress" in story["reasons"][0]
        assert server.speak("refused").status_code == 503
        eventually(lambda: time.monotonic() > noticed + 1.6)
        fed = manager.times("WATCHDOG=1")
        assert not [at for at in fed if at > noticed], "a hung engine was fed"
        assert len([at for at in fed if at > began]) <= 1, "what was done before is seen once"
        assert "tone.py" in server.log and "in stream" in server.log
        assert "Timeout (0:00:01.0" in server.log
        assert "the engine hangs" in server.log

        # systemd's kill: SIGABRT dumps the stacks once more and ends the process.
        server.process.send_signal(signal.SIGABRT)
        assert server.wait() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in server.log


def test_stacks_are_dumped_even_when_the_hung_call_keeps_the_interpreter_to_itself(
    tmp_path: Path,
) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "text", "WATCHDOG_USEC": "1500000"}
    with serving(tmp_path, env=env) as server:
        server.wait_ready()
        frozen = in_background(lambda: server.speak("fault:freeze"))
        eventually(lambda: "in stream" in server.log)
        assert "Timeout (0:00:01.0" in server.log
        server.process.kill()
        with pytest.raises(httpx.TransportError):
            frozen()


def test_a_broken_engine_fails_its_canary_and_is_left_to_the_watchdog(
    tmp_path: Path, manager: NotifySocket
) -> None:
    env = {
        "ISHOWTTS_TONE_FAULT": "text",
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "1500000",
    }
    with serving(tmp_path, env=env) as server:
        server.wait_ready()
        assert server.speak("fault:break").status_code == 500
        eventually(lambda: server.ready()["status"] == "failing")
        broken = time.monotonic()
        assert "failed its canary" in server.ready()["reasons"][0]
        assert server.speak("hello").status_code == 503
        eventually(lambda: time.monotonic() > broken + 1.6)
        # What was done before may be seen once; three canaries would have been seen by now.
        assert len([at for at in manager.times("WATCHDOG=1") if at > broken]) <= 1


# ---- the end -------------------------------------------------------------------------------------


def test_sigterm_finishes_what_was_begun_and_refuses_what_comes(
    tmp_path: Path, manager: NotifySocket
) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "text", "NOTIFY_SOCKET": manager.address}
    with serving(tmp_path, daemon={"drain_seconds": 20}, env=env) as server:
        server.wait_ready()
        text = "three pieces are to be spoken fault:slow:0.15"
        begun = in_background(lambda: server.speak(text))
        eventually(lambda: server.ready()["queue"]["busy"])
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.ready()["status"] == "draining")
        refused = server.speak("too late")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        answer = begun()
        assert answer.status_code == 200
        assert len(answer.content) == 44 + len(text) * 2400
        assert server.wait() == 0
        stopping = manager.lines.index("STOPPING=1")
        assert "EXTEND_TIMEOUT_USEC=25000000" in manager.lines[stopping:]


def test_a_slow_reader_gets_the_rest_during_the_drain(tmp_path: Path) -> None:
    with serving(tmp_path, daemon={"drain_seconds": 30}) as server:
        server.wait_ready()
        body = {"input": "x" * 4000, "response_format": "pcm", "speed": 0.5}
        with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
            parts = answer.iter_raw()
            size = len(next(parts))
            server.process.send_signal(signal.SIGTERM)
            # Longer than the few seconds that answers under way are given in the very end.
            time.sleep(LAST_WORDS_S + 0.5)
            size += sum(len(part) for part in parts)
        assert size == 4000 * 2 * 2400
        assert server.wait() == 0


def test_what_is_not_done_when_the_drain_is_over_is_told_so(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path, daemon={"drain_seconds": 0}, env=env) as server:
        server.wait_ready()
        running = in_background(lambda: server.speak("fault:slow:600"))
        eventually(lambda: server.ready()["queue"]["busy"])
        waiting = in_background(lambda: server.speak("waiting"))
        eventually(lambda: server.ready()["queue"]["depth"] == 1)
        assert server.stop() == 0
        for answer in (running(), waiting()):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "draining"


def test_a_second_signal_ends_at_once_even_when_the_engine_hangs(tmp_path: Path) -> None:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path, daemon={"drain_seconds": 300}, env=env) as server:
        server.wait_ready()
        caller = socket.create_connection(("127.0.0.1", server.port))
        raw = json.dumps({"input": "fault:hang"}).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
        caller.sendall(head.encode() + raw)
        eventually(lambda: server.ready()["queue"]["busy"])
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.ready()["status"] == "draining")
        assert server.stop() == 128 + signal.SIGTERM
        caller.close()
