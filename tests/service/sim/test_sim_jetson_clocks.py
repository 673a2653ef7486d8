from __future__ import annotations

from pathlib import Path

from ishowtts_ops.sim.tree import build_box, cold_boot
from tests.service.sim.sim_box import SimBox

CPU = "sys/devices/system/cpu"
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"


def test_locks_at_the_current_modes_maximum(agx: SimBox) -> None:
    assert agx.say("jetson_clocks") == (0, "")
    assert agx.locked() == (True, True, True)
    assert (agx.cpu(0, "min"), agx.cpu(0, "cur")) == (1728000, 1728000)
    assert (agx.gpu("min"), agx.gpu("cur")) == (612000000, 612000000)
    assert agx.number(f"{EMC}/rate") == 3199000000
    assert agx.read(f"{CPU}/cpu0/cpufreq/scaling_governor") == "schedutil"
    for cpu in (0, 8):
        assert agx.number(f"{CPU}/cpu{cpu}/cpuidle/state0/disable") == 1
    # Cores that the mode has off stay as they were.
    assert (agx.cpu(8, "min"), agx.cpu(8, "max")) == (729600, 2201600)
    assert agx.number("sys/devices/platform/gpu.0/railgate_enable") == 0


def test_emc_is_locked_at_the_modes_cap(nano: SimBox) -> None:
    nano.say("nvpmodel", "-m", "0")
    nano.say("jetson_clocks")
    assert nano.number(f"{EMC}/rate") == 2133000000


def test_show_of_r36_before_and_after(agx: SimBox) -> None:
    lines = agx.lines("jetson_clocks", "--show")
    assert lines[:2] == [
        "SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit",
        "Online CPUs: 0-7",
    ]
    assert (
        "cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=729600 "
        "IdleStates: WFI=1 c7=1 "
    ) in lines
    assert (
        "cpu10: Online=0 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 "
        "IdleStates: WFI=1 c7=1 "
    ) in lines
    assert "GPU MinFreq=306000000 MaxFreq=612000000 CurrentFreq=306000000" in lines
    assert "Active GPU TPCs: 4" in lines
    assert "DLA0_CORE:   Online=1 MinFreq=0 MaxFreq=1369600000 CurrentFreq=1369600000" in lines
    assert "FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=55" in lines
    assert lines[-1] == "NV Power Mode: MODE_30W"
    agx.say("jetson_clocks")
    lines = agx.lines("jetson_clocks", "--show")
    assert (
        "cpu0:  Online=1 Governor=schedutil MinFreq=1728000 MaxFreq=1728000 "
        "CurrentFreq=1728000 IdleStates: WFI=0 c7=0 "
    ) in lines
    assert (
        "cpu8:  Online=0 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 "
        "IdleStates: WFI=0 c7=0 "
    ) in lines
    assert "GPU MinFreq=612000000 MaxFreq=612000000 CurrentFreq=612000000" in lines
    # The memory clock's minimum stays low; that it is locked shows in FreqOverride.
    assert "EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=1" in lines


def test_show_of_r35(fast_path: Path) -> None:
    build_box(fast_path / "b", "agx-orin-64@35.3.1")
    lines = SimBox(fast_path / "b").lines("jetson_clocks", "--show")
    assert any(line.startswith("cpu7: Online=1 Governor=schedutil MinFreq=") for line in lines)
    assert "PVA0_AXI:  Online=1 MinFreq=0 MaxFreq=832000000 CurrentFreq=832000000" in lines
    assert "FAN Dynamic Speed control=active hwmon2_pwm1=55" in lines
    assert not any("TPCs" in line for line in lines)


def test_show_of_r39(fast_path: Path) -> None:
    build_box(fast_path / "b", "agx-orin-64@39.2.1")
    box = SimBox(fast_path / "b")
    box.say("jetson_clocks")
    lines = box.lines("jetson_clocks", "--show")
    assert "Online CPUs: 0-7, Offline CPUs: 8-11" in lines
    assert any(line.startswith("cpu0:  Governor=schedutil MinFreq=1728000 ") for line in lines)
    assert "EMC MinFreq=3199000000 MaxFreq=3199000000 CurrentFreq=3199000000" in lines
    assert "FAN Dynamic Speed Control=nvfancontrol hwmon2_pwm1_enable=1" in lines


