from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import NotAJetson
from ishowtts_ops.facts.nvpmodel import STATUS_PATH
from ishowtts_ops.facts.rivals import CLOCKS_UNIT
from ishowtts_ops.host import Host
from ishowtts_ops.provision.guard import GuardReport, GuardState, check_and_restore
from ishowtts_ops.provision.install import LOCK_PATH
from ishowtts_ops.provision.power import lock, look
from ishowtts_ops.provision.units import GUARD, UNIT_DIR, install_links, rendered
from ishowtts_ops.sim.faults import apply_fault
from tests.support.simboxes import sim_box

NANO = "orin-nano-super"


def locked_box(tmp_path: Path, board: str = NANO) -> Host:
    host = sim_box(tmp_path, board)
    assert lock(host, Settings().power, log=lambda _: None).ok
    return host


def guard(host: Host, **power: object) -> tuple[GuardReport, list[str]]:
    lines: list[str] = []
    settings = Settings.model_validate({"power": power})
    report = check_and_restore(host, settings, lines.append, sleep=lambda _: None)
    return report, lines


def test_a_lock_that_is_held_costs_no_process(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    host.rmtree("/usr/sbin")
    host.rmtree("/usr/bin")
    report, lines = guard(host.read_only())
    assert report.state is GuardState.HELD
    assert report.ok
    assert report.seen == ()
    assert lines == []


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("clocks-rerun", "the power mode was written again"),
        ("mode-default", "the power mode was set to 25W"),
        ("mode-missing", "L4T R39 deletes that file"),
        ("gpu-capped", "not known"),
        ("emc-unlocked", "not known"),
    ],
)
def test_a_loss_is_mended_and_its_cause_named(tmp_path: Path, fault: str, cause: str) -> None:
    host = locked_box(tmp_path)
    apply_fault(host.root, fault)
    report, lines = guard(host)
    assert report.state is GuardState.RESTORED
    assert cause in report.cause
    assert report.seen
    assert any("Likely cause: " in line and cause in line for line in lines)
    assert lines[-1].startswith("Restored: MAXN_SUPER; CPU locked at 1728 MHz")
    assert look(host, Settings().power).clocks.locked is True
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert guard(host)[0].state is GuardState.HELD


def test_nvpmodel_service_that_ran_again(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    host.write(f"/etc/systemd/system/{CLOCKS_UNIT}", unit)
    assert host.run(["systemctl", "daemon-reload"]).ok
    assert host.run(["systemctl", "start", CLOCKS_UNIT]).ok
    assert lock(host, Settings().power, log=lambda _: None).ok
    assert host.run(["systemctl", "start", "nvpmodel.service"]).ok
    report, _ = guard(host)
    assert report.state is GuardState.RESTORED
    assert "nvpmodel.service ran again" in report.cause


def test_a_lock_unit_that_never_ran(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    host.write(f"/etc/systemd/system/{CLOCKS_UNIT}", "[Service]\nExecStart=/bin/true\n")
    assert host.run(["nvpmodel", "-m", "2"]).ok
    report, _ = guard(host)
    assert report.state is GuardState.RESTORED
    assert "has not run since boot" in report.cause


def test_a_rival_that_moved_the_cpus(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    apply_fault(host.root, "rival-tuned")
    host.write_sysfs("/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq", "1036800\n")
    report, _ = guard(host)
    assert report.state is GuardState.RESTORED
    assert "tuned" in report.cause


def test_a_resume(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    host.write("/sys/power/suspend_stats/success", "3\n")
    host.write_sysfs("/sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq", "1036800\n")
    report, _ = guard(host)
    assert report.state is GuardState.RESTORED
    assert "resumed" in report.cause


def test_a_staged_mode_is_remarked_and_left_alone(tmp_path: Path) -> None:
    host = locked_box(tmp_path, "agx-orin-64")
    host.rmtree("/usr/sbin")
    report, lines = guard(host.read_only())
    assert report.state is GuardState.HELD
    assert report.seen == ("MAXN is staged and takes effect with the next reboot.",)
    assert lines == []


def test_heat_is_no_loss(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    apply_fault(host.root, "gpu-capped")
    apply_fault(host.root, "thermal-throttle")
    report, _ = guard(host.read_only())
    assert report.state is GuardState.HELD
    assert report.seen == ("Heat holds the clocks down at the moment.",)


def test_what_cannot_be_mended_is_lost(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    apply_fault(host.root, "clocks-rerun")
    host.write("/usr/bin/jetson_clocks", "#!/bin/sh\nexit 0\n", mode=0o755)
    report, lines = guard(host)
    assert report.state is GuardState.LOST
    assert not report.ok
    assert any("GPU clock is not locked" in line for line in lines)
    assert report.data()["lock"]["ok"] is False


def test_a_lock_that_is_not_wanted_is_not_guarded(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert guard(host.read_only(), mode="leave", lock_clocks=False)[0].state is GuardState.OFF
    report, _ = guard(host, lock_clocks=False)
    assert report.state is GuardState.RESTORED, "the mode still is"
    assert look(host, Settings().power).clocks_held is False


def test_not_a_jetson(tmp_path: Path) -> None:
    with pytest.raises(NotAJetson):
        guard(Host.at(tmp_path))


def test_it_waits_while_an_install_is_at_work(tmp_path: Path) -> None:
    """Uninstall puts clocks back as they were; a guard that locked them again would undo that."""
    host = locked_box(tmp_path)
    apply_fault(host.root, "clocks-rerun")
    before = look(host, Settings().power)
    with host.lock(LOCK_PATH, "ishowtts-ops uninstall"):
        report, lines = guard(host)
    assert report.state is GuardState.WAITING
    assert report.ok, "nothing is wrong with the unit: the next look comes soon"
    assert "ishowtts-ops uninstall" in report.seen[0]
    assert lines == []
    assert look(host, Settings().power) == before
    assert guard(host)[0].state is GuardState.RESTORED


def test_it_is_wanted_by_every_kind_of_sleep_and_comes_after_it(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    text = rendered(host, Settings())[f"{UNIT_DIR}/{GUARD}"]
    for target in ("suspend.target", "hibernate.target", "hybrid-sleep.target"):
        assert f"{UNIT_DIR}/{target}.wants/{GUARD}" in install_links(GUARD, text)
        after = next(line for line in text.splitlines() if line.startswith("After="))
        assert target in after.split(), "without After= it would run before the sleep"
