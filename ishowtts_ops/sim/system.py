"""The files of a simulated box outside sysfs: identity, nvpmodel's files, units, /proc, tools."""

from __future__ import annotations

import importlib.util
import json
import py_compile
import sys
import tempfile
import time
from functools import cache
from importlib import resources
from pathlib import Path

from ishowtts_ops.facts.modules import ALL_MODULES, Module
from ishowtts_ops.sim.boards import Board
from ishowtts_ops.sim.files import Tree
from ishowtts_ops.sim.nvpmodel_conf import conf_text

NOTE = "simulated, no NVIDIA hardware"
TOOLS_FOLDER = "usr/lib/ishowtts-sim/standin_tools"

_LAUNCHER = '''\
#!{python}
"""Stand-in for `{name}` on a simulated Jetson. Not the real program; see {folder}."""
import os
import signal
import sys

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.dont_write_bytecode = True
_usr = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(_usr, "lib", "ishowtts-sim"))
from standin_tools.{module} import main

sys.exit(main(sys.argv[1:]))
'''

_HARDWARE_TOOLS = {
    "usr/sbin/nvpmodel": "nvpmodel",
    "usr/bin/jetson_clocks": "jetson_clocks",
    "usr/bin/tegrastats": "tegrastats",
}
_FOLDER_TOOLS = {"usr/bin/systemctl": "systemctl", "usr/bin/journalctl": "journalctl"}

_UNITS = {
    "nvpmodel.service": (
        "Power mode (simulated Jetson)",
        "Type=oneshot\nExecStart=/usr/sbin/nvpmodel -f /etc/nvpmodel.conf",
    ),
    "nvpower.service": (
        "Power set-up (simulated Jetson)",
        "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true",
    ),
    "nvfancontrol.service": (
        "Fan control (simulated Jetson)",
        "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true",
    ),
}

_UBUNTU = {
    "20.04": ("20.04.6 LTS (Focal Fossa)", "focal"),
    "22.04": ("22.04.5 LTS (Jammy Jellyfish)", "jammy"),
    "24.04": ("24.04.3 LTS (Noble Numbat)", "noble"),
}


def write_identity(tree: Tree, board: Board) -> None:
    """The marker, the L4T release and the Ubuntu release."""
    marker = {
        "stand_in": True,
        "note": NOTE,
        "board": board.name,
        "module": board.module.key,
        "l4t": board.release.l4t,
        "release_major": board.release.major,
        "model": board.model,
        "dla": board.dla,
    }
    tree.file("etc/ishowtts-sim.json", json.dumps(marker, indent=2) + "\n")
    lines = [board.release.first_line]
    if board.release.major >= 36:
        lines += [
            "# KERNEL_VARIANT: oot",
            "TARGET_USERSPACE_LIB_DIR=nvidia",
            "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia",
        ]
    tree.file("etc/nv_tegra_release", "\n".join(lines) + "\n")
    long_name, codename = _UBUNTU[board.release.ubuntu]
    tree.file(
        "etc/os-release",
        f'PRETTY_NAME="Ubuntu {long_name.split(" (")[0]}"\nNAME="Ubuntu"\n'
        f'VERSION_ID="{board.release.ubuntu}"\nVERSION="{long_name}"\n'
        f"VERSION_CODENAME={codename}\nID=ubuntu\nID_LIKE=debian\n",
    )


def write_device_tree(tree: Tree, board: Board) -> None:
    """NUL-terminated strings, as the kernel shows them; Thor's three are upstream Linux's."""
    base = "sys/firmware/devicetree/base"
    compatibles = [board.module.compatibles[0]]
    soc = "nvidia,tegra264" if board.thor else "nvidia,tegra234"
    compatibles += [f"nvidia,{board.module.skus[0]}", soc]
    tree.file(f"{base}/model", f"{board.model}\0")
    tree.file(f"{base}/compatible", "".join(f"{text}\0" for text in compatibles))
    tree.file(f"{base}/serial-number", "1420000000000\0")


def write_nvpmodel(tree: Tree, board: Board) -> None:
    """The configurations of every shape of this part, and the link to the one in use."""
    where = board.layout
    for module in related_modules(board.module):
        if module.is_super and board.release.major < 36:
            continue
        text = conf_text(module, where, board.release.major)
        tree.file(f"etc/nvpmodel/{module.conf_file}", text)
    tree.link("etc/nvpmodel.conf", f"/etc/nvpmodel/{board.module.conf_file}")
    tree.mkdir("var/lib/nvpmodel")


def related_modules(module: Module) -> list[Module]:
    """The module in its plain and its super shape."""
    return [other for other in ALL_MODULES if set(other.skus) & set(module.skus)]


