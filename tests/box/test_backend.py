"""systemd and a supervised backend together: warm before it is ready, watched, started again. The
backend is a stand-in that answers like iShowTTS's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import CONFIG, DAEMON, configure
from tests.support.ports import free_port
from tests.support.program import MOUNTS, PROGRAM, VENV

BACKEND = "ishowtts-backend.service"
STANDIN = f"{MOUNTS}/repository/tests/support/standin_backend.py"
DROP_INS = f"/etc/systemd/system/{BACKEND}.d"
START_SECONDS = 1


class Backend:
    """The box's backend, over HTTP: a box shares this machine's network."""

    def __init__(self, box: Box, port: int) -> None:
        self.box = box
        self.port = port
        self.told = ""

    def spoken(self) -> int | None:
        """How many texts it has spoken; None while nobody answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/standin", timeout=5, trust_env=False)
        except httpx.TransportError:
            return None
        return int(answer.json()["spoken"])

    def fault(self, name: str) -> None:
        httpx.post(
            f"http://127.0.0.1:{self.port}/standin",
            json={"fault": name},
            timeout=5,
            trust_env=False,
        ).raise_for_status()

    @property
    def pid(self) -> str:
        """The supervisor's."""
        return self.box.show(BACKEND, "MainPID")["MainPID"]

    @property
    def restarts(self) -> int:
        return int(self.box.show(BACKEND, "NRestarts")["NRestarts"])

    def back_again(self, old_pid: str) -> None:
        eventually(
            lambda: self.pid not in ("0", old_pid) and self.box.state(BACKEND) == "active/running",
            "a new backend is warm",
            evidence=lambda: self.box.why(BACKEND),
        )
        assert (self.spoken() or 0) >= 4, "active before its warm-up"


