"""The stand-in systemctl's verbs that start nothing, or oneshots."""

from __future__ import annotations

import os

from tests.service.sim.sim_box import SimBox

WANTS = "etc/systemd/system/multi-user.target.wants"

ONESHOT = """\
[Unit]
Description=Once
After=nvpmodel.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo begun; test ! -e "$$ISHOWTTS_BOX_ROOT/fail"'
ExecStop=/bin/sh -c 'echo ended'

[Install]
WantedBy=multi-user.target
"""


def once(box: SimBox, text: str = ONESHOT) -> None:
    box.unit("once.service", text.replace("$$", "$"))


def test_enable_makes_the_links_that_install_asks_for(agx: SimBox) -> None:
    once(agx)
    assert agx.systemctl("is-enabled", "once").stdout == "disabled\n"
    done = agx.systemctl("enable", "once.service")
    assert done.returncode == 0
    assert "Created symlink /etc/systemd/system/multi-user.target.wants/once.service" in done.stderr
    assert os.readlink(agx.root / WANTS / "once.service") == "/etc/systemd/system/once.service"
    status = agx.systemctl("is-enabled", "once.service")
    assert (status.returncode, status.stdout) == (0, "enabled\n")
    again = agx.systemctl("enable", "once.service")
    assert (again.returncode, again.stderr) == (0, "")
    assert agx.systemctl("disable", "once.service").returncode == 0
    assert not (agx.root / WANTS / "once.service").is_symlink()
    assert agx.systemctl("is-enabled", "once.service").returncode == 1


def test_timers_are_enabled_below_their_target_and_never_fire(agx: SimBox) -> None:
    once(agx)
    agx.unit(
        "once.timer",
        "[Timer]\nOnActiveSec=0\nOnUnitActiveSec=1\n[Install]\nWantedBy=timers.target\n",
    )
    assert agx.systemctl("enable", "--now", "once.timer").returncode == 0
    assert (agx.root / "etc/systemd/system/timers.target.wants/once.timer").is_symlink()
    assert agx.systemctl("is-active", "once.timer").stdout == "active\n"
    assert agx.prop("once.timer", "SubState") == "waiting"
    assert "never fired" in agx.systemctl("status", "once.timer").stdout
    assert "once.service" in agx.systemctl("list-timers").stdout
    assert agx.systemctl("is-active", "once.service").stdout == "inactive\n"


def test_units_that_are_not_there(agx: SimBox) -> None:
    for verb, status, words in (
        ("start", 5, "Unit nope.service not found"),
        ("stop", 5, "not loaded"),
        ("status", 4, "could not be found"),
        ("enable", 1, "does not exist"),
        ("is-enabled", 1, "No such file"),
        ("cat", 1, "No files found"),
    ):
        done = agx.systemctl(verb, "nope")
        assert (done.returncode, words in done.stderr) == (status, True), verb
    done = agx.systemctl("is-active", "nope")
    assert (done.returncode, done.stdout) == (3, "inactive\n")
    done = agx.systemctl("show", "-p", "LoadState,ActiveState", "nope")
    assert (done.returncode, done.stdout) == (0, "LoadState=not-found\nActiveState=inactive\n")
    assert agx.systemctl("frobnicate", "x").returncode == 1


def test_oneshot_life(agx: SimBox) -> None:
    once(agx)
    assert agx.systemctl("start", "once").returncode == 0
    assert agx.prop("once.service", "SubState") == "exited"
    assert agx.systemctl("is-active", "once").returncode == 0
    assert agx.systemctl("stop", "once").returncode == 0
    assert agx.systemctl("is-active", "once").returncode == 3
    log = agx.lines("journalctl", "-u", "once", "-o", "cat", "--no-pager")
    assert log == ["Starting Once...", "begun", "Finished Once.", "ended", "Stopped Once."]
    assert agx.lines("journalctl", "-u", "once", "-n", "1", "-o", "cat") == ["Stopped Once."]


def test_oneshot_that_fails(agx: SimBox) -> None:
    once(agx)
    agx.put("fail", "")
    done = agx.systemctl("start", "once")
    assert done.returncode == 1
    assert "control process exited with error code" in done.stderr
    shown = agx.systemctl("show", "once", "-p", "ActiveState,Result,ExecMainStatus").stdout
    assert shown == "ActiveState=failed\nResult=exit-code\nExecMainStatus=1\n"
    assert agx.systemctl("is-failed", "once").returncode == 0
    assert agx.systemctl("--failed", "--plain", "--no-legend").stdout.startswith("once.service ")
    agx.systemctl("reset-failed", "once")
    assert agx.systemctl("is-failed", "once").returncode == 1


