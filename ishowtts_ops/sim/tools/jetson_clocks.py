"""Stand-in for NVIDIA's jetson_clocks on a simulated Jetson. It is not NVIDIA's program.

Locks the clocks at the current power mode's maximum. As with the documented tool the exit status
says next to nothing: 1 only when not root, without a GPU, with a GPU that cannot be scaled, or when
a store file is there and may not be replaced; everything else ends with 0.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .box import Box
from .clocks_show import show
from .kernel import EMC_CLOCK, emc_cap, gpu_tick, mark_gpu_used, store

STORE_NAME = "l4t_dfs.conf"
USAGE = """\
jetson_clocks, a stand-in for NVIDIA's tool on a simulated Jetson (no NVIDIA software)
Usage: jetson_clocks [options]
  --show             show the current settings
  --store [file]     store the current settings (default: ${HOME}/l4t_dfs.conf)
  --restore [file]   put stored settings back
  --fan              the fan at full speed too
Without options: every clock at the maximum of the current power mode."""


def main(argv: list[str]) -> int:
    box = Box.here()
    box.marker()
    unknown = [word for word in argv if word.startswith("-") and word not in _KNOWN]
    if unknown or "--help" in argv or "-h" in argv:
        if unknown:
            print(f"Unknown option: {unknown[0]}")
        print(USAGE)
        return 0
    if box.uid() != 0:
        print(f"Error: Run this script({sys.argv[0]}) as a root user")
        return 1
    gpu_tick(box, clock_lock_run="--show" not in argv)
    device = box.gpu_device()
    if device is None:
        print("Error: no GPU found")
        return 1
    devfreq = box.gpu_devfreq()
    if devfreq is not None and not box.exists(f"{devfreq}/available_frequencies"):
        print("Error: GPU is not scalable")
        return 1
    if "--show" in argv:
        show(box)
        return 0
    if "--store" in argv:
        return _store(box, _store_path(box, argv, "--store"))
    if "--restore" in argv:
        _restore(box, _store_path(box, argv, "--restore"))
        return 0
    lock(box, fan="--fan" in argv)
    return 0


_KNOWN = ("--show", "--store", "--restore", "--fan", "--help", "-h")


def _store_path(box: Box, argv: list[str], option: str) -> Path:
    """The word after the option, else the file below $HOME: `/l4t_dfs.conf` when HOME is unset, as
    it is in a system unit."""
    after = argv[argv.index(option) + 1 :]
    if after and not after[0].startswith("-"):
        return box.inside(after[0])
    return box.inside(f"{os.environ.get('HOME', '')}/{STORE_NAME}")


def lock(box: Box, *, fan: bool) -> None:
    """CPUs first, the GPU second, memory third; a GPU that is not up yet ends it after the CPUs."""
    lock_cpus(box)
    devfreq = box.gpu_devfreq()
    try:
        if devfreq is None:
            raise FileNotFoundError
        for part in box.gpu_devfreqs():
            store(box, f"{part}/min_freq", box.read_int(f"{part}/max_freq"))
    except OSError:
        print("Error: Failed to max GPU frequency!")
        return
    device = box.gpu_device()
    for name, value in (("railgate_enable", "0"), ("power/control", "on")):
        if device is not None and box.exists(f"{device}/{name}"):
            box.write(f"{device}/{name}", value)
    mark_gpu_used(box)
    box.write(f"{EMC_CLOCK}/rate", emc_cap(box))
    box.write(f"{EMC_CLOCK}/mrq_rate_locked", 1)
    if fan:
        folder = box.hwmon("pwmfan")
        if folder is None:
            print("Error: no fan found")
        else:
            box.write(f"{folder}/pwm1", 255)


def lock_cpus(box: Box) -> None:
    """The first thing a lock does, and the only one when the GPU is not up yet."""
    for cpu in box.cpus():
        folder = f"/sys/devices/system/cpu/cpu{cpu}"
        for state in box.listdir(f"{folder}/cpuidle"):
            box.write(f"{folder}/cpuidle/{state}/disable", 1)
        if box.online(cpu):
            highest = box.read_int(f"{folder}/cpufreq/scaling_max_freq")
            store(box, f"{folder}/cpufreq/scaling_min_freq", highest)


def stored_paths(box: Box) -> list[str]:
    """The attributes that --store keeps and --restore writes, maxima before minima."""
    paths: list[str] = []
    for cpu in box.cpus():
        folder = f"/sys/devices/system/cpu/cpu{cpu}"
        if box.online(cpu):
            paths += [f"{folder}/cpufreq/scaling_max_freq", f"{folder}/cpufreq/scaling_min_freq"]
        paths += [f"{folder}/cpuidle/{state}/disable" for state in box.listdir(f"{folder}/cpuidle")]
    device = box.gpu_device()
    for devfreq in box.gpu_devfreqs():
        paths += [f"{devfreq}/max_freq", f"{devfreq}/min_freq"]
    if device is not None:
        paths += [f"{device}/railgate_enable", f"{device}/power/control"]
    paths += [f"{EMC_CLOCK}/mrq_rate_locked", f"{EMC_CLOCK}/rate"]
    fan = box.hwmon("pwmfan")
    if fan is not None:
        paths.append(f"{fan}/pwm1")
    return [path for path in paths if box.exists(path)]


def _store(box: Box, target: Path) -> int:
    if target.exists():
        print(f"File {target} already exists. Can I overwrite it? Y/N:", flush=True)
        if sys.stdin.readline().strip().upper() != "Y":
            return 1
    lines = [f"{path}:{box.read(path)}\n" for path in stored_paths(box)]
    try:
        target.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        print(f"Error: cannot write {target}: {error.strerror}")
    return 0


def _restore(box: Box, source: Path) -> None:
    try:
        text = source.read_text(encoding="utf-8")
    except OSError:
        print(f"Error: {source} file not found!")
        return
    for line in text.splitlines():
        path, _, value = line.rpartition(":")
        if not path:
            continue
        try:
            store(box, path, value)
        except (OSError, ValueError):
            print(f"Error: Failed to restore {path}")
