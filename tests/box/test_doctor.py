"""Something breaks on a live box; doctor names it, `--fix` mends it, and then doctor is content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support import tree
from tests.support.container import Box, new_box
from tests.support.installed import (
    CLOCKS,
    DAEMON,
    GPU,
    GUARD_TIMER,
    Daemon,
    complaining,
    configure,
    install,
    mode_name,
    unlocked,
)

UNIT_FILE = f"/etc/systemd/system/{DAEMON}"
MANIFEST = "/var/lib/ishowtts-ops/engine.json"


@pytest.fixture(scope="module")
def installed(base: Path) -> Iterator[tuple[Box, Daemon]]:
    with new_box(BOARD) as box:
        box.boot()
        # The guard would mend the lock before doctor could see it.
        daemon = configure(box, power={"guard_seconds": 3600})
        install(box)
        yield box, daemon


def test_a_box_just_installed_is_well(installed: tuple[Box, Daemon]) -> None:
    box, _ = installed
    done = box.ops("doctor")
    assert done.stderr == ""
    assert complaining(box) == set()


def test_looking_changes_nothing(installed: tuple[Box, Daemon]) -> None:
    box, _ = installed
    before = box.tree_snapshot()
    box.ops("doctor")
    box.ops("doctor", "--verbose")
    box.ops("status")
    assert tree.differences(before, box.tree_snapshot()) == []


def test_an_ordinary_user_may_look(installed: tuple[Box, Daemon]) -> None:
    """What only root can read is said to be unknown, not guessed at."""
    box, _ = installed
    done = box.ops("doctor", check=False, user="nobody")
    assert done.returncode in (0, 3), done.stdout
    assert "Traceback" not in done.stderr
    assert "clock" in done.stdout
    refused = box.ops("doctor", "--fix", "--yes", check=False, user="nobody")
    assert "Traceback" not in refused.stderr


BREAKAGES = {
    "lock": ("clocks-gpu", f"echo 306000000 > {GPU}/min_freq"),
    "mode": ("power-mode", "nvpmodel -m 3"),
    "unit edited": ("units-drift", f"sed -i s/^WatchdogSec=.*/WatchdogSec=0/ {UNIT_FILE}"),
    "unit gone": ("units-installed", f"rm /etc/systemd/system/{CLOCKS}; systemctl daemon-reload"),
    "unit disabled": ("units-enabled", f"systemctl disable -q {DAEMON}"),
    "guard off": ("units-guard", f"systemctl stop {GUARD_TIMER}"),
    "daemon stopped": ("daemon-running", f"systemctl stop {DAEMON}"),
    "daemon masked by failures": (
        "daemon-running",
        f"systemctl kill -s STOP {DAEMON}; systemctl kill -s KILL {DAEMON}; "
        f"systemctl stop {DAEMON}",
    ),
    "manifest gone": ("config-manifest", f"rm {MANIFEST}"),
    "manifest damaged": ("config-manifest", f"echo '{{' > {MANIFEST}"),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_broken_found_and_mended(installed: tuple[Box, Daemon], what: str) -> None:
    box, daemon = installed
    check, command = BREAKAGES[what]
    box.exec("sh", "-c", command)
    assert check in complaining(box)
    done = box.ops("doctor", "--fix", "--yes", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaining(box) == set()
    assert unlocked(box) == []
    assert mode_name(box) == "MAXN"
    assert daemon.ready()
    assert box.systemctl("is-enabled", DAEMON).stdout.strip() == "enabled"


def test_all_at_once(installed: tuple[Box, Daemon]) -> None:
    box, daemon = installed
    box.exec(
        "sh",
        "-c",
        f"systemctl disable --now {DAEMON} {GUARD_TIMER} {CLOCKS}; rm {UNIT_FILE} {MANIFEST};"
        " nvpmodel -m 0",
    )
    assert {"clocks-gpu", "units-installed", "config-manifest"} <= complaining(box)
    done = box.ops("doctor", "--fix", "--yes", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaining(box) == set()
    assert daemon.say("Everything is back.").status_code == 200


def test_what_no_step_can_mend_it_only_says(installed: tuple[Box, Daemon]) -> None:
    """Heat: no command of ours makes the room cooler, and --fix does not pretend."""
    box, _ = installed
    types = box.exec("sh", "-c", "grep -l . /sys/class/thermal/cooling_device*/type").stdout
    alert = next(
        path
        for path in types.split()
        if box.exec("cat", path).stdout.strip() == "gpu-throttle-alert"
    ).replace("/type", "/cur_state")
    box.exec("sh", "-c", f"echo 1 > {alert}")
    assert "heat-throttle" in complaining(box)
    box.ops("doctor", "--fix", "--yes", check=False)
    assert "heat-throttle" in complaining(box)
    box.exec("sh", "-c", f"echo 0 > {alert}")
    assert "heat-throttle" not in complaining(box)


def test_a_rival_is_named_and_leaves_on_request_only(installed: tuple[Box, Daemon]) -> None:
    """Somebody else's service: neither install nor --fix --yes may switch it off by the way."""
    box, _ = installed
    box.write(
        "/etc/systemd/system/tuned.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    )
    box.systemctl("enable", "--now", "tuned.service")
    assert "rivals-active" in complaining(box)
    assert "Nothing to do" in box.ops("install", "--yes", check=False).stdout
    box.ops("doctor", "--fix", "--yes")
    assert box.state("tuned.service") == "active/running"
    box.ops("power", "resolve", "--yes")
    assert "rivals-active" not in complaining(box)
    assert box.state("tuned.service") == "inactive/dead"
    assert box.systemctl("is-enabled", "tuned.service", check=False).stdout.strip() != "enabled"
