from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ishowtts_ops.config import Power, Settings
from ishowtts_ops.errors import NeedsRoot, NotAJetson, OpsError, ReadOnlyViolation, UsageError
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts.nvpmodel import STATUS_PATH, Mode
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power import (
    LockReport,
    PowerStep,
    lock,
    look,
    record_before,
    restore,
    status,
)
from ishowtts_ops.provision.power_tools import Outcome, set_mode
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import cold_boot
from ishowtts_ops.steps import Change, Ledger
from tests.support.simboxes import sim_box

NANO = "orin-nano-super"
AGX = "agx-orin-64"
GPU = "/sys/class/devfreq/17000000.gpu"
CPU0 = "/sys/devices/system/cpu/cpufreq/policy0"
EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"


class Waits:
    """Stands for time: records the pauses and may do something in each."""

    def __init__(self, do: Callable[[], object] = lambda: None) -> None:
        self.pauses: list[float] = []
        self.do = do

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.do()


def locked(host: Host, policy: Power | None = None, **more: object) -> LockReport:
    lines: list[str] = []
    waits = more.get("sleep", Waits())
    assert callable(waits)
    return lock(host, policy or Power(), log=lines.append, sleep=waits)


def number(host: Host, path: str) -> int:
    return int(host.read_text(path))


def step_on(host: Host, **power: object) -> PowerStep:
    settings = Settings.model_validate({"power": power})
    return PowerStep(settings, Ledger.open(host))


def plan(step: PowerStep, host: Host) -> Change:
    change = step.diff(host)
    assert change is not None
    return change


def replace_tool(host: Host, path: str, script: str) -> None:
    """Put another program in a tool's place; the stand-in stays beside it as TOOL.real."""
    host.rename(path, f"{path}.real")
    host.write(path, f"#!/bin/sh\n{script}\n", mode=0o755)