def write_units(tree: Tree) -> None:
    """nvpmodel.service is a oneshot *without* RemainAfterExit: dead after every boot, and run again
    by whatever pulls it in again."""
    for name, (description, service) in _UNITS.items():
        after = "" if name == "nvpower.service" else "After=nvpower.service\n"
        tree.file(
            f"etc/systemd/system/{name}",
            f"[Unit]\nDescription={description}\n{after}\n[Service]\n{service}\n\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        wants = f"etc/systemd/system/multi-user.target.wants/{name}"
        tree.link(wants, f"/etc/systemd/system/{name}")


def write_folder_only(tree: Tree, board: Board) -> None:
    """What a container has from its own kernel and Debian: /proc, users, the boot target."""
    tree.link("proc/device-tree", "../sys/firmware/devicetree/base")
    total = board.ram_mib * 1024
    swap = total // 2
    meminfo = {
        "MemTotal": total,
        "MemFree": total * 7 // 10,
        "MemAvailable": total * 8 // 10,
        "Buffers": total // 100,
        "Cached": total // 10,
        "SwapCached": 0,
        "SwapTotal": swap,
        "SwapFree": swap,
    }
    tree.file("proc/meminfo", "".join(f"{k + ':':16}{v:8} kB\n" for k, v in meminfo.items()))
    cores = board.module.cpu_cores
    swaps = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" + "".join(
        f"/dev/zram{n:<30}partition\t{swap // cores}\t\t0\t\t5\n" for n in range(cores)
    )
    tree.file("proc/swaps", swaps)
    tree.file("proc/vmstat", "pswpin 0\npswpout 0\npgmajfault 1021\noom_kill 0\n")
    tree.file("proc/uptime", "321.07 3120.44\n")
    tree.file("proc/loadavg", "0.08 0.11 0.05 1/412 2210\n")
    tree.file("etc/hostname", "orin-sim\n")
    tree.file("etc/machine-id", "00000000000000000000000000000051\n")
    tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    tree.file("etc/group", "root:x:0:\nvideo:x:44:\nrender:x:104:\n")
    tree.link("etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")
    for folder in ("root", "tmp", "var/log", "var/lib", "var/cache", "opt", "usr/local/bin"):
        tree.mkdir(folder)


def write_boot_record(tree: Tree) -> None:
    """What the stand-in service manager knows right after a boot."""
    now = time.monotonic_ns() // 1000
    for name in _UNITS:
        stays = name != "nvpmodel.service"
        state = {
            "active": "active" if stays else "inactive",
            "sub": "exited" if stays else "dead",
            "result": "success",
            "start_monotonic": now,
        }
        tree.file(f"run/ishowtts-sim/units/{name}.json", json.dumps(state) + "\n")


def write_nvmap(tree: Tree) -> None:
    """GPU memory by process; nobody holds any on a fresh box."""
    head = f"{'CLIENT':<30}{'PROCESS':<15}{'PID':>9}{'SIZE':>8}\n"
    total = f"{'total':<30}{'':<15}{'':>9}{'0K':>8}\n"
    tree.file("sys/kernel/debug/nvmap/iovmm/clients", head + total)


def install_tools(tree: Tree, board: Board, *, folder: bool) -> None:
    """Copy the stand-in tools into the box, byte-compiled, with a launcher each."""
    for name, data in _tool_files().items():
        tree.file(f"{TOOLS_FOLDER}/{name}", data)
    launchers = dict(_HARDWARE_TOOLS)
    if board.release.major >= 36:
        launchers["usr/bin/nvidia-smi"] = "nvidia_smi"
    if folder:
        launchers |= _FOLDER_TOOLS
    python = _interpreter(folder=folder)
    for path, module in launchers.items():
        text = _LAUNCHER.format(
            python=python, name=path.rsplit("/", 1)[-1], module=module, folder=f"/{TOOLS_FOLDER}"
        )
        tree.file(path, text, mode=0o755)


def _interpreter(*, folder: bool) -> str:
    """What the launchers' first line names.

    A box in a folder runs on this machine, whose `python3` may be too old, or a slow shim: there it
    is the interpreter that builds the box, without site-packages. A container has its own.
    """
    usable = sys.executable and len(sys.executable) < 110 and " " not in sys.executable
    return f"{sys.executable} -IS" if folder and usable else "/usr/bin/env python3"


@cache
def _tool_files() -> dict[str, bytes]:
    """The tools' sources and their bytecode. Compiled ahead of time, because running a tool must
    not change the box, and once per process, because tests build many boxes."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in resources.files("ishowtts_ops.sim.tools").iterdir():
            if not source.name.endswith(".py"):
                continue
            text = Path(folder, source.name)
            text.write_bytes(source.read_bytes())
            compiled = Path(importlib.util.cache_from_source(str(text)))
            py_compile.compile(
                str(text),
                str(compiled),
                dfile=source.name,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                doraise=True,
            )
            found[source.name] = text.read_bytes()
            found[f"__pycache__/{compiled.name}"] = compiled.read_bytes()
    return found
