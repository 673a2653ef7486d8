"""Long-running services under the stand-in systemctl: a real program that speaks sd_notify."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ishowtts_ops.sim.tree import build_box
from tests.service.sim.sim_box import SimBox, eventually

PROGRAM = """\
#!{python}
import os, signal, socket, sys, time

def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])

state = os.environ["STATE_DIRECTORY"]
def has(flag):
    return os.path.exists(f"{{state}}/{{flag}}")

def done(*_):
    print("bye", flush=True)
    sys.exit(0)

if not has("deaf"):
    signal.signal(signal.SIGTERM, done)
print("argv", *sys.argv[1:], flush=True)
print("env", os.environ.get("HOME"), os.environ.get("COLOUR"), os.getcwd(), flush=True)
say("STATUS=warming up")
if has("slow"):
    say("EXTEND_TIMEOUT_USEC=2000000")
if has("broken"):
    sys.exit(int(open(f"{{state}}/broken").read()))
for _ in range(8):
    if has("slow"):
        say("EXTEND_TIMEOUT_USEC=2000000")
    time.sleep(0.2 if has("slow") else 0.01)
if has("mute"):
    time.sleep(60)
say("READY=1\\nSTATUS=listening")
while not has("quit"):
    if not has("hang"):
        say("WATCHDOG=1")
    time.sleep(0.05)
"""

UNIT = """\
[Unit]
Description=A talking service
After=nvpmodel.service
StartLimitIntervalSec=30
StartLimitBurst=4

[Service]
Type=notify
ExecStart=/opt/talk/talk --conf=/etc/nv_tegra_release /etc/nvpmodel.conf /not/here
Environment=COLOUR=blue
StateDirectory=talk
WatchdogSec=1
TimeoutStartSec=10
TimeoutStopSec=500ms
Restart=always
RestartSec=50ms
RestartPreventExitStatus=78

