"""`power status`, `lock`, `restore` and `guard` as they are typed, on simulated boxes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ishowtts_ops.cli.app import run
from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.facts.nvpmodel import STATUS_PATH
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision.install import LOCK_PATH
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.steps import LEDGER_PATH
from tests.support.simboxes import sim_box

NANO = "orin-nano-super"
AGX = "agx-orin-64"
RELEASES = ("35.3.1", "36.4.3", "39.2.1")
USED = "/sys/kernel/ishowtts-sim/gpu_used"

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """(exit code, stdout, stderr) of a verb on a box."""

    def verb(host: Host, *argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([*argv, "--root", str(host.root)])
        told = capsys.readouterr()
        # Lines are folded where the terminal is narrow.
        return code, " ".join(told.out.split()), " ".join(told.err.split())

    return verb


def configured(host: Host, **power: object) -> None:
    host.write(CONFIG_PATH, yaml.safe_dump({"power": power, "engine": {"kind": "tone"}}))


def data(said: str) -> dict[str, Any]:
    told = json.loads(said)
    assert told["version"] == 1
    found: dict[str, Any] = told["data"]
    return found


# ---- lock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("l4t", RELEASES)
def test_a_mode_for_the_moment(say: Say, tmp_path: Path, l4t: str) -> None:
    """It is set, and the note says who takes it back and how it would stay."""
    host = sim_box(tmp_path, f"{AGX}@{l4t}")
    configured(host)
    host.write("/etc/systemd/system/ishowtts-guard.timer", "[Timer]\n")
    code, out, err = say(host, "power", "lock", "--mode", "30W")
    assert code == 0
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert out.startswith("MODE_30W; CPU locked at") and "GPU locked at 612 MHz" in out
    assert "The configuration asks for `max`, which the guard brings back within 60 s" in err
    assert "set power.mode to keep this one" in err
    # What the note says is so.
    host.write_sysfs(USED, "0\n")
    code, out, _ = say(host, "power", "guard")
    assert (code, out.split(".")[0]) == (0, "Clock lock: restored")
    assert "MODE_30W" in out
    assert host.read_bytes(STATUS_PATH) == b"pmode:0000"


def test_the_note_is_for_people_and_only_where_it_is_true(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host)
    assert "guard" not in say(host, "power", "lock", "--mode", "15W")[2], "there is no guard"
    host.write("/etc/systemd/system/ishowtts-guard.timer", "[Timer]\n")
    assert "guard" not in say(host, "power", "lock")[2], "nothing else is asked for"
    assert "guard" not in say(host, "power", "lock", "--mode", "max")[2]
    code, out, err = say(host, "power", "lock", "--mode", "25W", "--json")
    assert code == 0 and "guard" not in err + out
    assert data(out)["mode"] == "25W"
    configured(host, mode="15W")
    assert "asks for `15W`" in say(host, "power", "lock", "--mode", "25W")[2]


@pytest.mark.parametrize(("board", "mode"), [(AGX, "30W"), (NANO, "15W"), (NANO, "MODE_25W")])
def test_a_configured_mode_stays(say: Say, tmp_path: Path, board: str, mode: str) -> None:
    """A power budget: lock, status, guard and doctor judge by it."""
    host = sim_box(tmp_path, board)
    configured(host, mode=mode)
    assert say(host, "power", "lock")[0] == 0
    before = host.read_bytes(STATUS_PATH)
    assert say(host, "power", "status")[0] == 0
    assert say(host, "power", "guard")[1].startswith("Clock lock: held")
    code, out, _ = say(host, "doctor", "power", "clocks", "--json")
    assert code == 0, out
    assert data(out)["checks"] == {
        name: "ok" for name in data(out)["checks"] if name.startswith(("power-", "clocks-"))
    }
    assert host.read_bytes(STATUS_PATH) == before


def test_a_policy_that_leaves_all_alone(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host, mode="leave", lock_clocks=False)
    assert say(host, "power", "status")[0] == 0
    assert say(host, "power", "guard")[1].startswith("Clock lock: off")
    assert say(host, "doctor", "power", "clocks")[0] == 0
    code, out, err = say(host, "power", "lock")
    assert code == 0 and "CPU 730 to" in out
    assert "left alone: the configuration says power.lock_clocks: false" in err


def test_a_mode_that_does_not_exist_changes_nothing(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host)
    code, _, err = say(host, "power", "lock", "--mode", "TURBO")
    assert code == 2
    assert "TURBO" in err and "MAXN_SUPER (2)" in err
    assert not host.exists(LEDGER_PATH), "nothing was done, so nothing is to be undone"


def test_a_mode_that_takes_a_reboot_is_staged_and_asked_for(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    configured(host)
    code, out, _ = say(host, "power", "lock")
    assert code == 0
    assert out.startswith("MODE_30W (MAXN after a reboot); CPU locked")
    asked = out.split("MAXN is staged and needs one reboot: ")[1]
    assert not host.exists("/run/reboot-requested")
    # As it is copied: it reboots this box, which is none of the machine's own business.
    assert asked == f"ISHOWTTS_BOX_ROOT={host.root} {host.root}/usr/bin/systemctl reboot"
    subprocess.run(asked, shell=True, check=True, timeout=20, capture_output=True)
    assert host.exists("/run/reboot-requested")
    code, out, _ = say(host, "power", "status")
    assert code == 1 and "staged: MODE_30W is in force until the next reboot" in out


def test_a_damaged_record_stops_a_person_and_no_boot(say: Say, tmp_path: Path) -> None:
    """Only uninstall needs what was there before; a box that boots needs its clocks."""
    host = sim_box(tmp_path, NANO)
    configured(host)
    host.write(LEDGER_PATH, "{")
    code, _, err = say(host, "power", "lock")
    assert code == 1 and f"{LEDGER_PATH} is damaged" in err
    assert say(host, "power", "status")[0] == 1, "nothing was done"
    code, out, err = say(host, "power", "lock", "--boot")
    assert code == 0 and out.startswith("MAXN_SUPER; CPU locked at 1728 MHz")
    assert f"{LEDGER_PATH} is damaged" in err
    assert host.read_text(LEDGER_PATH) == "{", "it is kept for whoever can mend it"


# ---- restore ---------------------------------------------------------------------------------


@pytest.mark.parametrize("l4t", RELEASES)
def test_restore_is_as_before_the_first_lock(say: Say, tmp_path: Path, l4t: str) -> None:
    host = sim_box(tmp_path, f"orin-nx-16@{l4t}")
    configured(host)
    host.write_sysfs(USED, "0\n")
    before = say(host, "power", "status")[1]
    status = host.read_bytes(STATUS_PATH)
    assert "never changed from here" in say(host, "power", "restore")[1]
    assert say(host, "power", "lock")[0] == 0
    assert say(host, "power", "lock", "--mode", "leave")[0] == 0
    assert say(host, "power", "status")[1] != before
    host.write_sysfs(USED, "0\n")
    assert say(host, "power", "restore")[0] == 0
    assert host.read_bytes(STATUS_PATH) == status
    assert say(host, "power", "status")[1] == before
    assert "never changed from here" in say(host, "power", "restore")[1]


def test_restore_says_who_undoes_it_and_uninstall_still_knows(say: Say, tmp_path: Path) -> None:
    """Where the guard runs, the lock comes back; what was there before it must not be forgotten."""
    host = sim_box(tmp_path, NANO)
    configured(host)
    before = say(host, "power", "status")[1]
    assert say(host, "power", "lock")[0] == 0
    host.write("/etc/systemd/system/ishowtts-guard.timer", "[Timer]\n")
    for _ in range(2):
        code, out, err = say(host, "power", "restore")
        assert code == 0
        assert out.startswith("As before the first lock: 25W; CPU 730 to 1344 MHz"), out
        assert "asks for `max` and locked clocks, which the guard brings back within 60 s" in err
        assert "set power.mode to leave and power.lock_clocks to false" in err
        assert say(host, "power", "status")[1] == before
        # What the note says is so, and "before" stays what it was.
        assert say(host, "power", "guard")[1].startswith("Clock lock: restored")
    # What it says keeps it does.
    assert say(host, "power", "restore")[0] == 0
    configured(host, mode="leave", lock_clocks=False)
    assert say(host, "power", "guard")[1].startswith("Clock lock: off")
    assert "guard" not in say(host, "power", "restore")[2]
    assert say(host, "uninstall", "--yes")[0] == 0
    assert not host.exists(LEDGER_PATH)
    configured(host)
    assert say(host, "power", "status")[1] == before


@pytest.mark.parametrize("verb", ["lock", "restore"])
def test_one_at_a_time(say: Say, tmp_path: Path, verb: str) -> None:
    """Neither during an install, whose ledger it would overwrite; a guard at work is waited for."""
    host = sim_box(tmp_path, NANO)
    configured(host)
    assert say(host, "power", "lock", "--mode", "15W")[0] == 0
    before = host.read_bytes(STATUS_PATH), host.read_bytes(LEDGER_PATH)
    with host.lock(LOCK_PATH, "ishowtts-ops install"):
        code, _, err = say(host, "power", verb)
        assert code == 1 and "`ishowtts-ops install`" in err and "nothing was changed" in err
        assert (host.read_bytes(STATUS_PATH), host.read_bytes(LEDGER_PATH)) == before
    assert say(host, "power", verb)[0] == 0
    assert host.read_bytes(STATUS_PATH) != before[0]


# ---- status ----------------------------------------------------------------------------------


@pytest.mark.parametrize("l4t", RELEASES)
def test_status_has_every_line_for_people_and_programs(say: Say, tmp_path: Path, l4t: str) -> None:
    host = sim_box(tmp_path, f"{AGX}@{l4t}", "rival-tuned", "over-current")
    configured(host)
    code, out, _ = say(host, "power", "status")
    assert code == 1
    for heading in ("Module", "Mode", "Clocks", "Limits", "Heat", "Rails", "Fan", "Others"):
        assert heading in out
    assert f"L4T R{l4t}" in out and "MODE_30W (id 2)" in out
    assert "CPU 730 to" in out and "GPU 306 to 612 MHz" in out and "EMC" in out
    assert "tuned sets CPU frequencies" in out
    assert "OC2 average over-current 7x" in out and "rpm, set by" in out
    told = data(say(host, "power", "status", "--json")[1])
    assert told["locked"] == {"wanted": True, "cpu": False, "gpu": False, "emc": False}
    assert (told["mode"]["id"], told["mode"]["wanted"]) == (2, "MAXN")
    assert told["fan"]["pwm"] > 0 and told["over_current_events"]["2"] == 7


@pytest.mark.parametrize("l4t", RELEASES)
@pytest.mark.parametrize("fault", ["module-unknown", "release-unknown", "mode-unknown"])
def test_the_unknown_is_a_finding(say: Say, tmp_path: Path, fault: str, l4t: str) -> None:
    host = sim_box(tmp_path, f"{AGX}@{l4t}", fault)
    configured(host)
    code, out, err = say(host, "power", "status")
    assert code == 1 and "Traceback" not in err
    assert data(say(host, "power", "status", "--json")[1])["ok"] is False
    check = {"module-unknown": "box-module", "release-unknown": "box-release"}
    code, out, _ = say(host, "doctor", "--json", "power", "box")
    checks = data(out)["checks"]
    assert checks[check.get(fault, "power-mode")] in ("warn", "error")


def test_another_machine_is_told_so(say: Say, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    host = Host.at(tmp_path)
    for verb in ("status", "lock", "guard"):
        code, _, err = say(host, "power", verb)
        assert code == 1 and "not an NVIDIA Jetson" in err and "ishowtts-ops demo" in err


def test_what_cannot_be_chosen_is_said_once(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "conf-missing")
    configured(host)
    code, out, _ = say(host, "power", "status")
    assert code == 1
    reason = "/etc/nvpmodel.conf leads to /etc/nvpmodel/nvpmodel_not_there.conf, which is not there"
    assert f"Mode The power mode cannot be chosen: {reason}. Clocks" in out
    assert out.count(reason) == 1
    assert "Limits not known, because the mode is not" in out


def test_a_sensor_that_hangs_hides_nothing_else(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host)
    assert say(host, "power", "lock")[0] == 0
    path = host.glob("/sys/class/hwmon/hwmon*/in1_input")[0]
    real = host.path(path)
    real.unlink()
    os.mkfifo(real)
    code, out, _ = say(host, "power", "status")
    assert code == 0 and "GPU locked at 1020 MHz" in out
    assert f"Rails unknown (reading the power rails gave no answer in 4 s: {path} hangs)" in out
    zone = host.path(host.glob("/sys/class/thermal/thermal_zone*/temp")[0])
    zone.unlink()
    os.mkfifo(zone)
    assert say(host, "power", "guard")[1].startswith("Clock lock: held"), "nor keeps it from work"


def test_clocks_that_hang_are_not_known(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host)
    real = host.path("/sys/class/devfreq/17000000.gpu/min_freq")
    real.unlink()
    os.mkfifo(real)
    code, _, err = say(host, "power", "status")
    assert code == 3
    assert "/sys/class/devfreq/17000000.gpu/min_freq hangs." in err and "dmesg" in err


def test_a_box_that_is_not_running(say: Say, tmp_path: Path) -> None:
    """A card in a reader: its mode is known, its clocks are not, and nothing is written."""
    host = sim_box(tmp_path, NANO)
    configured(host, mode="25W")
    host.remove(SIM_MARKER)
    for folder in ("/sys", "/proc", "/run"):
        host.rmtree(folder)
    code, out, _ = say(host, "power", "status")
    assert code == 1
    assert "Mode for the next boot: 25W (id 1)" in out
    assert out.endswith("Clocks not known: the box is not running")
    for verb in ("lock", "guard", "resolve"):
        code, _, err = say(host, "power", verb)
        assert code == 1 and "is not running" in err and "Boot it" in err
    assert not host.exists(LEDGER_PATH)


# ---- guard -----------------------------------------------------------------------------------


def test_the_guard_restores_and_says_why(say: Say, tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    configured(host)
    assert say(host, "power", "lock")[0] == 0
    assert say(host, "power", "guard")[1].startswith("Clock lock: held")
    apply_fault(host.root, "clocks-rerun")
    code, out, err = say(host, "power", "guard")
    assert code == 0 and "restored" in out
    assert "The clock lock is lost" in out and "Likely cause:" in err
    told = data(say(host, "power", "guard", "--json")[1])
    assert (told["state"], told["ok"]) == ("held", True)