def install_units(box: Box, changes: int = 2) -> str:
    """The steps of install that this is about. It ends with 1, for doctor misses the others."""
    done = box.ops("install", "--yes", "--only", "units", "--only", "backend", check=False)
    assert f"Installed: {changes} changes made." in done.stdout, done.stdout + done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def backend(base: Path) -> Iterator[Backend]:
    with new_box(BOARD) as box:
        box.boot()
        port = free_port()
        box.exec("useradd", "--create-home", "streamer")
        box.exec("mkdir", "/opt/ishowtts")
        box.exec("chown", "streamer:", "/opt/ishowtts")
        command = [f"{VENV}/bin/python", STANDIN, "--port", str(port), "--warmup"]
        command += ["--start-seconds", str(START_SECONDS), "--on-term", "exit"]
        configure(
            box,
            measure={"calendar": False},
            backend={
                "command": command,
                "url": f"http://127.0.0.1:{port}",
                "environment": {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
                "health_interval": 0.5,
                "health_timeout": 1,
                "health_failures": 2,
                "canary_interval": 0.5,
                "canary_timeout": 2,
                "idle_seconds": 0.2,
                "stop_seconds": 3,
                "memory_limit_mb": 400,
                "memory_wait": 1,
            },
        )
        # As an administrator would: the tests need not wait the two seconds each time.
        box.write(f"{DROP_INS}/soon.conf", "[Service]\nRestartSec=0.1\n")
        told = install_units(box)
        made = Backend(box, port)
        made.told = told
        yield made


def test_install_waits_for_its_warm_up_and_says_so(backend: Backend) -> None:
    assert backend.box.state(BACKEND) == "active/running"
    assert "the backend and wait until it is warm, at most 1800 s" in backend.told
    assert "not healthy yet" in backend.told and "· ready" in backend.told, "in its own words"


def test_it_is_active_only_after_its_warm_up(backend: Backend) -> None:
    box = backend.box
    box.systemctl("restart", "--no-block", BACKEND)
    seen = []
    end = time.monotonic() + 30
    while "active" not in seen and time.monotonic() < end:
        shown = box.show(BACKEND, "ActiveState", "StatusText")
        seen.append(shown["ActiveState"])
        if shown["ActiveState"] == "activating":
            assert not shown["StatusText"].startswith("ready")
    assert "activating" in seen and seen[-1] == "active", box.why(BACKEND)
    assert (backend.spoken() or 0) >= 4
    journal = box.journal(BACKEND)
    assert "warm-up request=4/4" in journal
    # Its own lines are there as it wrote them, with the priority of lines that carry none.
    assert "\nstand-in for iShowTTS's backend pid=" in "\n" + journal
    assert "\nstand-in: this is its stderr" in "\n" + journal
    eventually(
        lambda: box.show(BACKEND, "StatusText")["StatusText"].startswith("ready; last real"),
        "real requests come",
    )


def test_it_runs_as_the_owner_of_the_checkout_in_its_folder(backend: Backend) -> None:
    box = backend.box
    shown = box.show(BACKEND, "User", "SupplementaryGroups", "NotifyAccess", "KillMode")
    assert shown["User"] == "streamer"
    assert "video" in shown["SupplementaryGroups"]
    pids = box.exec("pgrep", "--parent", backend.pid).stdout.split()
    assert len(pids) == 1
    assert box.exec("readlink", f"/proc/{pids[0]}/cwd").stdout.strip() == "/opt/ishowtts"
    environ = box.exec("cat", f"/proc/{pids[0]}/environ").stdout
    assert "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python" in environ
    assert "NOTIFY_SOCKET" not in environ


def test_install_finds_nothing_more_to_do_and_systemd_nothing_to_say(backend: Backend) -> None:
    box = backend.box
    chosen = ("--only", "units", "--only", "backend")
    plan = box.ops("install", "--dry-run", "--json", *chosen).stdout
    assert json.loads(plan)["data"]["plan"] == []
    assert box.systemctl("is-enabled", BACKEND).stdout.strip() == "enabled"
    verified = box.exec("systemd-analyze", "verify", f"/etc/systemd/system/{BACKEND}")
    assert (verified.stdout, verified.stderr) == ("", "")


@pytest.mark.parametrize("victim", ["supervisor", "backend"])
def test_killed_it_is_started_again(backend: Backend, victim: str) -> None:
    box, pid, restarts = backend.box, backend.pid, backend.restarts
    child = box.exec("pgrep", "--parent", pid).stdout.strip()
    box.exec("kill", "-KILL", pid if victim == "supervisor" else child)
    backend.back_again(pid)
    assert backend.restarts == restarts + 1
    assert box.exec("test", "-e", f"/proc/{child}", check=False).returncode != 0
    if victim == "backend":
        assert "the command ended by itself code=137 signal=SIGKILL" in box.journal(BACKEND)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lie", "though it calls itself healthy: POST "),
        ("hang", "its health failed 2 times in a row: GET "),
    ],
)
def test_what_is_broken_is_started_again_with_its_reason_in_the_journal(
    backend: Backend, fault: str, reason: str
) -> None:
    box, pid, restarts = backend.box, backend.pid, backend.restarts
    backend.fault(fault)
    backend.back_again(pid)
    assert backend.restarts == restarts + 1
    errors = box.exec(
        "journalctl", "--output=cat", "--priority=err", f"--unit={BACKEND}", f"_PID={pid}"
    ).stdout
    assert [reason in line for line in errors.splitlines()] == [True], errors
    assert errors.startswith("broken, to be started again: ")
    assert "known of it: pid=" in box.journal(BACKEND)


def test_too_much_memory_is_a_planned_restart_and_no_failure(backend: Backend) -> None:
    box, pid, restarts = backend.box, backend.pid, backend.restarts
    began = box.exec("date", "+%s").stdout.strip()
    backend.fault("leak:200")
    backend.back_again(pid)
    assert backend.restarts == restarts + 1
    since = ("journalctl", "--output=cat", f"--unit={BACKEND}", f"--since=@{began}")
    journal = box.exec(*since).stdout
    assert "planned restart: it uses " in journal
    assert "Deactivated successfully" in journal
    assert "Failed with result" not in journal


