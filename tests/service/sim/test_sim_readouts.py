from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box
from tests.service.sim.sim_box import SimBox, eventually


def first_line(box: SimBox, **env: str) -> str:
    process = subprocess.Popen(
        [box.tool("tegrastats"), "--interval", "50"],
        stdout=subprocess.PIPE,
        text=True,
        env=box.env(**env),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=10)
    process.stdout.close()
    # It goes on until it is killed.
    assert all(line.endswith("\n") for line in lines)
    return lines[0].rstrip("\n")


def test_tegrastats_of_r36_without_root(agx: SimBox) -> None:
    line = first_line(agx, ISHOWTTS_SIM_UID="1000")
    assert re.match(
        r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d RAM \d+/62841MB \(lfb \d+x4MB\) "
        r"SWAP 0/31420MB \(cached 0MB\) "
        r"CPU \[(0%@729,){8}off,off,off,off\] GR3D_FREQ 0% cpu@47\.875C ",
        line,
    )
    assert "EMC_FREQ" not in line
    assert "cv0@" not in line
    assert "NC " not in line
    assert re.search(r"VDD_GPU_SOC (\d+)mW/\1mW VDD_CPU_CV (\d+)mW/\2mW VIN_SYS_5V0 ", line)


def test_tegrastats_of_a_nano_with_root(nano: SimBox) -> None:
    nano.say("jetson_clocks")
    line = first_line(nano)
    assert "EMC_FREQ 0%@3199 GR3D_FREQ 0%@[918]" in line
    assert "CPU [0%@1344," in line
    assert "tboard" not in line
    assert re.search(r"VDD_IN \d+mW/\d+mW VDD_CPU_GPU_CV \d+mW/\d+mW VDD_SOC \d+mW/\d+mW$", line)


def test_tegrastats_of_r35(fast_path: Path) -> None:
    build_box(fast_path / "b", "agx-orin-64@35.3.1")
    line = first_line(SimBox(fast_path / "b"))
    for part in ("CV0@-256C", "CPU@47.875C", "Tboard@32C", "tj@", "APE 174", "NC 0mW/0mW"):
        assert part in line


def test_tegrastats_shows_the_box_as_it_is(agx: SimBox) -> None:
    apply_fault(agx.root, "swap-heavy")
    apply_fault(agx.root, "thermal-throttle")
    line = first_line(agx)
    assert "SWAP 15710/31420MB" in line
    assert "gpu@99.5C" in line


def test_tegrastats_in_the_background(agx: SimBox) -> None:
    log = agx.root / "var/log/stats.txt"
    agx.say("tegrastats", "--start", "--interval", "20", "--logfile", "/var/log/stats.txt")
    eventually(lambda: log.is_file() and len(log.read_text().splitlines()) > 2)
    assert agx.say("tegrastats", "--stop") == (0, "")
    eventually(lambda: not _grows(log))


def _grows(path: Path) -> bool:
    size = path.stat().st_size
    time.sleep(0.08)
    return path.stat().st_size > size


def test_nvidia_smi(agx: SimBox) -> None:
    lines = agx.lines("nvidia-smi")
    assert "| NVIDIA-SMI 540.4.0                Driver Version: 540.4.0      " in lines[1]
    assert any(line.startswith("|   0  Orin (nvgpu)                  N/A  |") for line in lines)
    assert {len(line) for line in lines if line} == {89}
    query = ("--query-gpu=name,compute_cap", "--format=csv,noheader")
    assert agx.say("nvidia-smi", *query) == (0, "Orin (nvgpu), 8.7\n")
    fields = "--query-gpu=name,memory.total,memory.used,utilization.gpu,clocks.gr"
    assert agx.lines("nvidia-smi", fields, "--format=csv")[1] == (
        "Orin (nvgpu), [N/A], [N/A], [N/A], [N/A]"
    )
