from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ishowtts_ops.facts import clocks
from ishowtts_ops.facts.clocks_show import ShowReport, parse_show
from ishowtts_ops.facts.sysfs import parse_ranges
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box
from tests.support.simboxes import sim_box

CPU = "/sys/devices/system/cpu"
EMC = clocks.EMC_CLOCK

# Lines as boxes print them, typed anew; `|` guards a blank at a line's end.
R35_UNLOCKED = """\
cpu6: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 IdleStates: \
WFI=1 c7=1 |
cpu7: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=2188800 IdleStates: \
WFI=1 c7=1 |
GPU MinFreq=306000000 MaxFreq=1300500000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=2133000000 FreqOverride=0
DLA0_CORE:   Online=1 MinFreq=0 MaxFreq=1600000000 CurrentFreq=1600000000
PVA0_AXI:  Online=1 MinFreq=0 MaxFreq=832000000 CurrentFreq=832000000
FAN Dynamic Speed control=active hwmon2_pwm1=55
NV Power Mode: MAXN
""".replace("|", "")
R36_LOCKED = """\
SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-1
cpu0:  Online=1 Governor=schedutil MinFreq=1728000 MaxFreq=1728000 CurrentFreq=1728000 IdleStates: \
WFI=0 c7=0 |
cpu1:  Online=1 Governor=schedutil MinFreq=1728000 MaxFreq=1728000 CurrentFreq=1728000 IdleStates: \
WFI=0 c7=0 |
cpu8:  Online=0 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 IdleStates: \
WFI=0 c7=0 |
GPU MinFreq=612000000 MaxFreq=612000000 CurrentFreq=612000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=1
""".replace("|", "")
R36_UNLOCKED = """\
SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-1
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=1420800 IdleStates: \
WFI=1 c7=1 |
cpu1:  Online=1 Governor=schedutil MinFreq=172800 MaxFreq=1728000 CurrentFreq=1420800 IdleStates: \
WFI=1 c7=1 |
GPU MinFreq=130050000 MaxFreq=1300500000 CurrentFreq=306000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=0
NV Power Mode: MODE_30W
""".replace("|", "")
R39_LOCKED = """\
SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-1, Offline CPUs: |
cpu0:  Governor=schedutil MinFreq=2201600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: \
WFI=0 c7=0 |
cpu1:  Governor=schedutil MinFreq=2201600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: \
WFI=0 c7=0 |
GPU MinFreq=1300500000 MaxFreq=1300500000 CurrentFreq=1300500000
Active GPU TPCs: 8
EMC MinFreq=3199000000 MaxFreq=3199000000 CurrentFreq=3199000000
FAN Dynamic Speed Control=nvfancontrol hwmon2_pwm1=66
NV Power Mode: MAXN
""".replace("|", "")
R39_UNLOCKED = (
    R39_LOCKED.replace("MinFreq=2201600", "MinFreq=729600")
    .replace("MinFreq=1300500000", "MinFreq=306000000")
    .replace("MinFreq=3199000000", "MinFreq=204000000")
)


def box(tmp_path: Path, board: str, *, locked: bool = False) -> Host:
    host = sim_box(tmp_path, board)
    if locked:
        assert host.run(["jetson_clocks"]).ok
    return host


def report(text: str) -> ShowReport:
    found = parse_show(text)
    assert isinstance(found, ShowReport)
    return found


# ---- jetson_clocks --show ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "locked", "mode", "tpcs"),
    [
        (R35_UNLOCKED, False, "MAXN", None),
        (R36_LOCKED, True, None, 4),
        (R36_UNLOCKED, False, "MODE_30W", 4),
        (R39_LOCKED, True, "MAXN", 8),
        (R39_UNLOCKED, False, "MAXN", 8),
    ],
)
def test_show_of_every_release(text: str, locked: bool, mode: str | None, tpcs: int | None) -> None:
    found = report(text)
    assert found.cpu_locked is locked
    assert found.gpu_locked is locked
    assert found.emc_locked is locked
    assert found.mode == mode
    assert found.active_tpcs == tpcs
    assert [name for name, _ in found.cpus[0].idle_states] == ["WFI", "c7"]


def test_show_names_every_clock() -> None:
    found = report(R35_UNLOCKED)
    assert [cpu.name for cpu in found.cpus] == ["cpu6", "cpu7"]
    assert found.cpus[1].cur == 2188800
    assert found.cpus[0].idle_states == (("WFI", True), ("c7", True))
    assert report(R36_LOCKED).cpus[0].idle_states == (("WFI", False), ("c7", False))
    assert found.cpus[0].governor == "schedutil"
    assert [engine.name for engine in found.engines] == ["DLA0_CORE", "PVA0_AXI"]
    assert found.online is None
    assert report(R36_LOCKED).online == (0, 1)
    assert report(R36_LOCKED).cpus[2].online is False
    assert report(R39_LOCKED).lists_offline


