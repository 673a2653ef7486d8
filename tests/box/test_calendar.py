"""The calendar under real systemd: timers, what they run, who is told, and the way back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import CONFIG, Daemon, configure, envelope, fault, install

REGRESS = "ishowtts-regress.service"
WATCH = "ishowtts-watch.service"
BENCH = "ishowtts-bench.service"
TIMERS = ("ishowtts-regress.timer", "ishowtts-bench.timer", "ishowtts-watch.timer")
NOTIFY = "ishowtts-notify@.service"
CALENDAR = (*TIMERS, "ishowtts-watch.path", REGRESS, WATCH, BENCH, NOTIFY)


class Hook(BaseHTTPRequestHandler):
    """Somebody's chat, as a webhook."""

    def do_POST(self) -> None:
        assert isinstance(self.server, Chat)
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Chat(ThreadingHTTPServer):
    told: list[dict[str, Any]]

    def of(self, unit: str) -> list[dict[str, Any]]:
        return [item for item in self.told if item["unit"] == unit]


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    server = Chat(("127.0.0.1", 0), Hook)
    server.told = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


Kept = tuple[Box, Daemon]


@pytest.fixture(scope="module")
def kept(base: Path, chat: Chat) -> Iterator[Kept]:
    """A box with the calendar, a daemon with the pace of a clock, and a validated state."""
    with new_box(BOARD) as box:
        box.boot()
        daemon = configure(
            box,
            measure={
                "calendar": True,
                "idle_seconds": 0.5,
                "runs": 6,
                "workload": "S",
                "tolerance_percent": 60,
            },
            notify={"webhook": f"http://127.0.0.1:{chat.server_port}/box"},
        )
        install(box)
        fault(box, "slow:0.05")
        box.systemctl("restart", "ishowtts-tts.service")
        box.systemctl("start", WATCH, check=False)
        assert "The new baseline is" in box.journal(WATCH), box.why(WATCH)
        yield box, daemon


