"""Stand-in for NVIDIA's tegrastats on a simulated Jetson. It is not NVIDIA's program.

Prints a line per interval until it is killed, in the format of the box's release: R35 with upper
case zone names, R36 and later with lower case ones. An idle box: every load is 0 %.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .box import Box
from .kernel import EMC_CLOCK, gpu_tick

PID_FILE = "/run/ishowtts-sim/tegrastats.pid"
OFF_MC = -256000
USAGE = """\
tegrastats, a stand-in for NVIDIA's tool on a simulated Jetson (no NVIDIA software)
Usage: tegrastats [--interval MS] [--logfile FILE] [--start] [--stop] [--verbose] [--readall]"""


def main(argv: list[str]) -> int:
    box = Box.here()
    box.marker()
    gpu_tick(box)
    interval_s, logfile, start = 1.0, "", False
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--interval" and words and words[0].isdigit():
            interval_s = int(words.pop(0)) / 1000
        elif word == "--logfile" and words:
            logfile = words.pop(0)
        elif word == "--start":
            start = True
        elif word == "--stop":
            return _stop(box)
        elif word not in ("--verbose", "--readall"):
            print(USAGE)
            return 0 if word in ("--help", "-h") else 1
    if start and not _become_background(box):
        return 0
    out: TextIO = sys.stdout
    if logfile:
        out = box.inside(logfile).open("a", encoding="utf-8")
    return _run(box, interval_s, out)


def _run(box: Box, interval_s: float, out: TextIO) -> int:
    averages: dict[str, list[int]] = {}
    try:
        while True:
            out.write(line(box, averages) + "\n")
            out.flush()
            time.sleep(max(interval_s, 0.001))
    except (KeyboardInterrupt, BrokenPipeError):
        # The reader went away, which is how callers end it.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _become_background(box: Box) -> bool:
    """Detach, leaving the process id behind. Returns False in the process that was called."""
    if os.fork():
        return False
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    box.put(PID_FILE, f"{os.getpid()}\n")
    return True


def _stop(box: Box) -> int:
    pid = box.read_int(PID_FILE, 0)
    with contextlib.suppress(OSError):
        if pid and b"tegrastats" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
        box.path(PID_FILE).unlink()
    return 0


def line(box: Box, averages: dict[str, list[int]]) -> str:
    """One line. `averages` keeps the rails' readings so far, for the second figure of each."""
    major, root = box.release_major, box.uid() == 0
    parts = [time.strftime("%m-%d-%Y %H:%M:%S"), *_memory(box), _cpus(box)]
    emc = box.read_int(f"{EMC_CLOCK}/rate", 0) // 1000000
    devfreq = box.gpu_devfreq()
    gpu = box.read_int(f"{devfreq}/cur_freq", 0) // 1000000 if devfreq else 0
    if root:
        parts += [f"EMC_FREQ 0%@{emc}", f"GR3D_FREQ 0%@[{gpu}]"]
    else:
        parts.append("GR3D_FREQ 0%")
    if major <= 35:
        parts += ["VIC_FREQ 729", "APE 174"]
    parts += _temperatures(box, major)
    parts += _rails(box, averages, major)
    return " ".join(parts)


def _memory(box: Box) -> Iterator[str]:
    values = {
        name: int(number) // 1024
        for name, number in re.findall(r"^(\w+):\s+(\d+)", box.read("/proc/meminfo"), re.M)
    }
    total = values["MemTotal"]
    free = values["MemFree"] // 4
    yield f"RAM {total - values['MemAvailable']}/{total}MB (lfb {free}x4MB)"
    swap = values.get("SwapTotal", 0)
    if swap:
        used, cached = swap - values.get("SwapFree", swap), values.get("SwapCached", 0)
        yield f"SWAP {used}/{swap}MB (cached {cached}MB)"


def _cpus(box: Box) -> str:
    cells = []
    for cpu in box.cpus():
        rate = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
        cells.append(f"0%@{box.read_int(rate, 0) // 1000}" if box.online(cpu) else "off")
    return f"CPU [{','.join(cells)}]"


def _temperatures(box: Box, major: int) -> Iterator[str]:
    zones = [name for name in box.listdir("/sys/class/thermal") if name.startswith("thermal_zone")]
    for zone in sorted(zones, key=lambda name: int(name.removeprefix("thermal_zone"))):
        folder = f"/sys/class/thermal/{zone}"
        name = re.sub(r"(-thermal|-therm|_tegra)$", "", box.read(f"{folder}/type"))
        milli = box.read_int(f"{folder}/temp", OFF_MC)
        if milli == OFF_MC and major >= 36:
            continue
        degrees = f"{milli / 1000:.3f}".rstrip("0").rstrip(".")
        yield f"{name}@{degrees}C"


def _rails(box: Box, averages: dict[str, list[int]], major: int) -> Iterator[str]:
    for entry in box.listdir("/sys/class/hwmon"):
        folder = f"/sys/class/hwmon/{entry}"
        if box.read(f"{folder}/name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = box.read(f"{folder}/in{channel}_label")
            if label == "NC" and major >= 36:
                continue
            volts = box.read_int(f"{folder}/in{channel}_input", 0)
            now = volts * box.read_int(f"{folder}/curr{channel}_input", 0) // 1000
            seen = averages.setdefault(f"{entry}/{channel}", [])
            seen.append(now)
            yield f"{label} {now}mW/{sum(seen) // len(seen)}mW"