def half(text: str) -> str:
    """The same box with its first core's minimum at its maximum, as a rival may leave it."""
    first = report(text).cpus[0]
    return text.replace(f"MinFreq={first.min} ", f"MinFreq={first.max} ", 1)


@pytest.mark.parametrize(
    "text",
    [
        R35_UNLOCKED,
        R36_UNLOCKED,
        R39_UNLOCKED,
        half(R35_UNLOCKED),
        half(R36_UNLOCKED),
        half(R39_UNLOCKED),
    ],
)
def test_cut_anywhere_an_unlocked_box_never_looks_locked(text: str) -> None:
    for cut in range(len(text)):
        found = parse_show(text[:cut])
        if isinstance(found, ShowReport):
            assert found.cpu_locked is not True, text[:cut]
            assert found.gpu_locked is not True, text[:cut]
            assert found.emc_locked is not True, text[:cut]


@pytest.mark.parametrize("text", [R36_LOCKED, R39_LOCKED])
def test_cut_anywhere_a_locked_box_never_looks_unlocked(text: str) -> None:
    for cut in range(len(text)):
        found = parse_show(text[:cut])
        if isinstance(found, ShowReport):
            assert found.cpu_locked is not False
            assert found.gpu_locked is not False
            assert found.emc_locked is not False


@pytest.mark.parametrize(
    "text",
    ["", "Error: Run this script(/usr/bin/jetson_clocks) as a root user\n", "Fehler: kein\n"],
)
def test_show_without_clocks(text: str) -> None:
    found = parse_show(text)
    assert isinstance(found, Unknown)
    assert text.strip()[:20] in found.reason


@given(st.one_of(st.text(), st.text(alphabet="cpuGEMC0129:= MinMaxCurrentFreq\n")))
@example("GPU MinFreq=" + "9" * 5000 + " MaxFreq=1 CurrentFreq=1")
def test_any_text_as_show(text: str) -> None:
    found = parse_show(text)
    if isinstance(found, ShowReport):
        for state in (found.cpu_locked, found.gpu_locked, found.emc_locked):
            assert isinstance(state, (bool, Unknown))


@pytest.mark.parametrize(
    "board", ["agx-orin-64@35.3.1", "agx-orin-64", "agx-orin-64@39.2.1", "agx-thor-t5000"]
)
@pytest.mark.parametrize("locked", [False, True])
def test_show_agrees_with_sysfs(tmp_path: Path, board: str, locked: bool) -> None:
    host = box(tmp_path, board, locked=locked)
    found = report(host.query(["jetson_clocks", "--show"]).stdout)
    facts = clocks.read(host)
    assert found.cpu_locked is facts.cpu_locked is locked
    assert found.gpu_locked is facts.gpu_locked is locked
    assert found.emc_locked is facts.emc_locked is locked
    assert facts.locked is locked
    assert facts.idle_states_off is locked
    assert facts.loose == (() if locked else ("CPU", "GPU", "EMC"))


# ---- sysfs ------------------------------------------------------------------------------------


def test_numbers_of_a_box(tmp_path: Path) -> None:
    facts = clocks.read(box(tmp_path, "agx-orin-64", locked=True).read_only())
    assert facts.online == tuple(range(8))
    assert [policy.cores for policy in facts.cpus] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [policy.min_khz for policy in facts.cpus] == [1728000, 1728000]
    assert facts.cpus[0].hw_max_khz == 2201600
    assert isinstance(facts.gpu, clocks.GpuClock)
    assert (facts.gpu.min_hz, facts.gpu.max_hz) == (612000000, 612000000)
    assert facts.gpu.hw_max_hz == 1300500000
    assert facts.emc.top_hz == facts.emc.rate_hz == 3199000000
    assert facts.emc.override is True


@pytest.mark.parametrize(
    ("board", "cap", "wanted"),
    [
        ("agx-orin-64@35.3.1", "0", None),
        ("agx-orin-64@35.3.1", "2133000000", 2133000000),
        ("agx-orin-64", "2133000000", 2133000000),
        ("agx-orin-64", "9223372036854775807", None),
    ],
)
def test_emc_cap_of_each_release(tmp_path: Path, board: str, cap: str, wanted: int | None) -> None:
    host = box(tmp_path, board)
    path = clocks.EMC_CAPS[1 if "35" in board else 0]
    host.write_sysfs(path, f"{cap}\n")
    emc = clocks.read_emc(host)
    assert emc.cap_path == path
    assert emc.cap_hz == wanted
    assert emc.top_hz == (wanted or 3199000000)


def test_emc_locked_below_its_top_is_not_locked(tmp_path: Path) -> None:
    host = box(tmp_path, "agx-orin-64", locked=True)
    host.write_sysfs(f"{EMC}/rate", "2133000000\n")
    assert clocks.read(host).emc_locked is False


