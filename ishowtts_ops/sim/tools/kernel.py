"""What the kernel does when one of its attributes is written, as far as the clocks go.

A folder of files has no kernel behind it. The stand-in tools write through `store`, which keeps the
attributes in step: clamping, the list of online CPUs, the current rates of an idle box.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time

from .box import HARDWARE, Box, ranges

IDLE_CPU_KHZ = 729600
EMC_CLOCK = "/sys/kernel/debug/bpmp/debug/clk/emc"
_CPU = "/sys/devices/system/cpu"
_FREQ_ATTRIBUTE = re.compile(r"(.*)/scaling_(min|max)_freq$")
_GPU_ATTRIBUTE = re.compile(r"(.*/devfreq(?:_dev|/[^/]+))/(min|max)_freq$")


def store(box: Box, path: str, value: int | str) -> None:
    """Write `value` to an attribute of the box with the kernel's side effects.

    Raises:
        OSError: ENOENT (no such attribute) or EBUSY (power-gating of a GPU that has been used).
    """
    if path.endswith("/tpc_pg_mask"):
        _mask(box, path, int(value))
    elif match := _FREQ_ATTRIBUTE.match(path):
        _cpu_limit(box, match[1], match[2], int(value))
    elif match := _GPU_ATTRIBUTE.match(path):
        _gpu_limit(box, match[1], match[2], int(value))
    elif path.endswith("/nvpmodel_clk_cap/emc"):
        limit = box.read_int(f"{EMC_CLOCK}/max_rate")
        box.write(path, min(int(value), limit) if int(value) >= 0 else limit)
    elif path.startswith(f"{_CPU}/cpu") and path.endswith("/online"):
        box.write(path, value)
        refresh_online(box)
    else:
        box.write(path, value)


def _mask(box: Box, path: str, mask: int) -> None:
    if mask != box.read_int(path) and gpu_used(box):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
    box.write(path, mask)


def _cpu_limit(box: Box, policy: str, which: str, khz: int) -> None:
    lowest = box.read_int(f"{policy}/cpuinfo_min_freq")
    highest = box.read_int(f"{policy}/cpuinfo_max_freq")
    wanted = highest if khz < 0 else max(lowest, min(khz, highest))
    box.write(f"{policy}/scaling_{which}_freq", wanted)
    low = box.read_int(f"{policy}/scaling_min_freq")
    high = box.read_int(f"{policy}/scaling_max_freq")
    if low > high:
        low = high
        box.write(f"{policy}/scaling_min_freq", low)
    current = max(low, min(IDLE_CPU_KHZ, high))
    box.write(f"{policy}/scaling_cur_freq", current)
    box.write(f"{policy}/cpuinfo_cur_freq", current)


def _gpu_limit(box: Box, devfreq: str, which: str, hertz: int) -> None:
    steps = [int(step) for step in box.read(f"{devfreq}/available_frequencies").split()]
    wanted = max(steps) if hertz < 0 else max(min(steps), min(hertz, max(steps)))
    box.write(f"{devfreq}/{which}_freq", wanted)
    low = box.read_int(f"{devfreq}/min_freq")
    high = box.read_int(f"{devfreq}/max_freq")
    if low > high:
        low = high
        box.write(f"{devfreq}/min_freq", low)
    box.write(f"{devfreq}/cur_freq", low)


def refresh_online(box: Box) -> None:
    """Bring `cpu/online` and `cpu/offline` in line with the cores' own switches."""
    cpus = box.cpus()
    box.write(f"{_CPU}/online", ranges([cpu for cpu in cpus if box.online(cpu)]))
    box.write(f"{_CPU}/offline", ranges([cpu for cpu in cpus if not box.online(cpu)]))


def emc_cap(box: Box) -> int:
    """The EMC rate in Hz that the power mode allows."""
    highest = box.read_int(f"{EMC_CLOCK}/max_rate")
    for path in ("/sys/kernel/nvpmodel_clk_cap/emc", "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"):
        cap = box.read_int(path, 0)
        if cap > 0:
            return min(cap, highest)
    return highest


def gpu_used(box: Box) -> bool:
    """Has the GPU been used since the last cold boot? From then on its power-gating is fixed.

    The simulation takes it for used once a power mode has been applied after a boot, which is about
    when a real box's desktop or first CUDA process comes up.
    """
    return box.read_int(f"{HARDWARE}/gpu_used", 1) == 1


def mark_gpu_used(box: Box) -> None:
    box.put(f"{HARDWARE}/gpu_used", "1\n")


def gpu_tick(box: Box, *, clock_lock_run: bool = False) -> None:
    """Let a GPU that is late come up when its time is there.

    `gpu_late` holds {"link", "target", "hidden"} and either "calls" (runs of jetson_clocks that
    still miss the GPU) or "seconds" (counted from the first tool run that finds it missing).
    """
    state_file = box.path(f"{HARDWARE}/gpu_late")
    try:
        state = json.loads(state_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if "calls" in state:
        if state["calls"] > 0:
            if clock_lock_run:
                state["calls"] -= 1
                state_file.write_text(json.dumps(state), encoding="utf-8")
            return
    elif time.time() < state.setdefault("until", time.time() + float(state["seconds"])):
        state_file.write_text(json.dumps(state), encoding="utf-8")
        return
    hidden = box.path(state["hidden"])
    hidden.rename(hidden.with_name("devfreq"))
    link = box.path(state["link"], follow_last=False)
    link.symlink_to(state["target"])
    state_file.unlink()
