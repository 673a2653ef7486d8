from __future__ import annotations

import os
from pathlib import Path

import pytest

from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.sim.faults import FAULTS, apply_fault
from ishowtts_ops.sim.tools.box import Box
from ishowtts_ops.sim.tools.jetson_clocks import lock
from ishowtts_ops.sim.tree import build_box, cold_boot
from tests.service.sim.sim_box import SimBox

NOT_ON_AGX = {"super-plain-caps", "mode-added"}


def snapshot(root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = f"{folder}/{name}"
            if os.path.islink(path):
                found[path] = os.readlink(path).encode()
            elif name in files:
                with open(path, "rb") as file:
                    found[path] = file.read()
            else:
                found[path] = b"folder"
    return found


def test_every_fault_changes_the_box_and_has_one_line(fast_path: Path) -> None:
    for name, fault in FAULTS.items():
        assert fault.text
        assert "\n" not in fault.text
        board = "orin-nano-super" if name in NOT_ON_AGX else "agx-orin-64"
        root = fast_path / name
        build_box(root, board, standins=False)
        lock(Box(root), fan=False)
        if name == "mode-default":
            SimBox(root).put("var/lib/nvpmodel/status", "pmode:0000")
        before = snapshot(root)
        apply_fault(root, name)
        assert snapshot(root) != before, name


def test_unlocked_and_half_locked(nano: SimBox) -> None:
    nano.say("jetson_clocks")
    apply_fault(nano.root, "clocks-rerun")
    assert nano.locked() == (False, False, True)
    nano.say("jetson_clocks")
    apply_fault(nano.root, "emc-unlocked")
    assert nano.locked() == (True, True, False)
    apply_fault(nano.root, "clocks-unlocked")
    assert nano.locked() == (False, False, False)
    apply_fault(nano.root, "clocks-cpu-only")
    assert nano.locked() == (True, False, False)


def test_super_mode_with_the_caps_of_old_firmware(nano: SimBox) -> None:
    nano.say("nvpmodel", "-m", "2")
    apply_fault(nano.root, "super-plain-caps")
    assert nano.say("nvpmodel", "-q") == (0, "NV Power Mode: MAXN_SUPER\n2\n")
    nano.say("jetson_clocks")
    assert (nano.cpu(0, "min"), nano.gpu("min")) == (1510400, 624750000)


def test_a_mode_that_only_some_boards_have(nano: SimBox) -> None:
    assert nano.say("nvpmodel", "-m", "3")[0] == 234
    apply_fault(nano.root, "mode-added")
    assert nano.say("nvpmodel", "-m", "3") == (0, "")
    assert nano.say("nvpmodel", "-q") == (0, "NV Power Mode: 7W\n3\n")
    assert nano.read("sys/devices/system/cpu/online") == "0-3"


def test_over_current_counts_on(nano: SimBox) -> None:
    (counter,) = nano.root.glob("sys/class/hwmon/*/oc2_event_cnt")
    readings = []
    for _ in range(2):
        apply_fault(nano.root, "over-current")
        readings.append(int(counter.read_text()))
    assert 0 < readings[0] < readings[1]
    cold_boot(nano.root)
    assert counter.read_text() == "0\n"


def test_late_gpu_shows_at_the_next_boot(nano: SimBox) -> None:
    apply_fault(nano.root, "gpu-late")
    assert nano.gpu("min") > 0
    cold_boot(nano.root)
    assert nano.say("jetson_clocks")[1] == "Error: Failed to max GPU frequency!\n"


def test_memory_faults_add_up(nano: SimBox) -> None:
    for name in ("low-memory", "swap-heavy", "oom-kills", "gpu-process", "desktop"):
        apply_fault(nano.root, name)
    meminfo = dict(line.split(":") for line in nano.read("proc/meminfo").splitlines())
    kib = {key: int(value.split()[0]) for key, value in meminfo.items()}
    assert kib["MemAvailable"] < kib["MemTotal"] // 40
    assert kib["SwapFree"] < kib["SwapTotal"]
    assert "oom_kill 3" in nano.read("proc/vmstat").splitlines()
    clients = nano.read("sys/kernel/debug/nvmap/iovmm/clients").splitlines()
    assert clients[1].split() == ["user", "vlm-server", "4321", "524288K"]
    assert clients[-1].split() == ["total", "1108736K"]
    assert nano.systemctl("get-default").stdout == "graphical.target\n"


def test_faults_that_do_not_fit(agx: SimBox, fast_path: Path) -> None:
    with pytest.raises(OpsError, match="super"):
        apply_fault(agx.root, "super-plain-caps")
    with pytest.raises(UsageError, match="No fault 'gremlins'"):
        apply_fault(agx.root, "gremlins")
    build_box(fast_path / "c", "agx-orin-64", folder=False)
    with pytest.raises(OpsError, match="does not fit this box"):
        apply_fault(fast_path / "c", "low-memory")
    (fast_path / "empty").mkdir()
    with pytest.raises(OpsError, match="not a simulated box"):
        apply_fault(fast_path / "empty", "hot")
