from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.modules import UNCAPPED, Module, modes_for, module_for
from ishowtts_ops.sim.boards import RELEASES, find_board, simulated_modules
from ishowtts_ops.sim.tools.nvpmodel_conf import parse_conf
from ishowtts_ops.sim.tree import HARDWARE_FOLDERS, board_of, build_box, cold_boot
from tests.service.sim.sim_box import SimBox

BASE = "sys/firmware/devicetree/base"


def test_identity_of_an_agx(agx: SimBox) -> None:
    raw = (agx.root / BASE / "compatible").read_bytes()
    assert raw.endswith(b"\0")
    assert raw.split(b"\0")[0] == b"nvidia,p3737-0000+p3701-0005"
    assert b"nvidia,tegra234" in raw.split(b"\0")
    model = (agx.root / BASE / "model").read_bytes()
    assert model == b"NVIDIA Jetson AGX Orin Developer Kit\0"
    assert (agx.root / "proc/device-tree/model").read_bytes() == model
    assert (
        agx.read("etc/nv_tegra_release")
        .splitlines()[0]
        .startswith("# R36 (release), REVISION: 4.0, GCID: ")
    )
    assert 'VERSION_ID="22.04"' in agx.read("etc/os-release")
    marker = json.loads(agx.read("etc/ishowtts-sim.json"))
    assert marker["stand_in"] is True
    assert "no NVIDIA hardware" in marker["note"]


def test_release_lines_as_boxes_print_them() -> None:
    assert RELEASES["35.3.1"].first_line == (
        "# R35 (release), REVISION: 3.1, GCID: 32790763, BOARD: t186ref, EABI: aarch64, "
        "DATE: Wed Mar 15 07:54:12 UTC 2023"
    )
    assert RELEASES["36.4.3"].first_line == (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Wed Jan  8 01:49:37 UTC 2025"
    )


def test_a_fresh_box_has_its_default_mode_and_no_locks(agx: SimBox, nano: SimBox) -> None:
    assert (agx.root / "var/lib/nvpmodel/status").read_bytes() == b"pmode:0002"
    assert (nano.root / "var/lib/nvpmodel/status").read_bytes() == b"pmode:0001"
    for box in (agx, nano):
        assert box.locked() == (False, False, False)
        assert box.cpu(0, "min") == 729600
        assert box.gpu("min") == 306000000
    assert agx.read("sys/devices/system/cpu/online") == "0-7"
    assert agx.read("sys/devices/system/cpu/offline") == "8-11"
    assert (agx.cpu(0, "max"), agx.gpu("max")) == (1728000, 612000000)
    assert (nano.cpu(0, "max"), nano.gpu("max")) == (1344000, 918000000)
    assert nano.read("sys/kernel/nvpmodel_clk_cap/emc") == "3199000000"


def test_gpu_paths_of_r36(agx: SimBox) -> None:
    link = agx.root / "sys/class/devfreq/17000000.gpu"
    assert link.is_symlink()
    assert "sys/devices/platform/" in str(link.resolve())
    for path in (
        "sys/devices/platform/gpu.0/tpc_pg_mask",
        "sys/devices/platform/17000000.gpu/devfreq_dev/min_freq",
        "sys/class/devfreq/17000000.gpu/device/load",
    ):
        assert agx.number(path) >= 0
    steps = agx.read("sys/class/devfreq/17000000.gpu/available_frequencies").split()
    assert steps[0] == "306000000"
    assert steps[-1] == "1300500000"


def test_paths_of_r35(fast_path: Path) -> None:
    build_box(fast_path / "b", "agx-orin-64@35.3.1")
    box = SimBox(fast_path / "b")
    assert box.number("sys/devices/17000000.ga10b/devfreq/17000000.ga10b/min_freq") == 306000000
    assert box.number("sys/devices/gpu.0/tpc_pg_mask") == 240
    assert box.read("sys/kernel/nvpmodel_emc_cap/emc_iso_cap") == "0"
    assert not (box.root / "sys/kernel/nvpmodel_clk_cap").exists()
    zones = [p.read_text().strip() for p in box.root.glob("sys/class/thermal/*/type")]
    assert "CPU-therm" in zones
    assert not (box.root / "usr/bin/nvidia-smi").exists()


