"""The unit files as systemd itself judges them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support import program
from tests.support.container import Box, new_box
from tests.support.installed import CLOCKS, DAEMON, GUARD, GUARD_TIMER, configure, install
from tests.support.ports import free_port

TEMPLATES = sorted(path.name for path in (program.REPOSITORY / "units").glob("ishowtts-*"))
"""Every unit there is: a new one is judged as soon as its file is there."""

BACKEND = "ishowtts-backend.service"
FIRST_BOOT = "ishowtts-firstboot.service"
RENDER = """
import sys
from ishowtts_ops.config import Settings
from ishowtts_ops.host import Host
from ishowtts_ops.provision.units import rendered_unit
sys.stdout.write(rendered_unit(Host.at("/"), Settings(), sys.argv[1]))
"""

NOT_EVERYWHERE = {
    "TimeoutStartFailureMode", "ProtectProc", "LoadCredential", "OnSuccess", "Upholds",
    "ExitType", "RestartSteps", "RestartMaxDelaySec", "RestartMode",
}  # fmt: skip
"""Settings that systemd 245 or 249, those of JetPack 5 and 6, do not know and silently ignore."""


@pytest.fixture(scope="module")
def installed(base: Path) -> Iterator[Box]:
    """With every part that the configuration can ask for, so that every unit is there."""
    with new_box(BOARD) as box:
        box.boot()
        port = free_port()
        configure(
            box,
            measure={"calendar": True},
            backend={
                "command": [f"{program.VENV}/bin/python", "-m", "http.server", str(port)],
                "directory": "/srv",
                "preset": "none",
                "url": f"http://127.0.0.1:{port}",
                "health": ["/"],
            },
        )
        install(box)
        # Only a box that is prepared while it does not run keeps this one.
        text = box.exec(f"{program.VENV}/bin/python", "-c", RENDER, FIRST_BOOT).stdout
        box.write(f"/etc/systemd/system/{FIRST_BOOT}", text)
        box.systemctl("daemon-reload")
        yield box


@pytest.mark.parametrize("unit", TEMPLATES)
def test_verify_has_nothing_to_say(installed: Box, unit: str) -> None:
    """`systemd-analyze verify` ends with 0 also after `Unknown key … ignoring`: its words count."""
    assert installed.path(f"/etc/systemd/system/{unit}").is_file(), "install left it out"
    done = installed.exec("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
    assert done.stderr == ""
    assert done.stdout == ""


def test_verify_sees_a_bad_unit(installed: Box) -> None:
    """The judge itself: it must not be silent about everything."""
    good = installed.read(f"/etc/systemd/system/{DAEMON}")
    installed.write("/root/bad.service", good.replace("[Service]", "[Service]\nNoSuchKey=1"))
    assert "NoSuchKey" in installed.exec("systemd-analyze", "verify", "/root/bad.service").stderr


@pytest.mark.parametrize("unit", [name for name in TEMPLATES if name.endswith(".service")])
def test_what_units_run_exists(installed: Box, unit: str) -> None:
    """Verb and options of each ExecStart= are known to the program."""
    text = installed.read(f"/etc/systemd/system/{unit}")
    words = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()
    assert words[0] == f"ExecStart={program.PROGRAM}"
    done = installed.ops(*words[1:], "--help", check=False)
    assert done.returncode == 0, done.stderr
    assert f"ishowtts-ops {words[1]}" in done.stdout


def test_no_cycle_and_no_word_of_systemd_about_our_units(installed: Box) -> None:
    done = installed.exec("systemd-analyze", "verify", "--man=no", "default.target", *TEMPLATES)
    assert "cycle" not in done.stderr
    installed.reboot()
    manager = installed.exec("journalctl", "--boot=0", "--output=cat", "_PID=1").stdout
    complaints = [
        line
        for line in manager.splitlines()
        if re.search(r"cycle|[Uu]nknown (key|lvalue|section)|ignoring|Failed to", line)
        and "ishowtts" in line
    ]
    assert complaints == []
    assert installed.systemctl("is-system-running").stdout.strip() == "running"


def test_all_are_enabled_and_up(installed: Box) -> None:
    for unit in (CLOCKS, DAEMON, GUARD_TIMER):
        assert installed.systemctl("is-enabled", unit).stdout.strip() == "enabled"
    installed.wait_for(BACKEND, "active/running")
    assert installed.state(CLOCKS) == "active/exited"
    assert installed.state(DAEMON) == "active/running"
    assert installed.state(GUARD_TIMER) == "active/waiting"
    assert installed.show(GUARD, "Result")["Result"] == "success"


@pytest.mark.parametrize("unit", TEMPLATES)
def test_only_settings_that_every_jetpack_knows(installed: Box, unit: str) -> None:
    text = installed.read(f"/etc/systemd/system/{unit}")
    keys = set(re.findall(r"^([A-Za-z]+)=", text, re.MULTILINE))
    assert keys
    assert keys & NOT_EVERYWHERE == set()
    assert re.findall(r"@[a-z_]+@", text) == [], "a value of the template was not filled in"
    before_service = text.partition("[Service]")[0]
    assert text.count("StartLimit") == before_service.count("StartLimit")


def test_the_daemon_has_no_rights_to_spare(installed: Box) -> None:
    shown = installed.show(
        DAEMON, "MainPID", "NoNewPrivileges", "ProtectSystem", "CapabilityBoundingSet"
    )
    pid = shown["MainPID"]
    status = installed.exec("cat", f"/proc/{pid}/status").stdout
    uids = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    assert uids is not None and int(uids[1]) >= 61184, "it is not a dynamic user"
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert shown["NoNewPrivileges"] == "yes"
    assert shown["ProtectSystem"] == "strict"
    assert shown["CapabilityBoundingSet"] == ""
    # It needs the GPU, so it is in the groups that own its device nodes, and sees the devices.
    groups = re.search(r"^Groups:\s*(.*)$", status, re.MULTILINE)
    names = installed.exec("getent", "group", "video", "render", check=False).stdout
    assert "video" in names
    wanted = {line.split(":")[2] for line in names.splitlines()}
    assert groups is not None and wanted <= set(groups[1].split())
    assert installed.show(DAEMON, "PrivateDevices")["PrivateDevices"] == "no"
