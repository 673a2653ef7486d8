from __future__ import annotations

from ishowtts_ops.sim.boot import reboot_folder
from tests.service.sim.sim_box import SimBox

LOCK = """\
[Unit]
Description=Clock lock
After=nvpmodel.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/jetson_clocks

[Install]
WantedBy=multi-user.target
"""
DAEMON = """\
[Unit]
Description=Daemon
After=lock.service
Wants=lock.service

[Service]
ExecStart=/bin/sh -c 'cat "$$ISHOWTTS_BOX_ROOT"/sys/class/devfreq/*.gpu/min_freq; exec sleep 60'

[Install]
WantedBy=multi-user.target
"""


def install(box: SimBox) -> None:
    box.unit("lock.service", LOCK)
    box.unit("daemon.service", DAEMON.replace("$$", "$"))
    box.systemctl("enable", "lock", "daemon")


def test_reboot_takes_the_lock_away_and_brings_back_what_is_enabled(serving: SimBox) -> None:
    serving.say("jetson_clocks")
    reboot_folder(serving.root)
    assert serving.locked() == (False, False, False)
    install(serving)
    reboot_folder(serving.root)
    assert serving.locked() == (True, True, True)
    assert serving.gpu("min") == 612000000
    assert serving.systemctl("is-active", "lock", "daemon").stdout == "active\nactive\n"
    # The daemon came after the lock, and the lock after the mode: it saw locked clocks.
    log = serving.lines("journalctl", "-u", "daemon", "-b", "-o", "cat")
    assert log == ["Starting Daemon...", "Started Daemon.", "612000000"] or log == [
        "Starting Daemon...",
        "612000000",
        "Started Daemon.",
    ]


def test_reboot_applies_a_staged_mode(serving: SimBox) -> None:
    install(serving)
    serving.say("nvpmodel", "-m", "0", stdin="yes\n")
    reboot_folder(serving.root)
    assert serving.say("nvpmodel", "-q") == (0, "NV Power Mode: MAXN\n0\n")
    assert (serving.cpu(0, "min"), serving.gpu("min")) == (2201600, 1300500000)
    assert not (serving.root / "run/reboot-requested").exists()


def test_a_gpu_that_is_late_spoils_the_boot(serving: SimBox) -> None:
    install(serving)
    serving.put("etc/ishowtts-sim.d/gpu-late", "calls 1\n")
    reboot_folder(serving.root)
    # The lock unit is content: the tool it ran ended with 0.
    assert serving.systemctl("is-active", "lock").returncode == 0
    assert "Error: Failed to max GPU frequency!" in serving.lines(
        "journalctl", "-u", "lock", "-o", "cat"
    )
    assert serving.cpu(0, "min") == serving.cpu(0, "max")
    serving.say("jetson_clocks")
    assert serving.locked() == (True, True, True)


def test_a_daemon_is_stopped_by_the_reboot(serving: SimBox) -> None:
    install(serving)
    serving.systemctl("start", "daemon")
    first = serving.prop("daemon.service", "MainPID")
    reboot_folder(serving.root)
    assert serving.prop("daemon.service", "MainPID") not in ("0", first)
    assert "Stopped Daemon." in serving.lines("journalctl", "-u", "daemon", "-o", "cat")
    assert "Stopped Daemon." not in serving.lines("journalctl", "-u", "daemon", "-b", "-o", "cat")


def test_an_ordering_cycle_costs_the_unit_its_job(serving: SimBox) -> None:
    serving.unit("lock.service", LOCK.replace("After=nvpmodel", "After=multi-user.target nvpmodel"))
    serving.systemctl("enable", "lock")
    reboot_folder(serving.root)
    assert serving.systemctl("is-active", "lock").returncode == 3
    assert any(
        "Job lock.service/start deleted" in line
        for line in serving.lines("journalctl", "-k", "-o", "cat")
    )
