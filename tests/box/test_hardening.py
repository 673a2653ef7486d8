"""The daemon's sandbox and a Jetson's device nodes: those of the GPU can be opened from inside the
unit, others cannot. The nodes have the names L4T gives them; no driver is behind them, so a node
that may be opened answers ENXIO or ENODEV (no such device) and one that may not EPERM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.conftest import BOARD
from tests.support.container import Box, new_box
from tests.support.installed import DAEMON, configure

GPU_NODES = {
    "/dev/nvmap": (240, 1),
    "/dev/nvhost-ctrl": (241, 0),
    "/dev/nvhost-ctrl-gpu": (241, 1),
    "/dev/nvhost-gpu": (241, 2),
    "/dev/nvhost-as-gpu": (241, 3),
    "/dev/nvgpu/igpu0/ctrl": (242, 0),
    "/dev/nvidia0": (195, 0),
    "/dev/nvidiactl": (195, 255),
    "/dev/dri/renderD128": (243, 128),
}
OTHERS = {"/dev/mmcblk0-like": (244, 0), "/dev/video0": (245, 0), "/dev/nvme-like": (246, 0)}
NO_DRIVER = {"ENXIO", "ENODEV"}
PROBE = """
import errno, json, os, sys
found = {}
for path in sys.argv[2:]:
    try:
        os.close(os.open(path, os.O_RDWR))
        found[path] = "opened"
    except OSError as error:
        found[path] = errno.errorcode[error.errno]
open(sys.argv[1], "w").write(json.dumps(found))
"""
SCRIPT = "/usr/local/lib/probe.py"
DROP_IN = f"/etc/systemd/system/{DAEMON}.d/probe.conf"


def _let_systemd_guard_devices(box: Box) -> None:
    """In a container, a kernel with cgroups of version 1 gives systemd no hand in devices until the
    hierarchy, which is the box's own, may be written; version 2 needs no help."""
    folder = "/sys/fs/cgroup/devices"
    if box.exec("test", "-d", folder, check=False).returncode == 0:
        box.exec("mount", "-o", "remount,bind,rw", folder)
        box.systemctl("daemon-reexec")


@pytest.fixture(scope="module")
def probed(base: Path) -> Iterator[tuple[Box, dict[str, str]]]:
    """A box with nodes, and what the unit's own processes can do with each."""
    with new_box(BOARD) as box:
        box.boot()
        _let_systemd_guard_devices(box)
        for path, (major, minor) in {**GPU_NODES, **OTHERS}.items():
            box.exec("mkdir", "-p", path.rpartition("/")[0])
            box.exec("mknod", "-m", "666", path, "c", str(major), str(minor))
        configure(box)
        box.ops("install", "--yes")
        box.write(SCRIPT, PROBE)
        nodes = " ".join([*GPU_NODES, *OTHERS])
        # Before the daemon and in its sandbox: systemd gives both the same.
        box.write(
            DROP_IN,
            "[Service]\nExecStartPre=/usr/bin/env python3 "
            f"{SCRIPT} ${{STATE_DIRECTORY}}/probe.json {nodes}\n",
        )
        box.systemctl("daemon-reload")
        box.systemctl("restart", DAEMON)
        found = json.loads(box.exec("cat", "/var/lib/ishowtts-tts/probe.json").stdout)
        yield box, found


def test_the_gpus_nodes_are_rendered_and_no_others(probed: tuple[Box, dict[str, str]]) -> None:
    box, _ = probed
    assert box.show(DAEMON, "DevicePolicy")["DevicePolicy"] == "closed"
    shown = box.exec("systemctl", "show", "--property=DeviceAllow", "--value", DAEMON).stdout
    allowed = {line.split()[0] for line in shown.splitlines() if line.strip()}
    # ProtectClock= lets the clock be read.
    assert allowed - {"char-rtc"} == set(GPU_NODES)


def test_the_gpus_nodes_can_be_opened(probed: tuple[Box, dict[str, str]]) -> None:
    _, found = probed
    assert {found[node] for node in GPU_NODES} <= NO_DRIVER, found


def test_others_cannot(probed: tuple[Box, dict[str, str]]) -> None:
    box, found = probed
    free = box.exec("python3", SCRIPT, "/tmp/probe.json", *OTHERS, check=False)
    assert free.returncode == 0, free.stderr
    outside = json.loads(box.exec("cat", "/tmp/probe.json").stdout)
    assert set(outside.values()) <= NO_DRIVER, "outside the sandbox they can be"
    assert {found[node] for node in OTHERS} == {"EPERM"}, found
