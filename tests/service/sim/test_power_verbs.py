"""`power status`, `lock`, `restore` and `guard` as they are typed, on simulated boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ishowtts_ops.cli.app import run
from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.facts.nvpmodel import STATUS_PATH
from ishowtts_ops.host import Host
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
    assert out.startswith("CPU locked at") and "GPU locked at 612 MHz" in out
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
    assert "MAXN is staged and needs one reboot: sudo systemctl reboot" in out
    assert not host.exists("/run/reboot-requested")
    code, out, _ = say(host, "power", "status")
    assert code == 1 and "staged: MODE_30W is in force until the next reboot" in out


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
    for verb in ("lock", "guard"):
        code, _, err = say(host, "power", verb)
        assert code != 0 and "not an NVIDIA Jetson" in err and "ishowtts-ops demo" in err


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
