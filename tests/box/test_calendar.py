"""The calendar under real systemd: timers, what they run, who is told, and the way back."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ishowtts_ops.measure.run import Run
from tests.box.conftest import BOARD
from tests.support.chat import Chat, open_chat
from tests.support.container import Box, eventually, new_box
from tests.support.installed import CONFIG, Daemon, configure, envelope, fault, install, past
from tests.support.program import PROGRAM

REGRESS = "ishowtts-regress.service"
WATCH = "ishowtts-watch.service"
BENCH = "ishowtts-bench.service"
TIMERS = ("ishowtts-regress.timer", "ishowtts-bench.timer", "ishowtts-watch.timer")
NOTIFY = "ishowtts-notify@.service"
TOLD = "/var/log/told"
RELEASE = "/etc/nv_tegra_release"
VALIDATED = "/var/lib/ishowtts-ops/validated.json"
CALENDAR = (*TIMERS, "ishowtts-watch.path", REGRESS, WATCH, BENCH, NOTIFY)


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with open_chat() as server:
        yield server


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
            notify={"webhook": chat.url, "command": ["tell-me"]},
        )
        box.write(
            "/usr/local/bin/tell-me", f"#!/bin/sh\ntr -d '\\n' >>{TOLD}; echo >>{TOLD}\n", 0o755
        )
        install(box)
        fault(box, "slow:0.05")
        box.systemctl("restart", "ishowtts-tts.service")
        box.systemctl("start", WATCH, check=False)
        assert "The new baseline is" in box.journal(WATCH), box.why(WATCH)
        yield box, daemon


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
    # Also where the box is off at that time; a monotonic one is not in TimersCalendar.
    monotonic = box.show(TIMERS[0], "TimersMonotonic")["TimersMonotonic"]
    assert "OnActiveUSec=30min" in monotonic
    for calendar in ("*-*-* 04:30", "Sun *-*-* 05:00"):
        assert box.exec("systemd-analyze", "calendar", calendar).returncode == 0


@contextlib.contextmanager
def soon(box: Box, timer: str, *lines: str) -> Iterator[None]:
    """The same timer with short intervals, as an administrator would set them."""
    drop_in = f"/etc/systemd/system/{timer}.d/test.conf"
    box.write(
        drop_in, "\n".join(["[Timer]", *lines, "RandomizedDelaySec=0", "AccuracySec=100ms\n"])
    )
    box.systemctl("daemon-reload")
    box.systemctl("restart", timer)
    try:
        yield
    finally:
        box.exec("rm", drop_in)
        box.systemctl("daemon-reload")
        box.systemctl("restart", timer)


EVERY_FEW_SECONDS = ("OnCalendar=", "OnCalendar=*:*:0/4")


def test_the_timer_runs_the_daily_look(kept: Kept) -> None:
    box, _ = kept
    before = len(past(box).runs)
    with soon(box, TIMERS[0], *EVERY_FEW_SECONDS):
        eventually(
            lambda: box.journal(REGRESS).count("No regression: RTF") >= 2,
            "the daily look has run twice",
            90,
            lambda: box.why(REGRESS),
        )
    eventually(lambda: box.state(REGRESS) == "inactive/dead", "the last one is through", 60)
    assert len(past(box).runs) >= before + 2
    assert box.show(REGRESS, "Result")["Result"] == "success"


def test_the_timer_runs_the_weekly_measurement(kept: Kept) -> None:
    box, _ = kept

    def weekly() -> list[Run]:
        return [run for run in past(box).runs if run.note == "weekly"]

    assert weekly() == []
    with soon(box, TIMERS[1], *EVERY_FEW_SECONDS):
        eventually(lambda: len(weekly()) >= 2, "it has run twice", 90, lambda: box.why(BENCH))
    eventually(lambda: box.state(BENCH) == "inactive/dead", "the last one is through", 60)
    assert {len(run.samples) for run in weekly()} == {6}
    told = envelope(box.ops("bench", "history", "--json", "-n", "500").stdout)["data"]["runs"]
    assert {run["id"] for run in told} >= {run.id for run in weekly()}
    assert box.show(BENCH, "Result")["Result"] == "success"


def test_the_timer_sees_what_no_path_shows(kept: Kept) -> None:
    """A change while the path unit does not look."""
    box, _ = kept
    before = len(past(box).baselines)
    box.systemctl("stop", "ishowtts-watch.path")
    try:
        box.write(CONFIG, box.read(CONFIG) + "# a remark\n")
        with soon(box, TIMERS[2], "OnActiveSec=", "OnActiveSec=1s"):
            eventually(
                lambda: len(past(box).baselines) == before + 1,
                "the timer has it validated",
                90,
                lambda: box.why(WATCH),
            )
    finally:
        box.systemctl("start", "ishowtts-watch.path")
    eventually(lambda: box.state(WATCH) == "inactive/dead", "it is through", 60)


@contextlib.contextmanager
def live_stream(daemon: Daemon) -> Iterator[list[int]]:
    """Four people write all the time: one is heard and others wait. Gives the answers' statuses."""
    stop = threading.Event()
    answers: list[int] = []

    def talk() -> None:
        while not stop.is_set():
            text = "somebody writes something in the chat and it is read aloud"
            answers.append(daemon.say(text).status_code)

    talkers = [threading.Thread(target=talk) for _ in range(4)]
    for talker in talkers:
        talker.start()
    try:
        eventually(lambda: len(answers) > 4, "the stream is on")
        yield answers
    finally:
        stop.set()
        for talker in talkers:
            talker.join()