def test_emc_that_shows_min_at_max_needs_no_flag(tmp_path: Path) -> None:
    host = box(tmp_path, "agx-orin-64@39.2.1")
    host.write_sysfs(f"{EMC}/min_rate", "3199000000\n")
    assert clocks.read(host).emc_locked is True
    host.remove(f"{EMC}/mrq_rate_locked")
    assert clocks.read(host).emc_locked is True
    host.write_sysfs(f"{EMC}/min_rate", "204000000\n")
    assert isinstance(clocks.read(host).emc_locked, Unknown)


def test_without_debugfs_emc_is_unknown_and_nothing_else_is(tmp_path: Path) -> None:
    host = box(tmp_path, "agx-orin-64", locked=True)
    host.rmtree("/sys/kernel/debug")
    facts = clocks.read(host)
    assert isinstance(facts.emc_locked, Unknown)
    assert "mrq_rate_locked" in facts.emc_locked.reason
    assert facts.cpu_locked is True
    assert facts.gpu_locked is True
    assert isinstance(facts.locked, Unknown), "not all of it is known to be locked"


def test_late_gpu_is_unknown_with_its_reason(tmp_path: Path) -> None:
    host = box(tmp_path, "agx-orin-64")
    apply_fault(tmp_path / "box", "gpu-missing")
    gpu = clocks.read(host).gpu_locked
    assert isinstance(gpu, Unknown)
    assert "may not be up yet" in gpu.reason


@pytest.mark.parametrize(
    ("fault", "cpu", "gpu"), [("clocks-cpu-only", True, False), ("clocks-rerun", False, False)]
)
def test_half_a_lock(tmp_path: Path, fault: str, cpu: bool, gpu: bool) -> None:
    host = box(tmp_path, "agx-orin-64", locked=True)
    apply_fault(tmp_path / "box", fault)
    facts = clocks.read(host)
    assert (facts.cpu_locked, facts.gpu_locked, facts.locked) == (cpu, gpu, False)


def test_offline_cores_do_not_count(tmp_path: Path) -> None:
    """MODE_30W switches cores 8 to 11 off; their min and max stay apart."""
    host = box(tmp_path, "agx-orin-64", locked=True)
    assert host.read_text(f"{CPU}/cpufreq/policy8/scaling_min_freq").strip() == "729600"
    assert clocks.read(host).cpu_locked is True


def test_without_the_policy_folder_the_cores_own_links_are_read(tmp_path: Path) -> None:
    """As on a kernel that shows cpufreq below each core only."""
    host = box(tmp_path, "orin-nano-super", locked=True)
    for core in range(6):
        rates = {
            name: host.read_text(f"{CPU}/cpu{core}/cpufreq/{name}")
            for name in ("scaling_min_freq", "scaling_max_freq")
        }
        host.remove(f"{CPU}/cpu{core}/cpufreq")
        for name, value in rates.items():
            host.write(f"{CPU}/cpu{core}/cpufreq/{name}", value)
    host.rmtree(f"{CPU}/cpufreq")
    facts = clocks.read(host)
    assert facts.cpu_locked is True
    assert [policy.cores for policy in facts.cpus] == [(core,) for core in range(6)]


GARBAGE = st.one_of(st.binary(max_size=24), st.sampled_from([b"", b"0\n", b"1344000", b"-1\n"]))


@settings(max_examples=40, deadline=None)
@given(low=GARBAGE, high=GARBAGE)
def test_garbage_in_sysfs_is_never_a_lock(
    tmp_path_factory: pytest.TempPathFactory, low: bytes, high: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "garbage-clocks"
    if not root.exists():
        build_box(root, "orin-nano-super")
    host = Host.at(root)
    gpu = "/sys/class/devfreq/17000000.gpu"
    for folder, name in ((gpu, "{}_freq"), (f"{CPU}/cpufreq/policy0", "scaling_{}_freq")):
        host.path(f"{folder}/{name.format('min')}").write_bytes(low)
        host.path(f"{folder}/{name.format('max')}").write_bytes(high)
    facts = clocks.read(host)
    assert facts.cpu_locked is not True, "the other cluster is not locked"
    if facts.gpu_locked is True:
        assert int(low.strip(b" \t\r\n\0"), 0) == int(high.strip(b" \t\r\n\0"), 0) > 0


@given(st.text(max_size=20))
def test_any_text_as_a_set_of_cores(text: str) -> None:
    found = parse_ranges(text)
    assert found is None or all(core >= 0 for core in found)


def test_sets_of_cores() -> None:
    assert parse_ranges("0-3,6\n") == (0, 1, 2, 3, 6)
    assert parse_ranges("") == ()
    assert parse_ranges("0-") is None