[Install]
WantedBy=multi-user.target
"""

STATE = "var/lib/talk"


def install(box: SimBox, text: str = UNIT) -> None:
    box.put("opt/talk/talk", PROGRAM.format(python=sys.executable), mode=0o755)
    box.unit("talk.service", text)


def flag(box: SimBox, name: str, text: str = "") -> None:
    box.put(f"{STATE}/{name}", text)


def pid(box: SimBox) -> int:
    return int(box.prop("talk.service", "MainPID"))


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def log(box: SimBox) -> list[str]:
    return box.lines("journalctl", "-u", "talk", "-o", "cat", "--no-pager")


def test_start_waits_for_ready_and_stop_leaves_nothing(serving: SimBox) -> None:
    install(serving)
    assert serving.systemctl("start", "talk").returncode == 0
    shown = serving.systemctl(
        "show", "talk", "-p", "ActiveState,SubState,Result,NRestarts,StatusText"
    ).stdout
    assert set(shown.splitlines()) == {
        "ActiveState=active",
        "SubState=running",
        "Result=success",
        "NRestarts=0",
        "StatusText=listening",
    }
    main = pid(serving)
    assert alive(main)
    assert int(serving.prop("talk.service", "ExecMainStartTimestampMonotonic")) > 0
    status = serving.systemctl("status", "talk")
    assert status.returncode == 0
    assert 'Status: "listening"' in status.stdout
    lines = log(serving)
    assert lines.index("Starting A talking service...") < lines.index("Started A talking service.")
    assert serving.systemctl("stop", "talk").returncode == 0
    assert not alive(main)
    assert serving.prop("talk.service", "ActiveState") == "inactive"
    assert log(serving)[-3:] == [
        "Stopping A talking service...",
        "bye",
        "Stopped A talking service.",
    ]
    assert list((serving.root / "run/ishowtts-sim/notify").iterdir()) == []


def test_arguments_and_environment_are_mapped_into_the_box(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    root = serving.root
    conf = root / "etc/nvpmodel/nvpmodel_p3701_0000.conf"
    assert f"argv --conf={root}/etc/nv_tegra_release {conf} /not/here" in log(serving)
    # System services have no HOME of their own.
    assert f"env None blue {root}" in log(serving)


def test_watchdog_kills_and_restarts(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    first = pid(serving)
    flag(serving, "hang")
    eventually(lambda: "Watchdog timeout" in "\n".join(log(serving)))
    (serving.root / STATE / "hang").unlink()
    eventually(lambda: serving.prop("talk.service", "NRestarts") != "0")
    eventually(lambda: serving.prop("talk.service", "ActiveState") == "active")
    assert pid(serving) not in (0, first)
    assert not alive(first)
    text = "\n".join(log(serving))
    assert "talk.service: Watchdog timeout (limit 1s)!" in text
    assert "with signal SIGABRT." in text
    assert "code=dumped, status=6/ABRT" in text
    assert "talk.service: Failed with result 'watchdog'." in text
    assert "Scheduled restart job, restart counter is at 1." in text


def test_a_fed_watchdog_leaves_the_service_alone(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    first = pid(serving)
    time.sleep(1.6)
    assert (pid(serving), serving.prop("talk.service", "NRestarts")) == (first, "0")


def test_a_start_can_be_watched_joined_and_given_up(serving: SimBox) -> None:
    install(serving, UNIT.replace("TimeoutStartSec=10", "TimeoutStartSec=60"))
    flag(serving, "mute")
    starts = [
        subprocess.Popen(
            [serving.tool("systemctl"), "start", "talk"],
            env=serving.env(),
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    eventually(lambda: serving.prop("talk.service", "StatusText") == "warming up")
    assert serving.prop("talk.service", "ActiveState") == "activating"
    assert serving.systemctl("is-active", "talk").returncode == 3
    assert all(process.poll() is None for process in starts)
    assert serving.systemctl("stop", "talk").returncode == 0
    assert [process.wait(10) for process in starts] == [1, 1]
    assert serving.prop("talk.service", "ActiveState") == "inactive"
    assert sum(line.startswith("Starting") for line in log(serving)) == 1


def test_kill_nine_is_survived(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    first = pid(serving)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: serving.prop("talk.service", "NRestarts") == "1")
    eventually(lambda: serving.prop("talk.service", "ActiveState") == "active")
    assert pid(serving) != first
    assert "code=killed, status=9/KILL" in "\n".join(log(serving))


def test_warm_up_may_ask_for_more_time(serving: SimBox) -> None:
    install(serving, UNIT.replace("TimeoutStartSec=10", "TimeoutStartSec=1"))
    flag(serving, "slow")
    assert serving.systemctl("start", "talk").returncode == 0
    assert "timed out" not in "\n".join(log(serving))


def test_a_start_without_ready_times_out(serving: SimBox) -> None:
    text = UNIT.replace("Restart=always", "Restart=no")
    install(serving, text.replace("TimeoutStartSec=10", "TimeoutStartSec=500ms"))
    flag(serving, "mute")
    done = serving.systemctl("start", "talk")
    assert done.returncode == 1
    assert "a timeout was exceeded" in done.stderr
    assert serving.prop("talk.service", "Result") == "timeout"
    assert "start operation timed out. Terminating." in "\n".join(log(serving))


def test_a_status_that_prevents_restarts(serving: SimBox) -> None:
    install(serving)
    flag(serving, "broken", "78")
    assert serving.systemctl("start", "talk").returncode == 1
    assert serving.prop("talk.service", "ActiveState") == "failed"
    assert serving.prop("talk.service", "ExecMainStatus") == "78"
    assert "code=exited, status=78/CONFIG" in "\n".join(log(serving))


def test_leaving_before_ready_is_a_protocol_error(serving: SimBox) -> None:
    install(serving, UNIT.replace("Restart=always", "Restart=no"))
    flag(serving, "broken", "0")
    assert serving.systemctl("start", "talk").returncode == 1
    assert serving.prop("talk.service", "Result") == "protocol"


def test_start_limit(serving: SimBox) -> None:
    install(serving)
    flag(serving, "broken", "3")
    assert serving.systemctl("start", "talk").returncode == 1
    eventually(lambda: serving.prop("talk.service", "Result") == "start-limit-hit")
    assert serving.prop("talk.service", "ActiveState") == "failed"
    assert sum(line.startswith("Starting") for line in log(serving)) == 4
    (serving.root / STATE / "broken").unlink()
    assert serving.systemctl("start", "talk").returncode == 1
    serving.systemctl("reset-failed", "talk")
    assert serving.systemctl("start", "talk").returncode == 0


def test_reset_failed_forgets_the_starts_of_a_unit_that_is_up_too(serving: SimBox) -> None:
    """As systemd's unit_reset_failed does; box/test_harness.py sees it there."""
    install(serving, UNIT.replace("IntervalSec=30", "IntervalSec=600"))
    for _ in range(6):
        assert serving.systemctl("restart", "talk").returncode == 0
        serving.systemctl("reset-failed", "talk")
    codes = [serving.systemctl("restart", "talk").returncode for _ in range(5)]
    assert codes == [0, 0, 0, 0, 1], "without it the limit of four holds"
    assert serving.prop("talk.service", "Result") == "start-limit-hit"