def test_needs_root_even_to_show(agx: SimBox) -> None:
    for args in ((), ("--show",), ("--store", "/tmp/x")):
        status, text = agx.say("jetson_clocks", *args, ISHOWTTS_SIM_UID="1000")
        assert status == 1
        assert "root" in text
    assert agx.locked() == (False, False, False)


def test_the_exit_status_lies(agx: SimBox) -> None:
    status, text = agx.say("jetson_clocks", "--frobnicate")
    assert (status, "Usage" in text) == (0, True)
    assert agx.locked() == (False, False, False)
    (agx.root / "sys/class/devfreq/17000000.gpu").unlink()
    assert agx.say("jetson_clocks") == (0, "Error: Failed to max GPU frequency!\n")
    assert agx.cpu(0, "min") == 1728000
    assert agx.number(f"{EMC}/mrq_rate_locked") == 0


def test_no_gpu_and_a_gpu_that_cannot_be_scaled(agx: SimBox) -> None:
    (agx.root / "sys/class/devfreq/17000000.gpu/available_frequencies").unlink()
    assert agx.say("jetson_clocks")[0] == 1
    (agx.root / "sys/devices/platform/gpu.0").unlink()
    assert agx.say("jetson_clocks") == (1, "Error: no GPU found\n")


def test_gpu_late_by_calls(agx: SimBox) -> None:
    agx.put("etc/ishowtts-sim.d/gpu-late", "calls 2\n")
    cold_boot(agx.root)
    assert list((agx.root / "sys/class/devfreq").iterdir()) == []
    for _ in range(2):
        assert agx.say("jetson_clocks") == (0, "Error: Failed to max GPU frequency!\n")
    assert agx.say("jetson_clocks") == (0, "")
    assert agx.locked() == (True, True, True)


def test_gpu_late_by_time(agx: SimBox) -> None:
    agx.put("etc/ishowtts-sim.d/gpu-late", "seconds 0.4\n")
    cold_boot(agx.root)
    assert agx.say("nvpmodel", "-m", "2")[0] == 255
    for _ in range(50):
        if agx.say("nvpmodel", "-m", "2")[0] == 0:
            break
    assert agx.gpu("max") == 612000000
    assert agx.say("jetson_clocks") == (0, "")


def test_store_and_restore(agx: SimBox) -> None:
    before = (agx.cpu(0, "min"), agx.gpu("min"), agx.number(f"{EMC}/rate"), agx.locked())
    assert agx.say("jetson_clocks", "--store", "/var/lib/clocks.conf")[0] == 0
    assert (agx.root / "var/lib/clocks.conf").is_file()
    agx.say("jetson_clocks", "--fan")
    pwm = "sys/class/hwmon/hwmon0/pwm1"
    assert agx.number(pwm) == 255
    assert agx.say("jetson_clocks", "--restore", "/var/lib/clocks.conf") == (0, "")
    after = (agx.cpu(0, "min"), agx.gpu("min"), agx.number(f"{EMC}/rate"), agx.locked())
    assert after == before
    assert agx.number(pwm) == 55
    assert agx.number(f"{CPU}/cpu0/cpuidle/state1/disable") == 0


def test_store_asks_before_it_overwrites(agx: SimBox) -> None:
    agx.put("var/lib/clocks.conf", "mine")
    for answer in ("", "N\n"):
        status, text = agx.say("jetson_clocks", "--store", "/var/lib/clocks.conf", stdin=answer)
        assert (status, "Y/N" in text) == (1, True)
        assert agx.read("var/lib/clocks.conf") == "mine"
    assert agx.say("jetson_clocks", "--store", "/var/lib/clocks.conf", stdin="Y\n")[0] == 0
    assert "scaling_max_freq" in agx.read("var/lib/clocks.conf")


def test_store_goes_below_home_and_without_home_to_the_root(agx: SimBox) -> None:
    agx.say("jetson_clocks", "--store", HOME="/root")
    assert (agx.root / "root/l4t_dfs.conf").is_file()
    agx.say("jetson_clocks", "--store")
    assert (agx.root / "l4t_dfs.conf").is_file()


def test_restore_without_a_store_complains_and_succeeds(agx: SimBox) -> None:
    status, text = agx.say("jetson_clocks", "--restore", "/nowhere.conf")
    assert (status, text.startswith("Error: ")) == (0, True)
