"""Every module, mode and release of the tables: the mode is set by name, the clocks are locked at
its limits, and `power status` says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.config import Power, Settings
from ishowtts_ops.facts.clocks import GpuClock, read_gpu
from ishowtts_ops.facts.modules import UNCAPPED, Module, modes_for
from ishowtts_ops.facts.nvpmodel import STATUS_PATH, Conf
from ishowtts_ops.facts.power import read
from ishowtts_ops.facts.sysfs import number
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power import lock, status
from ishowtts_ops.sim.boards import find_board, runs_on, simulated_modules
from tests.support.simboxes import sim_box

RELEASES = {35: "35.3.1", 36: "36.4.3", 39: "39.2.1"}
USED = "/sys/kernel/ishowtts-sim/gpu_used"
CPU = "/sys/devices/system/cpu/cpufreq/policy0"

BOARDS = [
    f"{module.key}@{l4t}"
    for module in simulated_modules()
    for l4t in RELEASES.values()
    if runs_on(module, l4t)
]


def wanted(name: str, module: Module, mode: str) -> tuple[int, int]:
    """CPU kHz and GPU Hz that the table gives for a mode, at most what the module has."""
    board = find_board(name)
    row = next(row for row in modes_for(module) if row.name == mode)
    cpu, gpu = row.cpu_cap_khz(board.release.major), row.gpu_max_hz
    tops = (board.max_cpu_khz, board.max_gpu_hz)
    caps = [
        top if cap in (None, UNCAPPED) else min(cap or 0, top)
        for cap, top in zip((cpu, gpu), tops, strict=True)
    ]
    return caps[0], caps[1]


def gpu_rates(host: Host) -> tuple[object, object]:
    gpu = read_gpu(host)
    assert isinstance(gpu, GpuClock)
    return gpu.min_hz, gpu.max_hz


@pytest.mark.parametrize("name", BOARDS)
def test_every_mode_is_set_locked_and_shown(name: str, tmp_path: Path) -> None:
    host = sim_box(tmp_path, name)
    module = find_board(name).module
    conf = read(host).conf
    assert isinstance(conf, Conf)
    assert {(m.id, m.name) for m in conf.modes} == {
        (row.id, row.name) for row in modes_for(module) if not row.optional
    }
    for mode in conf.modes:
        host.write_sysfs(USED, "0\n")  # so that no mode takes a reboot
        policy = Power(mode=mode.name)
        report = lock(host, policy, log=lambda _: None, sleep=lambda _: None)
        assert report.ok, report.problems
        assert host.read_bytes(STATUS_PATH) == b"pmode:%04d" % mode.id
        cpu, gpu = wanted(name, module, mode.name)
        assert (number(host, f"{CPU}/scaling_min_freq"), *gpu_rates(host)) == (cpu, gpu, gpu)
        shown = status(host.read_only(), Settings(power=policy))
        assert shown.ok, shown.lines()
        lines = dict(shown.lines())
        assert lines["Mode"] == f"{mode.name} (id {mode.id})"
        assert "locked at" in lines["Clocks"] and "unknown" not in lines["Clocks"]
        assert lines["Limits"] == "those of the mode"
        assert module.name in lines["Module"] and "JetPack" in lines["Module"]
        assert not any("nknown(" in text for text in lines.values())


@pytest.mark.parametrize("name", BOARDS)
def test_max_is_the_most_capable_mode(name: str, tmp_path: Path) -> None:
    host = sim_box(tmp_path, name)
    host.write_sysfs(USED, "0\n")
    report = lock(host, Power(), log=lambda _: None, sleep=lambda _: None)
    assert report.ok
    rows = [row for row in modes_for(find_board(name).module) if not row.optional]
    best = {row.name for row in rows} & {"MAXN_SUPER"} or {row.name for row in rows} & {"MAXN"}
    assert report.wanted in (best or {row.name for row in rows})


@pytest.mark.parametrize(
    "fault",
    ["module-unknown", "release-unknown", "release-garbage", "mode-unknown", "mode-corrupt"],
)
@pytest.mark.parametrize("l4t", RELEASES.values())
def test_what_nobody_knows_is_no_crash(fault: str, l4t: str, tmp_path: Path) -> None:
    """It is said, and what can be locked is locked all the same."""
    host = sim_box(tmp_path, f"agx-orin-64@{l4t}", fault)
    host.write_sysfs(USED, "0\n")
    before = status(host.read_only(), Settings())
    assert not before.ok and all(text for _, text in before.lines())
    report = lock(host, Power(), log=lambda _: None, sleep=lambda _: None)
    assert report.ok, report.problems
    assert report.after.clocks.locked is True
    assert report.wanted == "MAXN"
