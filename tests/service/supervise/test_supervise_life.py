"""Whole lives of a supervised service: real processes, a real manager's socket.

They mostly wait, so they are lived side by side: each `@life` is a case of `test_life`.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from tests.service.supervise.supervised import PROGRAM, STANDIN, Supervised, gone
from tests.support.ports import free_port

AT_ONCE = 5
LIVES: dict[str, Callable[[], None]] = {}


def life(function: Callable[[], None]) -> Callable[[], None]:
    LIVES[function.__name__] = function
    return function


@life
def ready_only_after_the_warm_up_and_then_fed() -> None:
    with Supervised("--start-seconds", "0.5") as service:
        service.until_ready()
        said = service.said
        before = said[: said.index("READY=1")]
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
        assert "STATUS=waiting until it is healthy" in before
        assert "STATUS=warming up: request 4 of 4" in before
        assert "WATCHDOG=1" not in before
        service.eventually(lambda: service.said.count("WATCHDOG=1") >= 3, "it is fed")
        service.eventually(
            lambda: any("last real request" in line for line in service.said), "canaries come"
        )
        assert "warm-up request=4/4" in service.output
        assert "audio_seconds=" in service.output
        # The output of the command is there, unchanged.
        assert re.search(r"^stand-in for iShowTTS's backend pid=\d+", service.output, re.MULTILINE)
        assert "\nstand-in: this is its stderr\n" in "\n" + service.output
        service.signal(signal.SIGTERM)
        service.ends_with(128 + signal.SIGTERM)
        assert "STOPPING=1" in service.said
        assert not service.healthy()


@life
def an_idle_start_is_given_up_and_a_busy_one_is_not() -> None:
    with (
        Supervised("--start-seconds", "60", "--start-idle", start_grace=2) as idle,
        Supervised("--start-seconds", "5", start_grace=2) as busy,
    ):
        idle.ends_with(1)
        assert "its start has not moved for 2 s" in idle.output
        assert "READY=1" not in idle.said
        busy.until_ready()


@life
def a_start_that_goes_on_for_ever_is_given_up() -> None:
    with Supervised("--start-seconds", "60", start_limit=1) as service:
        service.ends_with(1)
        assert "its start took over 1 s; not healthy yet" in service.output


@life
def a_warm_up_that_gives_no_audio_is_no_start() -> None:
    with Supervised("--fault", "silent") as service:
        service.ends_with(1)
        assert "READY=1" not in service.said
        assert "the warm-up failed: POST" in service.output
        assert "is silent" in service.output
        assert gone(service.pid_of_command)


BROKEN = [
    ("hang", "its health failed 2 times in a row: GET .*/api/health gave no answer"),
    ("lie", "though it calls itself healthy: POST .*/api/tts gave no answer within"),
    ("error", "though it calls itself healthy: POST .*/api/tts answered 500.*CUDA error"),
    ("silent", "though it calls itself healthy: .* audio is silent"),
    ("busy", r"a real request failed .* gave no answer within .*answered 503"),
]


def broken(fault: str, reason: str) -> None:
    """What is broken is ended with its reason."""
    with Supervised(health_timeout=3, canary_timeout=3) as service:
        service.until_ready()
        service.fault(fault)
        service.ends_with(1)
        lines = [text for text in service.output.splitlines() if "ERROR" in text]
        assert len(lines) == 1, "one clear line"
        assert re.search(f"broken, to be started again: .*{reason}", lines[0])
        assert f"known of it: pid={service.pid_of_command} " in service.output
        assert any(text.startswith("STATUS=broken") for text in service.said)
        assert gone(service.pid_of_command)


@life
def after_a_real_request_failed_the_watchdog_is_not_fed() -> None:
    with Supervised(canary_failures=50) as service:
        service.until_ready()
        service.fault("silent")
        service.until_said("a real request failed, 2 of 50")
        fed = service.said.count("WATCHDOG=1")
        service.until_said("a real request failed, 5 of 50")
        assert service.said.count("WATCHDOG=1") == fed
        assert service.healthy()
        service.fault("none")
        service.until_said("works again")
        service.eventually(lambda: service.said.count("WATCHDOG=1") > fed, "it is fed again")


@life
def a_busy_service_is_asked_later_but_asked() -> None:
    with Supervised(canary_interval=0.7, idle_seconds=1) as service:
        service.until_ready()
        service.fault("spin")
        began = time.monotonic()
        service.eventually(lambda: any("last real request" in text for text in service.said))
        assert time.monotonic() - began > 1, "it was not idle for a second"


@life
def a_crash_is_passed_on() -> None:
    with Supervised() as service:
        service.until_ready()
        service.fault("crash")
        service.ends_with(3)
        assert "the command ended by itself code=3" in service.output


@life
def killed_by_a_signal_is_told_as_a_shell_does() -> None:
    with Supervised("--child") as service:
        service.until_ready()
        child = int(service.output.split("child=")[1].split()[0])
        psutil.Process(service.pid_of_command).kill()
        service.ends_with(128 + signal.SIGKILL)
        assert "signal=SIGKILL" in service.output
        assert gone(child), "a process was left behind"


@life
def an_end_before_it_was_ready_is_told_and_the_manager_is_ours_alone() -> None:
    """A command that speaks to systemd itself must not be ready in our place."""
    show = "import os; print(sorted(n for n in os.environ if 'NOTIFY' in n or 'WATCHDOG' in n))"
    with Supervised(command=(sys.executable, "-c", f"{show}; raise SystemExit(78)")) as service:
        service.ends_with(78)
        assert "\n[]\n" in service.output
        assert "ended by itself before it was ready code=78" in service.output


@life
def signals_are_passed_on_and_the_exit_code_comes_back() -> None:
    with Supervised("--on-term", "exit", "--exit-code", "7") as service:
        service.until_ready()
        service.signal(signal.SIGHUP)
        service.until_said("stand-in: got SIGHUP")
        assert service.healthy()
        service.signal(signal.SIGINT)
        service.ends_with(7)
        assert "stand-in: got SIGINT" in service.output


@life
def what_ignores_the_signal_is_killed_after_the_grace() -> None:
    with Supervised("--on-term", "ignore", stop_seconds=0.5) as service:
        service.until_ready()
        service.signal(signal.SIGTERM)
        service.ends_with(128 + signal.SIGKILL)
        assert "stand-in: got SIGTERM" in service.output
        assert "did not end in time" in service.output


@life
def a_second_signal_ends_it_at_once() -> None:
    with Supervised("--on-term", "ignore", stop_seconds=600) as service:
        service.until_ready()
        service.signal(signal.SIGTERM)
        service.until_said("stand-in: got SIGTERM")
        service.signal(signal.SIGTERM)
        service.ends_with(128 + signal.SIGKILL)


@life
def a_signal_before_it_is_ready_is_obeyed() -> None:
    with Supervised("--start-seconds", "60") as service:
        service.until_said("stand-in for")
        service.signal(signal.SIGTERM)
        service.ends_with(128 + signal.SIGTERM)


@life
def a_leak_ends_in_an_idle_moment_as_planned() -> None:
    with Supervised(memory_growth_mb_per_hour=1000, memory_window=2) as service:
        service.until_ready()
        service.fault("leak:20")
        service.ends_with(75)
        assert re.search(
            r"planned restart: its memory grows by \d+ MiB an hour .*it is idle now", service.output
        )
        assert "ERROR" not in service.output


@life
def over_the_limit_and_never_idle_it_waits_only_so_long() -> None:
    with Supervised(memory_limit_mb=5, memory_wait=1.2, idle_seconds=600) as service:
        service.ends_with(75)
        assert re.search(r"planned restart: it uses \d+ MiB of memory, over 5", service.output)
        assert "it was not idle for 1 s" in service.output


@life
def a_script_that_passes_nothing_on_is_no_obstacle() -> None:
    """Its shell ends at once; the server behind it may finish first."""
    port = free_port()
    server = f"{sys.executable} {STANDIN} --port {port} --on-term exit; true"
    url = f"http://127.0.0.1:{port}"
    with Supervised(command=("sh", "-c", server), url=url) as service:
        service.until_ready()
        members = psutil.Process(service.pid_of_command).children()
        assert len(members) == 1
        service.signal(signal.SIGTERM)
        service.code()
        assert "stand-in: got SIGTERM" in service.output
        assert "killed" not in service.output
        assert gone(members[0].pid)


@life
def somebody_else_who_answers_is_not_taken_for_it() -> None:
    with Supervised() as first:
        first.until_ready()
        again = subprocess.run(
            [*PROGRAM, "--preset", "ishowtts", "--url", first.url, "--", "sleep", "60"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert again.returncode == 1
        assert "Another service answers at" in again.stderr


@life
def without_a_canary_and_without_a_manager() -> None:
    port = free_port()
    command = [sys.executable, str(STANDIN), "--port", str(port)]
    done = subprocess.Popen(
        [*PROGRAM, "--health", f"http://127.0.0.1:{port}/api/health", "--", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert done.stderr is not None
    text = ""
    for line in done.stderr:
        text += line
        if "no canary is set" in line:
            done.send_signal(signal.SIGTERM)
    assert done.wait(30) == 128 + signal.SIGTERM
    assert "ready seconds=" in text


LIVES |= {f"broken by {fault}": partial(broken, fault, reason) for fault, reason in BROKEN}


@pytest.fixture(scope="module")
def under_way(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The lives that were asked for."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = [item.callspec.params["name"] for item in items if item.originalname == "test_life"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(LIVES[name]) for name in names}


@pytest.mark.parametrize("name", LIVES)
def test_life(name: str, under_way: dict[str, Future[None]]) -> None:
    under_way[name].result()