def tree_of(root: Path, *folders: str) -> dict[str, bytes]:
    """Contents of all files below these folders of a box."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(root))] = path.read_bytes()
    return found


# ---- lock -------------------------------------------------------------------------------------


def test_nano_super_takes_mode_2_not_mode_0(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    report = locked(host)
    assert report.ok
    assert (report.mode_before, report.wanted) == ("25W", "MAXN_SUPER")
    assert report.mode_changed
    assert not report.reboot_needed
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert number(host, f"{GPU}/min_freq") == number(host, f"{GPU}/max_freq") == 1020000000
    assert number(host, f"{CPU0}/scaling_min_freq") == 1728000
    assert host.read_text(f"{EMC}/mrq_rate_locked").strip() == "1"
    assert report.after.clocks.locked is True
    assert report.summary.startswith("MAXN_SUPER; CPU locked at 1728 MHz, GPU locked at 1020 MHz")


def test_locking_twice_runs_no_tool(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert locked(host).ok
    before = tree_of(host.root, "sys", "var/lib/nvpmodel")
    for tool in ("/usr/sbin/nvpmodel", "/usr/bin/jetson_clocks"):
        host.remove(tool)
    report = locked(host)
    assert report.ok
    assert not report.mode_changed
    assert tree_of(host.root, "sys", "var/lib/nvpmodel") == before


def test_a_mode_that_needs_a_reboot_is_staged_and_asked_for(tmp_path: Path) -> None:
    """30W -> MAXN on AGX changes the GPU's mask. The clocks are locked at 30W's maximum now."""
    host = sim_box(tmp_path, AGX)
    report = locked(host)
    assert report.ok
    assert report.reboot_needed
    assert host.read_bytes(STATUS_PATH) == b"pmode:0000"
    assert not host.exists("/run/reboot-requested"), "nobody answered yes"
    assert number(host, f"{GPU}/min_freq") == number(host, f"{GPU}/max_freq") == 612000000
    assert isinstance(report.after.power.effective, Mode)
    assert report.after.power.effective.name == "MODE_30W"
    assert "MAXN after a reboot" in report.summary

    again = locked(host)
    assert again.ok
    assert again.reboot_needed
    assert not again.mode_changed

    cold_boot(host.root)
    assert host.run(["nvpmodel"]).ok, "what nvpmodel.service does at boot"
    after = locked(host)
    assert after.ok
    assert not after.reboot_needed
    assert number(host, f"{GPU}/min_freq") == 1300500000
    assert after.after.power.in_force is True


def test_an_unused_gpu_needs_no_reboot(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    cold_boot(host.root)
    report = locked(host)
    assert report.ok
    assert not report.reboot_needed
    assert number(host, f"{GPU}/min_freq") == 1300500000


def test_end_of_input_at_the_prompt_is_the_same_refusal(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    replace_tool(host, "/usr/sbin/nvpmodel", 'exec "$0.real" "$@" </dev/null')
    conf = power_facts.read(host).conf
    assert not isinstance(conf, Unknown)
    maxn = conf.find("maxn")
    assert maxn is not None
    assert set_mode(host, maxn).outcome is Outcome.NEEDS_REBOOT
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002", "staging is not the tool's doing"
    assert not host.exists("/run/reboot-requested")


@pytest.mark.parametrize(
    ("name", "mode", "gpu"),
    [("15w", 0, 612000000), ("25W", 1, 918000000), ("MODE_25W", 1, 918000000)],
)
def test_a_named_mode(tmp_path: Path, name: str, mode: int, gpu: int) -> None:
    host = sim_box(tmp_path, NANO)
    report = locked(host, Power(mode=name))
    assert report.ok
    assert host.read_bytes(STATUS_PATH) == b"pmode:%04d" % mode
    assert number(host, f"{GPU}/min_freq") == gpu


def test_leave_locks_in_whatever_mode_there_is(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    report = locked(host, Power(mode="leave"))
    assert report.ok
    assert report.wanted is None
    assert host.read_bytes(STATUS_PATH) == b"pmode:0001"
    assert number(host, f"{GPU}/min_freq") == 918000000


def test_mode_without_lock(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert locked(host, Power(lock_clocks=False)).ok
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert look(host, Power()).clocks_held is False


def test_the_fan_is_left_alone_unless_asked_for(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    pwm = next(p for p in host.glob("/sys/class/hwmon/hwmon*/pwm1"))
    assert locked(host).ok
    assert number(host, pwm) == 55
    assert host.run(["nvpmodel", "-m", "2"]).ok
    assert locked(host, Power(fan=True)).ok
    assert number(host, pwm) == 255


def test_an_unknown_mode_changes_nothing_and_lists_the_modes(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    before = tree_of(host.root, "sys", "var")
    with pytest.raises(UsageError, match="TURBO") as caught:
        locked(host, Power(mode="TURBO"))
    assert "MAXN_SUPER (2)" in caught.value.hint
    assert tree_of(host.root, "sys", "var") == before


def test_a_late_gpu_is_waited_for(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    host.write("/etc/ishowtts-sim.d/gpu-late", "calls 2\n")
    cold_boot(host.root)
    assert isinstance(look(host, Power()).clocks.gpu, Unknown)
    waits = Waits()
    report = locked(host, sleep=waits)
    assert report.ok, report.problems
    assert report.after.clocks.locked is True
    assert report.waited_s == sum(waits.pauses) > 0
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert report.after.power.in_force is True


def test_a_gpu_that_never_comes_is_waited_for_within_bounds(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "gpu-missing")
    waits = Waits()
    report = lock(host, Power(mode="leave"), log=lambda _: None, sleep=waits, wait_s=20)
    assert not report.ok
    assert sum(waits.pauses) == 20
    assert len(waits.pauses) < 8
    assert "GPU clock is not locked" in report.problems[0]
    assert "driver may not be up" in report.problems[0]
    assert report.after.clocks.cpu_locked is True, "what can be locked is"


@pytest.mark.parametrize(
    "script", ["exit 0", "echo 'Error: Failed to max GPU frequency!'; exit 0", "echo usage; exit 0"]
)
def test_a_jetson_clocks_that_lies_is_not_believed(tmp_path: Path, script: str) -> None:
    host = sim_box(tmp_path, NANO)
    replace_tool(host, "/usr/bin/jetson_clocks", script)
    waits = Waits()
    report = locked(host, sleep=waits)
    assert not report.ok
    assert [problem.split(" not locked")[0] for problem in report.problems] == [
        "The CPU clocks are",
        "The GPU clock is",
        "The memory clock (EMC) is",
    ]
    assert len(waits.pauses) <= 3, "a tool that does nothing is not called for ever"
    if "Error" in script:
        assert "Failed to max GPU frequency" in report.problems[-1]


def test_an_nvpmodel_that_lies_is_not_believed(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    replace_tool(host, "/usr/sbin/nvpmodel", "exit 0")
    report = locked(host)
    assert not report.ok
    assert "said that it had set MAXN_SUPER, but mode 1 is set" in report.problems[0]
    assert report.after.clocks.locked is True, "the clocks are locked all the same"


def test_an_nvpmodel_that_writes_the_status_only(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    target = host.path(STATUS_PATH)
    replace_tool(host, "/usr/sbin/nvpmodel", f"printf pmode:0002 > {target}")
    report = locked(host)
    assert not report.ok
    assert "MAXN_SUPER is set but not in force: CPU 0-3: 1344 MHz" in report.problems[0]


def test_tools_that_find_us_not_to_be_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = sim_box(tmp_path, NANO)
    monkeypatch.setenv("ISHOWTTS_SIM_UID", "1000")
    report = locked(host)
    assert not report.ok
    assert "failed to set power mode" in report.problems[0]
    assert "as a root user" in report.problems[-1]


def test_missing_tools_are_named(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    host.remove("/usr/sbin/nvpmodel")
    host.remove("/usr/bin/jetson_clocks")
    report = locked(host)
    assert not report.ok
    assert "`nvpmodel` is not on this box" in report.problems[0]
    assert "`jetson_clocks` is not on this box" in report.problems[-1]


def test_without_a_conf_the_clocks_are_locked_and_the_mode_is_a_problem(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "conf-missing")
    report = locked(host)
    assert not report.ok
    (problem,) = report.problems
    assert problem.startswith(
        "The power mode cannot be chosen: /etc/nvpmodel.conf leads to /etc/nv"
    )
    assert problem.endswith(", which is not there.")
    assert report.after.clocks.locked is True


def test_jetson_clocks_has_a_home_where_a_system_unit_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = sim_box(tmp_path, NANO)
    seen = tmp_path / "home"
    replace_tool(host, "/usr/bin/jetson_clocks", f'echo "$HOME" > {seen}; exec "$0.real" "$@"')
    monkeypatch.delenv("HOME")
    assert locked(host).ok
    assert seen.read_text() == "/root\n"


@pytest.mark.parametrize("fault", ["mode-missing", "mode-corrupt", "mode-unknown"])
def test_a_lost_mode_is_set_again(tmp_path: Path, fault: str) -> None:
    host = sim_box(tmp_path, NANO, fault)
    report = locked(host)
    assert report.ok
    assert isinstance(report.mode_before, Unknown)
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"


def test_a_gpu_capped_by_somebody_gets_the_modes_limit_back(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert locked(host).ok
    apply_fault(host.root, "gpu-capped")
    assert look(host, Power()).clocks.gpu_locked is True, "locked, but low"
    assert locked(host).ok
    assert number(host, f"{GPU}/min_freq") == 1020000000


def test_heat_is_no_reason_to_run_nvpmodel(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert locked(host).ok
    apply_fault(host.root, "gpu-capped")
    apply_fault(host.root, "thermal-throttle")
    host.remove("/usr/sbin/nvpmodel")
    assert locked(host).ok


def test_not_root(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give root up")
    host = sim_box(tmp_path, NANO)
    host.root.parent.chmod(0o755)
    before = tree_of(host.root, "sys", "var")
    os.seteuid(65534)
    try:
        with pytest.raises(NeedsRoot, match="locking the clocks"):
            locked(host)
        assert step_on(host).diff(host.read_only()) is not None, "a plan needs no root"
        emc = look(host, Power()).clocks.emc_locked
        assert isinstance(emc, Unknown)
        assert "needs root" in emc.reason
    finally:
        os.seteuid(0)
    assert tree_of(host.root, "sys", "var") == before


def test_not_a_jetson(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    host = Host.at(tmp_path)
    with pytest.raises(NotAJetson):
        step_on(host).diff(host)


# ---- step -------------------------------------------------------------------------------------


def test_the_plan_shows_commands_and_numbers_and_changes_nothing(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    before = tree_of(host.root, "sys", "var", "etc")
    change = plan(step_on(host), host.read_only())
    assert change.preview[:2] == ("$ nvpmodel -m 2    # 25W -> MAXN_SUPER", "$ jetson_clocks")
    assert "# GPU: at least 306 MHz -> 1020 MHz" in change.preview
    assert "# CPU 0-3: at least 730 MHz -> 1728 MHz" in change.preview
    assert change.summary == "power mode 25W -> MAXN_SUPER, lock clocks (CPU, GPU, EMC)"
    assert not change.needs_reboot
    assert tree_of(host.root, "sys", "var", "etc") == before


def test_a_change_cannot_be_applied_to_a_read_only_box(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO).read_only()
    with pytest.raises(ReadOnlyViolation):
        plan(step_on(host), host).apply(lambda _: None)
    with pytest.raises(ReadOnlyViolation):
        locked(host)


def test_the_plan_warns_of_a_reboot(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    change = plan(step_on(host), host.read_only())
    assert change.needs_reboot
    assert any("(240 -> 0)" in line for line in change.preview)


@pytest.mark.parametrize("board", [NANO, AGX, "orin-nx-16@35.3.1", "agx-orin-64@39.2.1"])
def test_twice_is_once(tmp_path: Path, board: str) -> None:
    host = sim_box(tmp_path, board)
    step = step_on(host)
    plan(step, host).apply(lambda _: None)
    assert step.report is not None
    assert step.report.ok
    assert step.diff(host.read_only()) is None


def test_a_step_killed_between_mode_and_clocks_is_finished_by_the_next(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert host.run(["nvpmodel", "-m", "2"]).ok
    change = plan(step_on(host), host)
    assert change.preview[0] == "$ jetson_clocks"
    change.apply(lambda _: None)
    assert step_on(host).diff(host) is None


def test_nothing_to_do_where_nothing_is_asked_for(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert step_on(host, mode="leave", lock_clocks=False).diff(host) is None


def test_a_failure_is_one_clear_error(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    replace_tool(host, "/usr/bin/jetson_clocks", "exit 0")
    step = step_on(host, mode="leave")
    change = plan(step, host)
    step.sleep = Waits()
    with pytest.raises(OpsError, match="GPU clock is not locked"):
        change.apply(lambda _: None)


def test_an_offline_box_gets_its_mode_staged(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    host.remove("/etc/ishowtts-sim.json")
    for folder in ("/sys", "/proc"):
        host.rmtree(folder)
    host = Host.at(host.root)
    step = step_on(host)
    change = plan(step, host)
    assert "+pmode:0000" in change.preview
    change.apply(lambda _: None)
    assert host.read_bytes(STATUS_PATH) == b"pmode:0000"
    assert step.diff(host) is None
    Ledger.open(host).restore_files()
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    with pytest.raises(OpsError, match="not running"):
        locked(host)


# ---- undo -------------------------------------------------------------------------------------


def test_restore_puts_everything_back_byte_for_byte(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    hardware = (
        "sys/devices",
        "sys/kernel/debug",
        "sys/kernel/nvpmodel_clk_cap",
        "var/lib/nvpmodel",
    )
    before = tree_of(host.root, *hardware)
    step = step_on(host)
    plan(step, host).apply(lambda _: None)
    assert tree_of(host.root, *hardware) != before
    report = restore(host, Ledger.open(host), lambda _: None)
    assert report.ok, report.problems
    assert not report.reboot_needed
    assert tree_of(host.root, *hardware) == before


def test_restore_of_a_mode_that_needs_a_reboot(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    before = tree_of(host.root, "sys/devices", "var/lib/nvpmodel")
    plan(step_on(host), host).apply(lambda _: None)
    cold_boot(host.root)
    assert host.run(["nvpmodel"]).ok
    assert locked(host).after.power.in_force is True
    lines: list[str] = []
    report = restore(host, Ledger.open(host), lines.append)
    assert report.ok, report.problems
    assert report.reboot_needed
    assert any("next reboot" in line for line in lines)
    assert host.read_bytes(STATUS_PATH) == b"pmode:0002"
    assert not host.exists("/run/reboot-requested")
    assert number(host, f"{GPU}/min_freq") == 306000000
    assert number(host, f"{GPU}/max_freq") == 612000000
    mask = "/sys/devices/platform/gpu.0/tpc_pg_mask"
    assert number(host, mask) == 0, "refused by the kernel once, so not tried again"
    cold_boot(host.root)
    assert host.run(["nvpmodel"]).ok
    assert tree_of(host.root, "sys/devices", "var/lib/nvpmodel") == before


def test_restore_before_the_reboot_takes_the_staged_mode_back(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    before = tree_of(host.root, "sys/devices", "var/lib/nvpmodel")
    plan(step_on(host), host).apply(lambda _: None)
    assert host.read_bytes(STATUS_PATH) == b"pmode:0000"
    report = restore(host, Ledger.open(host), lambda _: None)
    assert report.ok
    assert not report.reboot_needed
    assert tree_of(host.root, "sys/devices", "var/lib/nvpmodel") == before


def test_restore_of_a_box_that_had_no_mode(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "mode-missing")
    plan(step_on(host), host).apply(lambda _: None)
    assert host.exists(STATUS_PATH)
    assert restore(host, Ledger.open(host), lambda _: None).ok
    assert not host.exists(STATUS_PATH)
    assert number(host, f"{GPU}/max_freq") == 918000000


def test_a_box_that_was_locked_before_us_stays_locked(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert host.run(["jetson_clocks"]).ok
    plan(step_on(host), host).apply(lambda _: None)
    assert restore(host, Ledger.open(host), lambda _: None).ok
    assert look(host, Power(mode="leave")).clocks.locked is True
    assert number(host, f"{GPU}/min_freq") == 918000000


def test_only_the_first_record_counts(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    ledger = Ledger.open(host)
    record_before(host, ledger)
    first = ledger.notes["power"]
    assert locked(host).ok
    record_before(host, ledger)
    record_before(host, Ledger.open(host))
    assert Ledger.open(host).notes["power"] == first


def test_nothing_recorded_nothing_restored(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    assert locked(host).ok
    before = tree_of(host.root, "sys", "var")
    report = restore(host, Ledger.open(host), lambda _: None)
    assert report.ok
    assert report.restored == 0
    assert tree_of(host.root, "sys", "var") == before


def test_what_cannot_be_put_back_is_said(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    plan(step_on(host), host).apply(lambda _: None)
    apply_fault(host.root, "gpu-missing")
    report = restore(host, Ledger.open(host), lambda _: None)
    assert not report.ok
    assert any("max_freq could not be put back" in problem for problem in report.problems)
    assert number(host, f"{CPU0}/scaling_max_freq") == 1344000, "the rest is put back"


def test_full_fan_is_turned_down_again(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    pwm = next(p for p in host.glob("/sys/class/hwmon/hwmon*/pwm1"))
    plan(step_on(host, fan=True), host).apply(lambda _: None)
    assert number(host, pwm) == 255
    assert restore(host, Ledger.open(host), lambda _: None).ok
    assert number(host, pwm) == 55


# ---- status -----------------------------------------------------------------------------------


def test_status_of_a_box_before_and_after(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    before = status(host.read_only(), Settings())
    assert not before.ok
    lines = dict(before.lines())
    assert lines["Module"] == "Jetson Orin Nano 8GB Super, L4T R36.4.3, JetPack 6.2"
    assert lines["Mode"] == "25W (id 1); the configuration asks for MAXN_SUPER"
    assert lines["Clocks"].startswith("CPU 730 to 1344 MHz, GPU 306 to 918 MHz")
    assert locked(host).ok
    after = status(host.read_only(), Settings())
    assert after.ok
    assert after.data()["mode"]["name"] == "MAXN_SUPER"
    assert after.data()["locked"] == {"wanted": True, "cpu": True, "gpu": True, "emc": True}


def test_status_says_what_is_staged(tmp_path: Path) -> None:
    host = sim_box(tmp_path, AGX)
    assert locked(host).ok
    found = status(host, Settings())
    assert not found.ok
    assert "MODE_30W is in force until the next reboot" in dict(found.lines())["Mode"]
    assert found.data()["mode"]["reboot_pending"] is True


def test_status_shows_the_firmware_trap_heat_and_rivals(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "super-plain-caps", "thermal-throttle", "over-current")
    apply_fault(host.root, "rival-tuned")
    lines = dict(status(host, Settings()).lines())
    assert "GPU: 625 MHz instead of 1020 MHz" in lines["Firmware"]
    assert "throttled by" in lines["Heat"]
    assert "OC2 average over-current 7x" in lines["Rails"]
    assert "tuned sets CPU frequencies" in lines["Others"]


@pytest.mark.parametrize(
    "fault",
    [
        "conf-missing",
        "mode-corrupt",
        "gpu-missing",
        "module-unknown",
        "release-unknown",
        "release-garbage",
    ],
)
def test_status_of_a_broken_box_is_no_crash(tmp_path: Path, fault: str) -> None:
    found = status(sim_box(tmp_path, NANO, fault).read_only(), Settings())
    assert not found.ok
    assert all(name and text for name, text in found.lines())
    assert found.data()["ok"] is False