def spoken(daemon: Daemon) -> int:
    """Everything that the daemon has been asked for."""
    answer = daemon.get("/metrics")
    assert answer is not None
    rows = re.findall(r"^ishowtts_requests_total\{[^}]*\} ([0-9.]+)$", answer.text, re.MULTILINE)
    assert rows
    return int(sum(map(float, rows)))


def test_a_live_stream_is_not_disturbed(kept: Kept) -> None:
    """By hand it is skipped; what a timer starts waits until the stream is over, and then runs."""
    box, daemon = kept
    runs = len(past(box).runs)
    before = spoken(daemon)
    with live_stream(daemon) as answers:
        for words in (("regress", "--when-idle"), ("bench", "run", "--when-idle")):
            assert "Skipped" in box.ops(*words).stdout
        with soon(box, TIMERS[0], *EVERY_FEW_SECONDS):
            eventually(lambda: box.state(REGRESS).startswith("activating"), "its time has come")
            heard = len(answers)
            eventually(lambda: len(answers) > heard + 40, "the stream goes on", 120)
            assert box.state(REGRESS).startswith("activating"), box.why(REGRESS)
            # Nobody but the four had a word: none of the requests was a measurement's.
            asked = spoken(daemon) - before
            assert asked <= len(answers) + 4
        assert len(past(box).runs) == runs
    assert set(answers) == {200}
    eventually(lambda: len(past(box).runs) > runs, "now it has run", 120, lambda: box.why(REGRESS))
    eventually(lambda: box.state(REGRESS) == "inactive/dead", "and is through", 60)


