"""jetson-stats' real service on a simulated Jetson, with `monitor` and `doctor` as its neighbours.

The service is the one of the package, started from its own unit file: it finds the board's GPU,
sensors, fan, nvpmodel and jetson_clocks at their real paths. Three things that only a Jetson has
stand in, in `BINARY` and `FAN_CONF` below: the name of its processor (this machine's is told to no
program that asks the kernel), a Python that is part of the system, and NVIDIA's description of the
fan, without which jetson-stats 7.2.2 fails as soon as a client comes (KeyError 'profile'). What
cannot be had here is what it asks NVML, which has no device: on JetPack 6 it asks sysfs instead.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, eventually, new_box
from tests.support.program import VENV

SERVICE = "jtop.service"
TEMPLATE = Path(sysconfig.get_path("data")) / "share/jetson_stats/jtop.service"
LOAD = "/sys/devices/platform/bus@0/17000000.gpu/load"
VIEWER, STRANGER = "viewer", "stranger"

BINARY = f"""#!{VENV}/bin/python
# jtop as pip installs it, told that it runs on a Jetson's processor and the system's Python.
import platform, sys
platform.machine = lambda: "aarch64"
sys.base_prefix = "/usr"
from jtop.__main__ import main
sys.exit(main())
"""
FAN_CONF = """\
<FAN 1>
\tFAN_PROFILE quiet {
\t\t50 0 77 2000
\t}
\tFAN_PROFILE cool {
\t\t35 0 77 2000
\t}
\tFAN_DEFAULT_PROFILE quiet
"""
ASK = """
import json
from jtop import jtop
with jtop(interval=0.5) as found:
    assert found.ok()
    print(json.dumps({
        "mode": found.nvpmodel.name,
        "clocks": found.jetson_clocks.status,
        "gpu": found.gpu["gpu"]["status"]["load"],
        "l4t": found.board["hardware"]["L4T"],
    }))
"""
SET_BOOT = """
from jtop import jtop
with jtop(interval=0.5) as found:
    assert found.ok()
    found.jetson_clocks.boot = {value}
"""

pytestmark = pytest.mark.skipif(not TEMPLATE.is_file(), reason="jetson-stats has no unit file here")


@pytest.fixture(scope="module")
def box(base: Path) -> Iterator[Box]:
    """A box whose GPU is 43.7 % busy, which only root and jtop's service can read."""
    with new_box(BOARD) as made:
        made.boot()
        made.write("/usr/local/bin/jtop", BINARY, 0o755)
        made.write(f"/etc/systemd/system/{SERVICE}", TEMPLATE.read_text(encoding="utf-8"))
        made.write("/etc/nvfancontrol.conf", FAN_CONF)
        made.exec("groupadd", "jtop")
        made.exec("useradd", "--groups=jtop", VIEWER)
        made.exec("useradd", STRANGER)
        made.exec("sh", "-c", f"echo 437 >{LOAD}; chmod 600 {LOAD}")
        made.systemctl("daemon-reload")
        start(made)
        yield made


def start(box: Box) -> None:
    box.systemctl("restart", SERVICE)
    eventually(
        lambda: (
            "service ready" in box.journal(SERVICE)
            and box.exec("test", "-S", "/run/jtop.sock", check=False).returncode == 0
        ),
        "jtop's service is ready",
        60,
        lambda: box.why(SERVICE),
    )


def look(box: Box, user: str | None = None) -> dict[str, Any]:
    """`monitor --json`, which must come to an end whatever jtop does."""
    done = box.ops("monitor", "--json", user=user, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)["data"]
    return found


def python(box: Box, code: str) -> str:
    return box.exec(f"{VENV}/bin/python", "-c", code).stdout


def test_the_real_service_knows_this_box(box: Box) -> None:
    """What it says agrees with what we read ourselves."""
    told = json.loads(python(box, ASK))
    ours = look(box)
    assert told["mode"] == ours["mode"] == "MODE_30W"
    assert told["l4t"] == "36.4.0"
    assert told["gpu"] == ours["gpu_percent"] == 43.7
    assert ours["gpu_source"] == "sysfs", "root reads the file"
    assert box.state(SERVICE) == "active/running", box.why(SERVICE)


def test_monitor_asks_it_for_what_it_may_not_read(box: Box) -> None:
    found = look(box, VIEWER)
    assert (found["gpu_percent"], found["gpu_source"]) == (43.7, "jtop"), box.why(SERVICE)


def test_who_is_not_in_its_group_is_not_disturbed_by_it(box: Box) -> None:
    found = look(box, STRANGER)
    assert found["gpu_source"] in (None, "tegrastats")
    assert found["mode"] == "MODE_30W"


def test_doctor_finds_the_lock_that_it_was_told_to_set_at_boot(box: Box) -> None:
    """Set as a person sets it, through jtop; the file is written by its service."""

    def rivals() -> str:
        return box.ops("doctor", check=False).stdout

    assert "jtop runs jetson_clocks" not in rivals()
    try:
        python(box, SET_BOOT.format(value=True))
        eventually(lambda: "jtop" in rivals(), "doctor names jtop", 20, rivals)
        assert "jetson_clocks.boot" in rivals()
        assert '"boot": true' in box.read("/usr/local/jtop/config.json")
    finally:
        python(box, SET_BOOT.format(value=False))
    eventually(lambda: "jetson_clocks.boot" not in rivals(), "it is in order again", 20, rivals)


def test_a_service_that_hangs_costs_seconds_and_one_that_ends_nothing(box: Box) -> None:
    """jtop's own client waits for ever for a service that hangs."""
    box.systemctl("kill", "--signal=STOP", SERVICE)
    try:
        assert look(box, VIEWER)["gpu_source"] != "jtop"
    finally:
        box.systemctl("kill", "--signal=CONT", SERVICE)
        start(box)
    assert look(box, VIEWER)["gpu_source"] == "jtop"
    box.systemctl("kill", "--signal=KILL", SERVICE)
    box.systemctl("stop", SERVICE)
    assert box.exec("test", "-S", "/run/jtop.sock", check=False).returncode == 0, "left behind"
    assert look(box, VIEWER)["gpu_source"] != "jtop"
    start(box)
    assert look(box, VIEWER)["gpu_source"] == "jtop"


def test_a_service_that_ends_while_we_watch(box: Box) -> None:
    """The readings go on, from another source, and do not show the last figure for ever."""
    words = ["monitor", "--count", "14", "--interval", "0.5", "--log", "/tmp/watched.log"]
    running = box.spawn(f"{VENV}/bin/ishowtts-ops", *words, user=VIEWER)
    eventually(
        lambda: '"gpu_source": "jtop"' in box.exec("cat", "/tmp/watched.log", check=False).stdout,
        "jtop is the source",
        30,
    )
    box.systemctl("stop", SERVICE)
    done = running.wait(60)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in box.exec("cat", "/tmp/watched.log").stdout.splitlines()]
    assert rows[0]["gpu_source"] == "jtop"
    assert rows[-1]["gpu_source"] != "jtop"
    start(box)