def test_cpu_clusters(agx: SimBox, nano: SimBox) -> None:
    cpu = "sys/devices/system/cpu"
    assert sorted(os.listdir(agx.root / cpu / "cpufreq")) == ["policy0", "policy4", "policy8"]
    assert sorted(os.listdir(nano.root / cpu / "cpufreq")) == ["policy0", "policy4"]
    assert nano.read(f"{cpu}/cpufreq/policy4/related_cpus") == "4 5"
    assert os.readlink(agx.root / cpu / "cpu9/cpufreq") == "../cpufreq/policy8"
    assert agx.read(f"{cpu}/cpu0/cpuidle/state1/name") == "c7"


def test_sensors(agx: SimBox) -> None:
    thermal = agx.root / "sys/class/thermal"
    zones = {(z / "type").read_text().strip(): z for z in thermal.glob("thermal_zone*")}
    assert {"cpu-thermal", "gpu-thermal", "tj-thermal"} <= set(zones)
    assert (zones["cpu-thermal"] / "trip_point_0_temp").read_text() == "99000\n"
    assert (zones["cpu-thermal"] / "trip_point_1_temp").read_text() == "104500\n"
    assert (zones["cv0-thermal"] / "temp").read_text() == "-256000\n"
    with pytest.raises(OSError, match="directory"):
        (zones["cv2-thermal"] / "temp").read_text()
    kinds = {p.read_text().strip() for p in thermal.glob("cooling_device*/type")}
    assert {"cpu-throttle-alert", "gpu-throttle-alert", "devfreq-17000000.gpu"} <= kinds
    monitors = {p.read_text().strip() for p in agx.root.glob("sys/class/hwmon/*/name")}
    assert monitors == {"ina3221", "soctherm_oc", "pwmfan", "pwm_tach"}
    counters = list(agx.root.glob("sys/class/hwmon/*/oc*_event_cnt"))
    assert [p.read_text() for p in counters] == ["0\n"] * 3


def test_links_below_sys_hold_wherever_it_is_mounted(agx: SimBox) -> None:
    found = 0
    for folder, names, files in os.walk(agx.root / "sys"):
        for name in (*names, *files):
            path = Path(folder, name)
            if path.is_symlink():
                found += 1
                assert not os.readlink(path).startswith("/"), path
                assert agx.root / "sys" in path.resolve().parents, path
    assert found > 20


@pytest.mark.parametrize("module", simulated_modules(), ids=lambda module: module.key)
def test_every_module_can_be_simulated(module: Module, fast_path: Path) -> None:
    build_box(fast_path / "b", module.key, standins=False)
    board = board_of(fast_path / "b")
    raw = (fast_path / "b" / BASE / "compatible").read_text().split("\0")
    assert module_for(raw, "") == board.module
    conf = parse_conf((fast_path / f"b/etc/nvpmodel/{board.module.conf_file}").read_text())
    wanted = [mode for mode in modes_for(board.module) if not mode.optional]
    assert [(m.id, m.name) for m in conf.modes] == [(m.id, m.name) for m in wanted]
    assert conf.default == board.module.default_mode.id
    for ours, mode in zip(conf.modes, wanted, strict=True):
        assert ours.value("GPU", "MAX_FREQ") == str(mode.gpu_max_hz)
        assert ours.value("CPU_A78_0", "MAX_FREQ") == str(mode.cpu_max_khz)
        mask = None if mode.tpc_pg_mask is None else str(mode.tpc_pg_mask)
        assert ours.value("TPC_POWER_GATING", "TPC_PG_MASK") == mask
        online = [s.value for s in ours.settings if s.param == "CPU_ONLINE"]
        assert online.count("1") == mode.cores_online
        if mode.emc_max_hz != UNCAPPED:
            assert ours.value("EMC", "MAX_FREQ") == str(mode.emc_max_hz)