def test_a_supervisor_that_hangs_itself_is_ended_by_systemd(backend: Backend) -> None:
    """WatchdogSec= as rendered is long; a drop-in makes the test short."""
    box = backend.box
    box.write(f"{DROP_INS}/watchdog.conf", "[Service]\nWatchdogSec=2\nTimeoutStopSec=1\n")
    box.systemctl("daemon-reload")
    box.systemctl("restart", BACKEND)
    pid = backend.pid
    box.exec("kill", "-STOP", pid)
    backend.back_again(pid)
    assert "Failed with result 'watchdog'" in box.journal(BACKEND)
    box.exec("rm", f"{DROP_INS}/watchdog.conf")
    box.systemctl("daemon-reload")


def test_told_to_stop_it_ends_well_and_leaves_nothing(backend: Backend) -> None:
    box = backend.box
    box.systemctl("stop", BACKEND)
    assert box.show(BACKEND, "ActiveState", "Result") == {
        "ActiveState": "inactive",
        "Result": "success",
    }
    assert "stand-in: got SIGTERM" in box.journal(BACKEND)
    assert backend.spoken() is None
    assert box.exec("pgrep", "--full", STANDIN, check=False).returncode == 1
    box.systemctl("start", BACKEND)
    assert backend.spoken() is not None


def test_one_that_does_not_come_up_is_a_sentence_with_its_last_lines(backend: Backend) -> None:
    box = backend.box
    config = box.read(CONFIG)
    try:
        box.write(CONFIG, config.replace("--start-seconds", "--no-such-option"))
        done = box.ops("install", "--yes", "--only", "units", "--only", "backend", check=False)
        assert done.returncode == 1
        assert "The backend did not start. Its last lines:" in done.stderr
        assert "no-such-option" in done.stderr and f"journalctl -u {BACKEND}" in done.stderr
    finally:
        box.write(CONFIG, config)
        install_units(box)


def test_the_backend_alone(backend: Backend) -> None:
    """`daemon.enabled: false`: our daemon is not installed, and the box is in order without it."""
    box = backend.box
    config = yaml.safe_load(box.read(CONFIG))
    config["daemon"]["enabled"] = False
    box.write(CONFIG, yaml.safe_dump(config))
    done = box.ops("install", "--yes", "--only", "units", "--only", "daemon", check=False)
    assert "Installed: 1 changes made." in done.stdout, done.stdout + done.stderr
    units = box.path("/etc/systemd/system")
    assert not (units / DAEMON).exists() and (units / BACKEND).exists()
    assert box.show(DAEMON, "LoadState")["LoadState"] == "not-found"
    assert box.state(BACKEND) == "active/running" and backend.spoken() is not None
    rows = json.loads(box.ops("doctor", "--json", check=False).stdout)["data"]["findings"]
    assert [row for row in rows if row["check"].startswith("daemon-")] == []
    shown = box.ops("status", check=False).stdout
    assert " daemon " not in shown
    config["backend"]["command"] = None
    box.write(CONFIG, yaml.safe_dump(config))
    refused = box.ops("install", "--dry-run", check=False)
    assert refused.returncode == 2 and "nothing would speak" in refused.stderr


def test_without_a_command_the_unit_goes(backend: Backend) -> None:
    box = backend.box
    box.exec("rm", "-r", DROP_INS)
    configure(box, measure={"calendar": False})
    install_units(box, changes=1)
    assert not box.path(f"/etc/systemd/system/{BACKEND}").exists()
    assert box.show(BACKEND, "LoadState", "ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
    assert backend.spoken() is None
    assert box.exec(PROGRAM, "supervise", check=False).returncode == 2
