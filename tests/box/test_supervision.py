"""systemd and the daemon together: it is killed, it hangs, it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import DAEMON, Daemon, configure, fault

WATCHDOG = 3


@pytest.fixture(scope="module")
def supervised(base: Path) -> Iterator[tuple[Box, Daemon]]:
    with new_box(BOARD) as box:
        box.boot()
        daemon = configure(box, daemon={"watchdog_seconds": WATCHDOG})
        box.ops("install", "--yes")
        fault(box, "text")
        box.systemctl("restart", DAEMON)
        yield box, daemon


def _pid(box: Box) -> str:
    return box.show(DAEMON, "MainPID")["MainPID"]


def _restarts(box: Box) -> int:
    return int(box.show(DAEMON, "NRestarts")["NRestarts"])


def _back_again(box: Box, daemon: Daemon, old_pid: str) -> None:
    eventually(
        lambda: (
            _pid(box) not in ("0", old_pid)
            and box.state(DAEMON) == "active/running"
            and daemon.ready()
        ),
        "a new daemon is warm",
        evidence=lambda: box.why(DAEMON),
    )
    assert daemon.say("I am back.").status_code == 200


def test_killed_it_is_started_again(supervised: tuple[Box, Daemon]) -> None:
    box, daemon = supervised
    pid, restarts = _pid(box), _restarts(box)
    box.exec("kill", "-KILL", pid)
    _back_again(box, daemon, pid)
    assert _restarts(box) == restarts + 1


def test_a_hang_is_ended_by_the_watchdog_with_the_stacks_in_the_journal(
    supervised: tuple[Box, Daemon],
) -> None:
    box, daemon = supervised
    pid, restarts = _pid(box), _restarts(box)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(daemon.say("fault:hang").status_code)
        except httpx.TransportError as error:
            answers.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    _back_again(box, daemon, pid)
    caller.join(30)
    assert answers == [503], "told before the kill, with when to come back"
    assert _restarts(box) == restarts + 1
    log = box.exec("journalctl", "--output=cat", f"--unit={DAEMON}", f"_PID={pid}").stdout
    assert "tone.py" in log and "in stream" in log, "the stack of the thread that hangs"
    assert "MainThread" in log or log.count("Thread 0x") >= 2, "all threads, not one"
    assert "Failed with result 'watchdog'" in box.journal(DAEMON)


def test_work_longer_than_the_watchdog_is_no_hang(supervised: tuple[Box, Daemon]) -> None:
    """Progress feeds it, not the end of a job."""
    box, daemon = supervised
    pid = _pid(box)
    answer = daemon.say(f"fault:slow:{WATCHDOG * 0.7} " + "x" * 30)
    assert answer.status_code == 200
    assert _pid(box) == pid


def test_told_to_stop_it_finishes_what_it_began(supervised: tuple[Box, Daemon]) -> None:
    box, daemon = supervised
    answers: list[httpx.Response] = []
    caller = threading.Thread(
        target=lambda: answers.append(daemon.say("fault:slow:0.7 " + "x" * 45))
    )
    caller.start()

    def speaking() -> bool:
        metrics = daemon.get("/readyz")
        return metrics is not None and caller.is_alive()

    eventually(speaking, "the request is under way")
    whole = daemon.get("/v1/voices")
    assert whole is not None
    # Long enough for the request to be admitted, far shorter than it takes.
    threading.Event().wait(0.5)
    assert caller.is_alive()
    box.systemctl("stop", DAEMON)
    caller.join(30)
    assert [answer.status_code for answer in answers] == [200]
    assert len(answers[0].content) > 24_000, "cut short"
    shown = box.show(DAEMON, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert "draining" in box.journal(DAEMON)
    assert daemon.get("/livez") is None
    box.systemctl("start", DAEMON)
    assert daemon.ready()


def test_what_no_restart_can_mend_is_not_restarted(box: Box) -> None:
    """A configuration that became wrong: systemd must not try for ever."""
    configure(box)
    box.ops("install", "--yes")
    box.write("/etc/ishowtts-ops/config.yaml", "engine: {kind: tone}\nnonsense: 1\n")
    box.systemctl("restart", DAEMON, check=False)
    box.wait_for(DAEMON, "failed")
    assert _restarts(box) == 0
    assert "nonsense" in box.journal(DAEMON)