def test_oneshot_out_of_time(agx: SimBox) -> None:
    once(agx, "[Service]\nType=oneshot\nExecStart=/bin/sleep 60\nTimeoutStartSec=200ms\n")
    assert agx.systemctl("start", "once").returncode == 1
    assert agx.prop("once.service", "Result") == "timeout"


def test_conditions_skip_a_unit(agx: SimBox) -> None:
    once(agx, "[Unit]\nConditionPathExists=/flag\n" + ONESHOT.split("\n", 1)[1])
    assert agx.systemctl("start", "once").returncode == 0
    assert agx.systemctl("is-active", "once").returncode == 3
    agx.put("flag", "")
    agx.systemctl("start", "once")
    assert agx.systemctl("is-active", "once").returncode == 0


def test_nvpmodel_service_is_dead_after_boot_and_isolate_runs_it_again(agx: SimBox) -> None:
    assert agx.systemctl("is-active", "nvpmodel").returncode == 3
    once(agx)
    agx.systemctl("enable", "--now", "once")
    agx.say("jetson_clocks")
    assert agx.systemctl("isolate", "multi-user.target").returncode == 0
    # The clocks are gone, and nothing shows it but sysfs: the other unit is still "active".
    assert agx.locked() == (False, False, True)
    assert agx.systemctl("is-active", "once").returncode == 0


def test_drop_ins_and_daemon_reload(agx: SimBox) -> None:
    once(agx)
    agx.systemctl("start", "once")
    assert agx.prop("once.service", "NeedDaemonReload") == "no"
    agx.put("etc/systemd/system/once.service.d/name.conf", "[Unit]\nDescription=Renamed\n")
    assert agx.prop("once.service", "NeedDaemonReload") == "yes"
    agx.systemctl("daemon-reload")
    assert agx.prop("once.service", "NeedDaemonReload") == "no"
    assert agx.prop("once.service", "Description") == "Renamed"
    drop_in = "/etc/systemd/system/once.service.d/name.conf"
    assert agx.prop("once.service", "DropInPaths") == drop_in
    assert f"# {drop_in}\n" in agx.systemctl("cat", "once").stdout


def test_mask(agx: SimBox) -> None:
    (agx.root / "etc/systemd/system/nvpower.service").rename(agx.root / "kept")
    assert agx.systemctl("mask", "nvpower").returncode == 0
    assert agx.systemctl("is-enabled", "nvpower").stdout == "masked\n"
    agx.systemctl("stop", "nvpower")
    done = agx.systemctl("start", "nvpower")
    assert (done.returncode, "is masked" in done.stderr) == (1, True)
    agx.systemctl("unmask", "nvpower")
    assert agx.prop("nvpower.service", "LoadState") == "not-found"


def test_show_of_several_units_is_parted_by_empty_lines(agx: SimBox) -> None:
    done = agx.systemctl("show", "-p", "Id", "-p", "LoadState", "nvpmodel", "nope")
    assert done.stdout == (
        "Id=nvpmodel.service\nLoadState=loaded\n\nId=nope.service\nLoadState=not-found\n"
    )


def test_get_default_and_version(agx: SimBox) -> None:
    assert agx.systemctl("get-default").stdout == "multi-user.target\n"
    agx.systemctl("set-default", "graphical.target")
    assert agx.systemctl("get-default").stdout == "graphical.target\n"
    assert agx.systemctl("--version").stdout.startswith("systemd 249 ")


def test_changes_need_root(agx: SimBox) -> None:
    done = agx.run("systemctl", "start", "nvpower", ISHOWTTS_SIM_UID="1000")
    assert done.returncode == 4
    assert agx.run("systemctl", "is-active", "nvpower", ISHOWTTS_SIM_UID="1000").returncode == 0


def test_reboot_is_asked_for_and_not_done(agx: SimBox) -> None:
    assert agx.systemctl("reboot").returncode == 0
    assert (agx.root / "run/reboot-requested").exists()


def test_journalctl_of_the_kernel_and_of_everything(agx: SimBox) -> None:
    line = "2026-01-02T03:04:05.000006 kernel: cpufreq: cpu0,cur:862000,set:1728000\n"
    agx.put("var/log/ishowtts-sim/kernel.log", line)
    once(agx)
    agx.systemctl("start", "once")
    text = agx.lines("journalctl", "-k", "--no-pager")
    assert text == ["Jan 02 03:04:05 orin-sim kernel: cpufreq: cpu0,cur:862000,set:1728000"]
    everything = agx.lines("journalctl", "-o", "cat", "--no-pager")
    assert everything[0].startswith("cpufreq:")
    assert "begun" in everything
    assert agx.run("journalctl", "--frobnicate").returncode == 1