def test_conf_has_nvpmodels_own_header_for_emc(agx: SimBox) -> None:
    text = agx.read("etc/nvpmodel/nvpmodel_p3701_0000.conf")
    assert "\n<PARAM TYPE=CLOCK NAME=EMC >\n" in text
    assert "\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n" in text
    assert "\n< PM_CONFIG DEFAULT=2 >" in text
    assert os.readlink(agx.root / "etc/nvpmodel.conf") == "/etc/nvpmodel/nvpmodel_p3701_0000.conf"


def test_the_cap_of_a_release(fast_path: Path) -> None:
    for name, cap in (("orin-nx-16@35.3.1", "1651200"), ("orin-nx-16@36.4.4", "1420800")):
        build_box(fast_path / name, name, standins=False)
        conf = parse_conf((fast_path / name / "etc/nvpmodel/nvpmodel_p3767_0000.conf").read_text())
        mode = conf.mode(2)
        assert mode is not None
        assert mode.value("CPU_A78_0", "MAX_FREQ") == cap


def test_cold_boot_takes_modes_and_locks_away_and_keeps_files(agx: SimBox) -> None:
    agx.say("jetson_clocks", "--fan")
    agx.put("etc/somebodys.conf", "kept")
    cold_boot(agx.root)
    assert agx.locked() == (False, False, False)
    assert agx.read("sys/devices/system/cpu/online") == "0-11"
    assert (agx.cpu(0, "max"), agx.gpu("max")) == (2201600, 1300500000)
    assert agx.number("sys/devices/platform/gpu.0/tpc_pg_mask") == 0
    assert agx.number("sys/devices/system/cpu/cpu0/cpuidle/state1/disable") == 0
    assert agx.read("etc/somebodys.conf") == "kept"
    assert agx.read("var/lib/nvpmodel/status") == "pmode:0002"


def test_cold_boot_keeps_the_folders_that_are_mounted(agx: SimBox) -> None:
    before = [(agx.root / folder).stat().st_ino for folder in HARDWARE_FOLDERS]
    cold_boot(agx.root)
    assert [(agx.root / folder).stat().st_ino for folder in HARDWARE_FOLDERS] == before


def test_a_tree_for_a_container_leaves_the_rest_to_it(fast_path: Path) -> None:
    root = fast_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("debian")
    build_box(root, "agx-orin-64", folder=False)
    assert (root / "etc/passwd").read_text() == "debian"
    assert not (root / "proc").exists()
    assert not (root / "usr/bin/systemctl").exists()
    assert os.access(root / "usr/sbin/nvpmodel", os.X_OK)
    unit = (root / "etc/systemd/system/nvpmodel.service").read_text()
    assert "Type=oneshot" in unit
    assert "RemainAfterExit" not in unit
    assert (root / "etc/systemd/system/multi-user.target.wants/nvpmodel.service").is_symlink()


def test_building_twice_is_building_once(agx: SimBox) -> None:
    agx.say("jetson_clocks")
    build_box(agx.root, "agx-orin-64")
    assert agx.locked() == (False, False, False)


def test_running_tools_leaves_no_bytecode_behind(agx: SimBox) -> None:
    def files() -> set[Path]:
        return set((agx.root / "usr").rglob("*"))

    before = files()
    agx.say("nvpmodel", "-q")
    agx.systemctl("is-active", "nvpmodel.service")
    assert files() == before


def test_a_folder_with_other_things_is_refused(fast_path: Path) -> None:
    (fast_path / "letters.txt").write_text("dear")
    with pytest.raises(OpsError, match="files in it"):
        build_box(fast_path, "agx-orin-64")
    with pytest.raises(OpsError, match="this machine"):
        build_box(Path("/"), "agx-orin-64", folder=False)
    with pytest.raises(OpsError, match="not a simulated box"):
        cold_boot(fast_path)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("toaster", "No board 'toaster'"),
        ("agx-thor-t5000@36.4.3", "does not run on L4T 36.4.3"),
        ("agx-thor-t5000@35.3.1", "does not run on L4T 35.3.1"),
        ("agx-orin-64@1.2.3", "Release '1.2.3'"),
        ("orin-nano-super@35.3.1", "does not run on L4T 35.3.1"),
    ],
)
def test_boards_that_cannot_be(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        find_board(name)
    assert caught.value.hint
