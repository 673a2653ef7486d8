"""Builds a simulated Jetson below a folder, and power-cycles its hardware.

Two uses. As a *box in a folder* the whole tree is the box: tools of it are run with
`ISHOWTTS_BOX_ROOT` set to the folder, and a stand-in `systemctl` manages its services. For a
*container* (`folder=False`) the tree holds what goes into, or is mounted over, a real root file
system: `sys/devices`, `sys/class`, `sys/kernel` and `sys/firmware` are meant to be bind-mounted
over the real paths, and the tools run there without the variable.
"""

from __future__ import annotations

import json
from pathlib import Path

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.modules import Module
from ishowtts_ops.sim.boards import Board, find_board
from ishowtts_ops.sim.clocks import write_clocks
from ishowtts_ops.sim.files import Tree
from ishowtts_ops.sim.sensors import write_sensors
from ishowtts_ops.sim.system import (
    install_tools,
    write_boot_record,
    write_device_tree,
    write_folder_only,
    write_identity,
    write_nvmap,
    write_nvpmodel,
    write_units,
)
from ishowtts_ops.sim.tools.box import HARDWARE, MARKER, Box
from ishowtts_ops.sim.tools.nvpmodel import apply_mode
from ishowtts_ops.sim.tools.nvpmodel_conf import parse_conf

HARDWARE_FOLDERS = ("sys/devices", "sys/class", "sys/kernel", "sys/firmware")
"""What a container mounts over its own /sys."""

GPU_LATE = "etc/ishowtts-sim.d/gpu-late"
"""Fault file: "calls N" or "seconds S". After a cold boot the GPU's devfreq is missing until
jetson_clocks has been run N times, or until a tool runs S seconds later."""


def build_box(root: Path, board: str, *, standins: bool = True, folder: bool = True) -> None:
    """Write a box that has booted into its default power mode with its clocks unlocked.

    Args:
        root: made when missing. A box that was built there before is built anew over it; other
            files in it (a root file system, for a container) stay.
        board: see `ishowtts_ops.sim.boards.find_board`.
        standins: also copy the stand-in tools into the box.
        folder: the box is the folder itself, so it gets /proc, users and a stand-in `systemctl`.

    Raises:
        UsageError: no such board.
        OpsError: `root` is this machine's root, or a folder with something else in it.
    """
    wanted = find_board(board)
    root = root.resolve()
    _refuse_foreign(root, folder=folder)
    tree = Tree(root)
    tree.mkdir(".")
    write_identity(tree, wanted)
    write_nvpmodel(tree, wanted)
    write_units(tree)
    if folder:
        write_folder_only(tree, wanted)
        write_boot_record(tree)
    if standins:
        install_tools(tree, wanted, folder=folder)
    _write_hardware(tree, wanted)
    _boot_mode(root, wanted.module)


def board_of(root: Path) -> Board:
    """The board that was built at `root`.

    Raises:
        OpsError: no simulated box is there.
    """
    try:
        marker = json.loads((root / MARKER.lstrip("/")).read_text(encoding="utf-8"))
        return find_board(str(marker["board"]))
    except (OSError, ValueError, KeyError):
        raise OpsError(f"{root} is not a simulated box.", "Build one first.") from None


def cold_boot(root: Path) -> None:
    """Power-cycle the hardware: every attribute as the kernel leaves it, no power mode applied yet.

    Files that a power cycle does not touch stay, nvpmodel's status file among them; nvpmodel's
    boot service applies the stored mode afterwards. Works on mounted folders too.
    """
    root = root.resolve()
    tree = Tree(root)
    _write_hardware(tree, board_of(root))
    _hide_late_gpu(tree, board_of(root))


def _refuse_foreign(root: Path, *, folder: bool) -> None:
    if root == Path("/"):
        raise OpsError("A simulated box cannot be built over this machine.", "Name a folder.")
    if root.exists() and not root.is_dir():
        raise OpsError(f"{root} is not a folder.", "Name a folder that is empty or new.")
    known = (root / MARKER.lstrip("/")).is_file()
    if folder and not known and root.is_dir() and any(root.iterdir()):
        raise OpsError(
            f"{root} has files in it that are no simulated box.",
            "Name a folder that is empty or new.",
        )


def _write_hardware(tree: Tree, board: Board) -> None:
    for folder in HARDWARE_FOLDERS:
        tree.empty(folder)
    write_device_tree(tree, board)
    write_clocks(tree, board)
    write_sensors(tree, board)
    write_nvmap(tree)
    tree.file(f"{HARDWARE.lstrip('/')}/gpu_used", 0)
    # Only root may look into debugfs on a real box.
    tree.mkdir("sys/kernel/debug", mode=0o700)


def _boot_mode(root: Path, module: Module) -> None:
    box = Box(root)
    conf = parse_conf(box.read("/etc/nvpmodel.conf"))
    mode = conf.mode(module.default_mode.id)
    failure = apply_mode(box, conf, mode) if mode else "its file lacks it"
    if failure:
        raise AssertionError(f"{module.key} does not take its own default mode: {failure}")


def _hide_late_gpu(tree: Tree, board: Board) -> None:
    try:
        unit, amount = (tree.root / GPU_LATE).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return
    where = board.layout
    drivers = Path(where.devfreq).parent
    link = tree.root / "sys/class/devfreq" / where.gpu_name
    state: dict[str, object] = {
        "link": f"/sys/class/devfreq/{where.gpu_name}",
        "target": str(link.readlink()),
        "hidden": f"/{drivers.with_name('.devfreq-late')}",
    }
    if unit == "calls":
        state["calls"] = int(amount)
    else:
        # Counted from the first look a tool takes at it, which is when the simulated boot begins.
        state["seconds"] = float(amount)
    (tree.root / drivers).rename(tree.root / drivers.with_name(".devfreq-late"))
    link.unlink()
    tree.file(f"{HARDWARE.lstrip('/')}/gpu_late", json.dumps(state))