def test_a_service_that_will_not_stop_is_killed(serving: SimBox) -> None:
    install(serving)
    flag(serving, "deaf")
    # The default action of SIGTERM would end it, so it is stopped in a way it cannot see.
    serving.unit(
        "talk.service", UNIT.replace("TimeoutStopSec", "KillSignal=SIGCONT\nTimeoutStopSec")
    )
    serving.systemctl("start", "talk")
    main = pid(serving)
    assert serving.systemctl("stop", "talk").returncode == 0
    assert not alive(main)
    assert "timed out. Killing." in "\n".join(log(serving))


def test_restart_gives_a_new_process(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    first = pid(serving)
    assert serving.systemctl("restart", "talk").returncode == 0
    assert pid(serving) != first
    assert serving.prop("talk.service", "NRestarts") == "0"
    assert serving.systemctl("start", "talk").returncode == 0
    assert sum(line.startswith("Started") for line in log(serving)) == 2


def test_a_clean_end_with_restart_on_failure_stays_down(serving: SimBox) -> None:
    install(serving, UNIT.replace("Restart=always", "Restart=on-failure"))
    serving.systemctl("start", "talk")
    flag(serving, "quit")
    eventually(lambda: serving.prop("talk.service", "ActiveState") == "inactive")
    assert serving.prop("talk.service", "Result") == "success"


def test_a_supervisor_that_was_killed_shows_as_a_failed_unit(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "talk")
    main = pid(serving)
    state = serving.read("run/ishowtts-sim/units/talk.service.json")
    supervisor = int(state.split('"supervisor_pid": ')[1].split(",")[0])
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: serving.systemctl("is-active", "talk").stdout == "failed\n")
    os.kill(main, signal.SIGKILL)


def test_simple_services_are_active_at_once(serving: SimBox) -> None:
    serving.unit("plain.service", "[Service]\nExecStart=/bin/sleep 60\n")
    assert serving.systemctl("start", "plain").returncode == 0
    main = int(serving.prop("plain.service", "MainPID"))
    assert alive(main)
    assert serving.systemctl("stop", "plain").returncode == 0
    assert not alive(main)


def test_a_program_that_is_not_there(serving: SimBox) -> None:
    serving.unit("ghost.service", "[Service]\nType=notify\nExecStart=/opt/none --x\n")
    assert serving.systemctl("start", "ghost").returncode == 1
    assert serving.prop("ghost.service", "ExecMainStatus") == "203"


@pytest.mark.parametrize("length", [150])
def test_a_root_longer_than_a_socket_address(fast_path: Path, length: int) -> None:
    root = fast_path / ("x" * length) / "box"
    build_box(root, "agx-orin-64")
    box = SimBox(root)
    install(box)
    try:
        assert box.systemctl("start", "talk").returncode == 0
        assert box.prop("talk.service", "StatusText") == "listening"
    finally:
        box.systemctl("stop", "talk")
