"""sd_notify and the watch, against a real socket."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ishowtts_ops.daemon.pulse import Condition, Pulse
from ishowtts_ops.daemon.watchdog import HUNG, Notifier, Watch, send_plainly, watchdog_period
from tests.service.daemon.daemon_server import NotifySocket, eventually


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[NotifySocket]:
    notify = NotifySocket(abstract=request.param)
    yield notify
    notify.close()


def test_messages_are_what_systemd_documents(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    notifier = Notifier()
    notifier.status("loading\nweights")
    notifier.extend(1.5)
    notifier.ready("ready")
    notifier.watchdog()
    notifier.stopping("bye")
    send_plainly("STATUS=by hand")
    eventually(lambda: "STATUS=by hand" in manager.lines)
    assert manager.lines == [
        "STATUS=loading weights",
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1",
        "STATUS=ready",
        "WATCHDOG=1",
        "STOPPING=1",
        "STATUS=bye",
        "STATUS=by hand",
    ]


def test_no_manager_and_a_manager_that_is_gone_are_no_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("x")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    Notifier().ready("x")


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    own = str(os.getpid())
    assert watchdog_period({"WATCHDOG_USEC": "30000000"}) == 30
    assert watchdog_period({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": own}) == 2.5
    assert watchdog_period({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_period({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_period({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_period({}) is None


def test_the_watch_passes_on_progress_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = NotifySocket()
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    pulse, condition = Pulse(), Condition()
    told: list[str] = []
    watch = Watch(pulse, condition, Notifier(), 0.05, told.append)
    pulse.beat()
    watch.tick()
    watch.tick()
    eventually(lambda: len(manager.lines) == 1)
    assert manager.lines == ["EXTEND_TIMEOUT_USEC=120000000"]

    condition.warmed_up("ready")
    watch.tick()
    eventually(lambda: "WATCHDOG=1" in manager.lines)
    eventually(lambda: pulse.age() > 0.05)
    for _ in range(3):
        watch.tick()
    assert watch.hung
    assert condition.ailment(HUNG)
    assert told == ["The engine hangs."]
    assert not condition.snapshot().ready
    assert manager.lines.count("WATCHDOG=1") == 1

    pulse.beat()
    watch.tick()
    assert not watch.hung
    assert condition.snapshot().ready
    eventually(lambda: manager.lines.count("WATCHDOG=1") == 2)
    manager.close()


def test_a_condition_keeps_its_reasons_apart() -> None:
    told: list[str] = []
    condition = Condition(told.append)
    condition.stage("loading")
    condition.stage("loading")
    assert condition.snapshot().reasons == ("warming up: loading",)
    condition.warmed_up("ready")
    condition.ail("a", "first")
    condition.ail("b", "second")
    condition.heal("a")
    assert condition.snapshot() == condition.snapshot()
    assert (condition.snapshot().status, condition.snapshot().reasons) == ("failing", ("second",))
    condition.drain()
    assert condition.snapshot().reasons == ("shutting down", "second")
    assert told[:5] == ["loading", "ready", "first", "second", "ready"]