def history(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = envelope(box.ops("bench", "history", "--json").stdout)["data"]
    return found


def test_systemd_has_nothing_to_say_about_them(kept: Kept) -> None:
    box, _ = kept
    paths = [f"/etc/systemd/system/{unit}" for unit in CALENDAR]
    done = box.exec("systemd-analyze", "verify", "--man=no", *paths)
    assert done.stdout + done.stderr == ""


def test_the_timers_are_set_as_configured(kept: Kept) -> None:
    box, _ = kept
    for timer in TIMERS:
        assert box.state(timer) == "active/waiting", box.why(timer)
        assert box.systemctl("is-enabled", timer).stdout.strip() == "enabled"
    assert box.state("ishowtts-watch.path") == "active/waiting"
    assert "OnCalendar=*-*-* 04:30:00" in box.show(TIMERS[0], "TimersCalendar")["TimersCalendar"]
    assert (
        "OnCalendar=Sun *-*-* 05:00:00" in box.show(TIMERS[1], "TimersCalendar")["TimersCalendar"]
    )
    for calendar in ("*-*-* 04:30", "Sun *-*-* 05:00"):
        assert box.exec("systemd-analyze", "calendar", calendar).returncode == 0


def test_the_timer_runs_the_daily_look(kept: Kept) -> None:
    """The same timer with a short interval."""
    box, _ = kept
    drop_in = f"/etc/systemd/system/{TIMERS[0]}.d/test.conf"
    box.write(
        drop_in,
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/4\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    )
    before = len(history(box)["runs"])
    box.systemctl("daemon-reload")
    box.systemctl("restart", TIMERS[0])
    eventually(
        lambda: box.journal(REGRESS).count("No regression: RTF") >= 2,
        "the daily look has run twice",
        60,
        lambda: box.why(REGRESS),
    )
    box.exec("rm", drop_in)
    box.systemctl("daemon-reload")
    box.systemctl("restart", TIMERS[0])
    assert len(history(box)["runs"]) >= before + 2
    assert box.show(REGRESS, "Result")["Result"] == "success"


def test_the_weekly_run_is_kept(kept: Kept) -> None:
    box, _ = kept
    box.systemctl("start", BENCH)
    newest = history(box)["runs"][-1]
    assert (newest["note"], len(newest["samples"])) == ("weekly", 6)


def test_a_live_stream_is_not_disturbed(kept: Kept) -> None:
    box, daemon = kept
    stop = threading.Event()

    def stream() -> None:
        while not stop.is_set():
            daemon.say("somebody writes something in the chat and it is read aloud")

    talker = threading.Thread(target=stream)
    talker.start()
    try:
        before = len(history(box)["runs"])
        for words in (("regress", "--when-idle"), ("bench", "run", "--when-idle")):
            done = box.ops(*words)
            assert "Skipped" in done.stdout
        assert len(history(box)["runs"]) == before
    finally:
        stop.set()
        talker.join()


def test_a_good_change_becomes_the_new_baseline_by_itself(kept: Kept) -> None:
    """Nobody starts anything: the path unit sees the file."""
    box, daemon = kept
    before = len(history(box)["baselines"])
    box.write(CONFIG, box.read(CONFIG) + "default_voice: tone-b\n")
    eventually(
        lambda: len(history(box)["baselines"]) == before + 1,
        "the changed configuration was validated",
        60,
        lambda: box.why(WATCH),
    )
    assert history(box)["baselines"][-1]["reason"] == "the configuration changed"
    answer = daemon.get("/readyz")
    assert answer is not None and answer.json()["default_voice"] == "tone-b"


def test_a_bad_change_is_rolled_back_and_told_once(kept: Kept, chat: Chat) -> None:
    box, daemon = kept
    good = box.read(CONFIG)
    baselines = len(history(box)["baselines"])
    box.write(CONFIG, yaml.safe_dump({**yaml.safe_load(good), "default_voice": "nobody"}))
    eventually(
        lambda: box.read(CONFIG) == good and daemon.ready(),
        "the last good configuration is back and the daemon speaks",
        90,
        lambda: box.why(WATCH),
    )
    eventually(lambda: len(chat.of(WATCH)) == 1, "the chat was told", 30, lambda: box.why(WATCH))
    told = chat.of(WATCH)[0]
    assert any("'nobody'" in line or "nobody" in line for line in told["lines"]), told
    assert any("last good state" in line for line in told["lines"])
    assert len(history(box)["baselines"]) == baselines
    rejected = list(box.path("/etc/ishowtts-ops").glob("config.yaml.rejected-*"))
    assert ["default_voice: nobody" in path.read_text() for path in rejected] == [True]
    # What it rolled back to is the good state: the next look finds nothing to do.
    box.systemctl("start", WATCH)
    assert "Nothing changed since the last validation" in box.journal(WATCH)[-400:]
    assert len(chat.of(WATCH)) == 1


def test_a_regression_fails_its_unit_and_is_told_once(kept: Kept, chat: Chat) -> None:
    box, _ = kept
    fault(box, "slow:0.2")
    box.systemctl("restart", "ishowtts-tts.service")
    try:
        for _ in range(3):
            assert box.systemctl("start", REGRESS, check=False).returncode != 0
        eventually(lambda: len(chat.of(REGRESS)) == 1, "the chat was told", 30)
        notifier = f"ishowtts-notify@{REGRESS}.service"
        eventually(
            lambda: box.journal(notifier).count("Knew already: journal, webhook") == 2,
            "the notifier ran for each failure and told one of them",
            30,
            lambda: box.why(notifier),
        )
        assert len(chat.of(REGRESS)) == 1
        assert any("Regression: RTF" in line for line in chat.of(REGRESS)[0]["lines"])
        assert f"{REGRESS} failed on jetson" in box.journal(notifier)
    finally:
        fault(box, "slow:0.05")
        box.systemctl("restart", "ishowtts-tts.service")
        box.systemctl("reset-failed", REGRESS)


def test_a_daemon_that_gives_up_is_told(kept: Kept, chat: Chat) -> None:
    """`OnFailure=` of the daemon itself."""
    box, _ = kept
    fault(box, "no-such-fault")
    try:
        box.systemctl("restart", "ishowtts-tts.service", check=False)
        eventually(
            lambda: len(chat.of("ishowtts-tts.service")) == 1,
            "the chat was told",
            30,
            lambda: box.why("ishowtts-tts.service"),
        )
    finally:
        fault(box, "slow:0.05")
        box.systemctl("restart", "ishowtts-tts.service")


def test_uninstall_takes_the_calendar_along(kept: Kept) -> None:
    box, _ = kept
    box.ops("uninstall", "--yes")
    found = [unit for unit in CALENDAR if box.path(f"/etc/systemd/system/{unit}").exists()]
    assert found == []
    listed = box.systemctl("list-timers", "--all", "--no-legend").stdout
    assert "ishowtts" not in listed
    assert not box.path("/var/lib/ishowtts-ops").exists()
