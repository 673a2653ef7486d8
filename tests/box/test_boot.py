"""What happens at a boot, in which order, and that it is all back after the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.installed import (
    CLOCKS,
    CPU,
    DAEMON,
    GPU,
    Daemon,
    configure,
    fault,
    install,
    mode_name,
    unlocked,
)

SECOND = 1_000_000


@pytest.fixture(scope="module")
def rebooted(base: Path) -> Iterator[tuple[Box, Daemon]]:
    """Installed, then booted anew."""
    with new_box(BOARD) as box:
        box.boot()
        daemon = configure(box)
        install(box)
        yield box, daemon


def _moment(box: Box, unit: str, what: str) -> int:
    """Microseconds since the machine's start; fails when it has not happened in this boot."""
    name = f"{what}TimestampMonotonic"
    value = int(box.show(unit, name)[name])
    assert value > 0, f"{unit} has no {what}"
    return value


def test_mode_then_clocks_then_daemon(rebooted: tuple[Box, Daemon]) -> None:
    box, _ = rebooted
    mode_done = _moment(box, "nvpmodel.service", "ExecMainExit")
    lock_begins = _moment(box, CLOCKS, "ExecMainStart")
    lock_done = _moment(box, CLOCKS, "ActiveEnter")
    daemon_begins = _moment(box, DAEMON, "ExecMainStart")
    daemon_active = _moment(box, DAEMON, "ActiveEnter")
    assert mode_done <= lock_begins < lock_done <= daemon_begins < daemon_active


def test_after_a_reboot_all_is_back(rebooted: tuple[Box, Daemon]) -> None:
    box, daemon = rebooted
    assert box.state(CLOCKS) == "active/exited"
    assert box.state(DAEMON) == "active/running"
    assert mode_name(box) == "MAXN"
    assert unlocked(box) == []
    assert daemon.ready()
    assert daemon.say("Back again.").status_code == 200
    assert box.systemctl("is-system-running").stdout.strip() == "running"


def test_clocks_are_locked_at_the_modules_maximum(rebooted: tuple[Box, Daemon]) -> None:
    """Not at some lower mode's: min equals max there too."""
    box, _ = rebooted
    assert box.read(f"{GPU}/min_freq").strip() == "1300500000"
    assert box.read(f"{CPU}/scaling_min_freq").strip() == "2201600"


def test_a_box_that_booted_needs_no_install(rebooted: tuple[Box, Daemon]) -> None:
    box, _ = rebooted
    assert "Nothing to do" in box.ops("install", "--dry-run").stdout


def test_active_means_warm(box: Box) -> None:
    """systemd calls the unit active when warm-up is over, not when the process is there."""
    daemon = configure(box)
    box.ops("install", "--yes")
    fault(box, "load:3")
    box.systemctl("restart", "--no-block", DAEMON)

    def warming() -> bool:
        answer = daemon.get("/readyz")
        if answer is None or answer.json()["status"] != "warming":
            return False
        assert answer.status_code == 503
        return True

    eventually(warming, "it answers while it warms up", evidence=lambda: box.why(DAEMON))
    assert box.state(DAEMON) == "activating/start"
    assert "load" in box.show(DAEMON, "StatusText")["StatusText"]
    assert daemon.say("Too early.").status_code == 503
    live = daemon.get("/livez")
    assert live is not None and live.status_code == 200
    box.wait_for(DAEMON, "active/running")
    assert daemon.ready()
    warm_up = _moment(box, DAEMON, "ActiveEnter") - _moment(box, DAEMON, "ExecMainStart")
    assert warm_up >= 3 * SECOND


def test_a_gpu_that_comes_late_is_locked_all_the_same(box: Box) -> None:
    """jetson_clocks run too early locks the CPUs, says so with exit 0, and leaves the GPU."""
    configure(box)
    box.ops("install", "--yes")
    box.write("/etc/ishowtts-sim.d/gpu-late", "calls 2\n")
    box.reboot()
    assert box.state(CLOCKS) == "active/exited", box.why(CLOCKS)
    assert unlocked(box) == []
    assert box.state(DAEMON) == "active/running"


def test_a_mode_that_needs_a_reboot_is_staged_and_comes_with_it(box: Box) -> None:
    """The GPU has been used, so the kernel refuses MAXN's power gating now. Nobody answers the
    tool's question whether to reboot with yes; the mode is there after a reboot that a person
    orders."""
    configure(box)
    before = mode_name(box)
    assert before != "MAXN"
    box.exec("sh", "-c", "echo 1 > /sys/kernel/ishowtts-sim/gpu_used")
    boot_id = box.exec("cat", "/proc/sys/kernel/random/boot_id").stdout

    done = box.ops("install", "--yes", check=False)

    assert box.on
    assert box.exec("cat", "/proc/sys/kernel/random/boot_id").stdout == boot_id
    assert "reboot" in (done.stdout + done.stderr).lower()
    box.reboot()
    assert mode_name(box) == "MAXN"
    assert unlocked(box) == []
    assert box.state(DAEMON) == "active/running"
    assert "Nothing to do" in box.ops("install", "--yes").stdout
