"""The daemon's unit: how exposed systemd thinks it is, what it still can do, and SIGHUP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import CONFIG, DAEMON, Daemon, configure, fault

MOST_EXPOSURE = 2.5


@pytest.fixture(scope="module")
def running(base: Path) -> Iterator[tuple[Box, Daemon]]:
    with new_box(BOARD) as box:
        box.boot()
        daemon = configure(box)
        box.ops("install", "--yes")
        fault(box, "text")
        box.systemctl("restart", DAEMON)
        yield box, daemon


def test_it_is_not_very_exposed_and_the_gpu_is_not_hidden(running: tuple[Box, Daemon]) -> None:
    box, daemon = running
    table = box.exec("systemd-analyze", "security", "--no-pager", DAEMON).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", table)
    assert found, table
    assert float(found[1]) <= MOST_EXPOSURE, table
    shown = box.show(DAEMON, "PrivateDevices", "DevicePolicy", "DeviceAllow")
    assert shown["PrivateDevices"] == "no"
    assert daemon.say("It speaks all the same.").status_code == 200


def test_what_it_is_kept_from(running: tuple[Box, Daemon]) -> None:
    box, _ = running
    pid = box.show(DAEMON, "MainPID")["MainPID"]
    status = dict(
        line.split(":", 1) for line in box.exec("cat", f"/proc/{pid}/status").stdout.splitlines()
    )
    assert int(status["CapBnd"], 16) == 0 and int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert status["Uid"].split()[0] != "0"


def test_espeak_leaves_nothing_in_the_state_directory(running: tuple[Box, Daemon]) -> None:
    box, daemon = running
    answer = daemon.say("By the light voice.", model="espeak")
    if answer.status_code == 404:
        pytest.skip("espeak-ng is not in the base")
    assert answer.status_code == 200
    found = box.exec("find", "/var/lib/private/ishowtts-tts", "-name", "pulse*").stdout
    assert found == ""


def test_reload_takes_over_or_says_why_not(running: tuple[Box, Daemon]) -> None:
    box, daemon = running
    pid = box.show(DAEMON, "MainPID")["MainPID"]
    config = yaml.safe_load(box.read(CONFIG))
    before = box.read(CONFIG)
    config["daemon"]["max_text_chars"] = 10
    box.write(CONFIG, yaml.safe_dump(config))
    box.systemctl("reload", DAEMON)
    eventually(
        lambda: daemon.say("more than ten characters").status_code == 400,
        "the new limit holds",
        evidence=lambda: box.journal(DAEMON),
    )
    box.write(CONFIG, "daemon: {max_text_chars: 5000, nonsense: 1}\n")
    box.systemctl("reload", DAEMON)
    eventually(lambda: "reload refused" in box.journal(DAEMON), "it says why not")
    assert "nonsense" in box.journal(DAEMON)
    assert daemon.say("more than ten characters").status_code == 400, "the old one is kept"
    assert box.state(DAEMON) == "active/running"
    assert box.show(DAEMON, "MainPID")["MainPID"] == pid
    box.write(CONFIG, before)


def test_an_entry_of_the_journal_is_found_by_its_request(running: tuple[Box, Daemon]) -> None:
    box, daemon = running
    request = daemon.say("short").headers["x-request-id"]

    def entries() -> list[str]:
        shown = box.exec("journalctl", "--output=cat", f"--unit={DAEMON}", f"ISHOWTTS_ID={request}")
        return shown.stdout.splitlines()

    # The books are written just after the answer.
    eventually(lambda: bool(entries()), "the journal has it")
    found = entries()
    assert len(found) == 1
    assert found[0].startswith("spoken ") and "short" not in found[0].replace("short=", "")


def test_a_lost_device_is_a_restart_at_once(running: tuple[Box, Daemon]) -> None:
    box, daemon = running
    pid = box.show(DAEMON, "MainPID")["MainPID"]
    answer = daemon.say("fault:cuda")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    eventually(
        lambda: box.show(DAEMON, "MainPID")["MainPID"] not in ("0", pid) and daemon.ready(),
        "a new daemon speaks",
        evidence=lambda: box.why(DAEMON),
    )
    assert "status=75" in box.journal(DAEMON)
    metrics = daemon.get("/metrics")
    assert metrics is not None and 'ishowtts_restarts_total{cause="device"} 1.0' in metrics.text
