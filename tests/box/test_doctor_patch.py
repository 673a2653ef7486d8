"""Lock, unit, patch and daemon broken on a live box with the real engine: doctor names each,
`--fix` mends it, and doctor is content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.host import Host
from ishowtts_ops.sim.checkout import VOICES, make_checkout
from tests.box.conftest import BOARD
from tests.support import rootfs
from tests.support.container import Box, new_box
from tests.support.installed import (
    DAEMON,
    GPU,
    GUARD_TIMER,
    Daemon,
    configure,
    envelope,
    unlocked,
)

CHECKOUT = "/opt/ishowtts"
SUBMODULE = f"{CHECKOUT}/third_party/F5-TTS"
GIT = f"git -c safe.directory='*' -C {SUBMODULE}"
LOST = f"{GIT} checkout --quiet --force HEAD && rm -r {SUBMODULE}/src/f5_tts/fast"
"""What `git submodule update --force` does to the series."""

BREAKAGES = {
    "lock": ("clocks-gpu", f"echo 306000000 > {GPU}/min_freq"),
    "unit": ("units-installed", f"rm /etc/systemd/system/{GUARD_TIMER}"),
    "patch": ("patch-state", LOST),
    "daemon": ("daemon-running", f"systemctl stop {DAEMON}"),
}


@pytest.fixture(scope="module")
def installed(base: Path) -> Iterator[tuple[Box, Daemon]]:
    with new_box(BOARD) as box:
        box.boot()
        make_checkout(
            Host.at(box.root),
            box_path=CHECKOUT,
            version="1.1.9",
            cache=rootfs.cache_folder() / "wheels",
            voices=VOICES[:2],  # every start warms each of them
        )
        daemon = configure(
            box,
            engine={"kind": "f5"},
            f5={"weights": "random", "nfe": 7, "device": "cpu"},
            power={"guard_seconds": 3600},
        )
        box.ops("install", "--yes", timeout=280)
        box.reboot()
        box.ops("install", "--yes", timeout=280)
        yield box, daemon


def complaints(box: Box) -> dict[str, list[str]]:
    """Checks that complain of what stands alone → those that follow from it."""
    report: dict[str, Any] = envelope(box.ops("doctor", "--json", check=False).stdout)["data"]
    bad = [f for f in report["findings"] if f["severity"] in ("warn", "error")]
    alone: dict[str, list[str]] = {f["check"]: [] for f in bad if f["because"] is None}
    for finding in bad:
        if finding["because"] is not None:
            alone[finding["because"]].append(finding["check"])
    return alone


@pytest.mark.parametrize("what", [*BREAKAGES, "all of it"])
def test_broken_named_mended(installed: tuple[Box, Daemon], what: str) -> None:
    box, daemon = installed
    broken = [BREAKAGES[what]] if what in BREAKAGES else list(BREAKAGES.values())
    assert complaints(box) == {}
    for _, command in broken:
        done = box.exec("sh", "-c", command)
        assert done.returncode == 0, done.stderr
    assert set(complaints(box)) == {check for check, _ in broken}
    done = box.ops("doctor", "--fix", "--yes", check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert complaints(box) == {}
    assert unlocked(box) == []
    assert daemon.ready()
    assert daemon.say("And it goes on.", voice="guest").status_code == 200
