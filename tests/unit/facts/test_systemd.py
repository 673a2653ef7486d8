from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts.systemd import (
    about_units,
    complaints,
    default_target,
    parse_failed,
    parse_show,
    parse_version,
    read_systemd,
    watchdog_kills,
)
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

SHOW = """\
NRestarts=4
Id=ishowtts-tts.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
Result=watchdog
UnitFileState=enabled
MainPID=0
ExecMainStatus=6
StatusText=warming up: voice 2 of 3
NeedDaemonReload=yes
FragmentPath=/etc/systemd/system/ishowtts-tts.service
DropInPaths=/etc/systemd/system/ishowtts-tts.service.d/10-gpu.conf

Id=gone.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
"""


def test_units_are_told_apart() -> None:
    units = parse_show(SHOW)
    unit = units["ishowtts-tts.service"]
    assert (unit.active, unit.sub, unit.result) == ("activating", "auto-restart", "watchdog")
    assert (unit.restarts, unit.exit_status, unit.pid) == (4, 6, 0)
    assert unit.status == "warming up: voice 2 of 3"
    assert unit.stale and unit.installed and not unit.running
    assert unit.drop_ins == ("/etc/systemd/system/ishowtts-tts.service.d/10-gpu.conf",)
    assert not units["gone.service"].installed


def test_a_status_text_may_hold_an_equals_sign() -> None:
    text = "Id=a.service\nLoadState=loaded\nStatusText=nfe=7 voice=b\n"
    assert parse_show(text)["a.service"].status == "nfe=7 voice=b"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("systemd 245 (245.4-4ubuntu3.23)\n+PAM +AUDIT\n", 245),
        ("systemd 249 (249.11-0ubuntu3.12)\n", 249),
        ("systemd 255 (255.4-1ubuntu8)\n", 255),
    ],
)
def test_versions_of_the_jetpacks(text: str, version: int) -> None:
    assert parse_version(text) == version


def test_failed_units() -> None:
    text = "nvpmodel.service  loaded failed failed nvpmodel service\n"
    text += "● jtop.service    loaded failed failed jtop service\n"
    text += "fine.service      loaded active running A fine service\n"
    assert parse_failed(text) == ("nvpmodel.service", "jtop.service")


def test_watchdog_kills_are_counted() -> None:
    line = "ishowtts-tts.service: Watchdog timeout (limit 30s)!\n"
    journal = (
        f"start\n{line}ishowtts-tts.service: Killing process 812 (python) with signal SIGABRT."
    )
    assert watchdog_kills(journal + f"\n{line}") == 2
    assert watchdog_kills("the watchdog is fed\n") == 0


def test_verify_speaks_on_stderr_and_of_other_units_too() -> None:
    stderr = (
        "/etc/systemd/system/ishowtts-tts.service:14: Unknown key name 'RestartSteps' in section"
        " 'Service', ignoring.\n"
        "/lib/systemd/system/plymouth-start.service:17: Unit configured to use KillMode=none.\n"
        "multi-user.target: Found ordering cycle on ishowtts-clocks.service/start\n"
    )
    lines = about_units(stderr, ["ishowtts-tts.service"])
    assert len(lines) == 2
    assert "RestartSteps" in lines[0]
    assert "ordering cycle" in lines[1]


def test_the_default_target_is_read_off_its_link(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    assert isinstance(default_target(host), Unknown)
    folder = tmp_path / "lib/systemd/system"
    folder.mkdir(parents=True)
    (folder / "default.target").symlink_to("graphical.target")
    assert default_target(host) == "graphical.target"
    own = tmp_path / "etc/systemd/system"
    own.mkdir(parents=True)
    (own / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    assert default_target(host) == "multi-user.target"


def test_an_offline_box_has_no_units_to_ask_about(tmp_path: Path) -> None:
    systemd = read_systemd(Host.at(tmp_path), ["ishowtts-tts.service"])
    assert isinstance(systemd.units, Unknown)
    assert "offline" in systemd.units.reason
    assert isinstance(systemd.failed, Unknown)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_real_systemd_finds_a_misspelt_key(tmp_path: Path) -> None:
    unit = tmp_path / "probe.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nRestartSpets=3\n")
    found = complaints(Host.at("/"), [str(unit)])
    assert not isinstance(found, Unknown)
    assert any("RestartSpets" in line for line in found)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert complaints(Host.at("/"), [str(unit)]) == ()


@given(st.text())
def test_garbage_never_raises_and_is_never_a_running_unit(text: str) -> None:
    assert all(unit.name for unit in parse_show(text).values())
    parse_failed(text)
    parse_version(text)
    watchdog_kills(text)
    about_units(text, ["a.service"])


@given(st.integers(0, len(SHOW)))
def test_a_truncated_answer_is_no_running_unit(end: int) -> None:
    for unit in parse_show(SHOW[:end]).values():
        assert not unit.running