def test_a_measurement_gives_way_to_who_comes(kept: Kept) -> None:
    """Somebody speaks while it measures: it ends at once, and that is no failure."""
    box, daemon = kept
    runs = len(past(box).runs)
    before = spoken(daemon)
    running = box.spawn(PROGRAM, "bench", "run", "--when-idle", "-n", "2000")
    eventually(lambda: spoken(daemon) > before + 5, "it measures", 60, lambda: running.stderr)
    assert daemon.say("here I am").status_code == 200
    done = running.wait(60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to give way" in done.stdout
    assert len(past(box).runs) == runs, "half a run is none"


def test_a_good_change_becomes_the_new_baseline_by_itself(kept: Kept) -> None:
    """Nobody starts anything: the path unit sees the file."""
    box, daemon = kept
    before = len(past(box).baselines)
    box.write(CONFIG, box.read(CONFIG) + "default_voice: tone-b\n")
    eventually(
        lambda: len(past(box).baselines) == before + 1,
        "the changed configuration was validated",
        60,
        lambda: box.why(WATCH),
    )
    assert past(box).baselines[-1].reason == "the configuration changed"
    answer = daemon.get("/readyz")
    assert answer is not None and answer.json()["default_voice"] == "tone-b"


def test_a_change_during_a_validation_is_not_missed(kept: Kept) -> None:
    """A path unit does not look while what it started runs."""
    box, _ = kept
    eventually(lambda: box.state(WATCH) == "inactive/dead", "the last one is through", 60)
    seen = box.journal(WATCH).count("the configuration changed")
    box.write(CONFIG, box.read(CONFIG) + "# one\n")
    eventually(
        lambda: box.journal(WATCH).count("the configuration changed") > seen,
        "the first change is seen",
        60,
        lambda: box.why(WATCH),
    )
    box.write(CONFIG, box.read(CONFIG) + "# two\n")
    eventually(
        lambda: json.loads(box.read(VALIDATED))["config_text"] == box.read(CONFIG),
        "the second one is validated too",
        90,
        lambda: box.why(WATCH),
    )
    assert "it was changed again meanwhile" in box.journal(WATCH)
    eventually(lambda: box.state(WATCH) == "inactive/dead", "it is through", 60)


def test_an_update_of_l4t_is_validated_by_itself(kept: Kept) -> None:
    box, _ = kept
    before = len(past(box).baselines)
    release = box.read(RELEASE)
    assert "REVISION: 4.0" in release
    box.write(RELEASE, release.replace("REVISION: 4.0", "REVISION: 4.3"))
    eventually(
        lambda: len(past(box).baselines) == before + 1,
        "the new release was validated",
        90,
        lambda: box.why(WATCH),
    )
    reason = past(box).baselines[-1].reason
    assert reason == "L4T changed from R36.4 to R36.4.3"
    eventually(lambda: box.state(WATCH) == "inactive/dead", "it is through", 60)


def test_a_bad_change_is_rolled_back_and_told_once(kept: Kept, chat: Chat) -> None:
    box, daemon = kept
    good = box.read(CONFIG)
    baselines = len(past(box).baselines)
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
    assert len(past(box).baselines) == baselines
    rejected = list(box.path("/etc/ishowtts-ops").glob("config.yaml.rejected-*"))
    assert ["default_voice: nobody" in path.read_text() for path in rejected] == [True]
    # What it rolled back to is the good state: the next look finds nothing to do.
    box.systemctl("start", WATCH)
    assert "Nothing changed since the last validation" in box.journal(WATCH)[-400:]
    assert len(chat.of(WATCH)) == 1
    assert told_by_command(box).count(WATCH) == 1


def told_by_command(box: Box) -> list[str]:
    """The units that `notify.command` was told of."""
    if not box.path(TOLD).exists():
        return []
    return [json.loads(line)["unit"] for line in box.read(TOLD).splitlines()]


def test_a_regression_fails_its_unit_and_is_told_once(kept: Kept, chat: Chat) -> None:
    box, _ = kept

    def fails() -> bool:
        return box.systemctl("start", REGRESS, check=False).returncode != 0

    fault(box, "slow:0.15")
    box.systemctl("restart", "ishowtts-tts.service")
    try:
        for _ in range(3):
            # What is measured while others have the processors is excused, and measured again.
            eventually(fails, "the slow box is found", 120, lambda: box.why(REGRESS))
        eventually(lambda: len(chat.of(REGRESS)) == 1, "the chat was told", 30)
        notifier = f"ishowtts-notify@{REGRESS}.service"
        eventually(
            lambda: box.journal(notifier).count("Knew already: journal, webhook, command") == 2,
            "the notifier ran for each failure and told one of them",
            30,
            lambda: box.why(notifier),
        )
        assert len(chat.of(REGRESS)) == 1
        assert told_by_command(box).count(REGRESS) == 1
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
