"""Reboots a simulated box in a folder. (A container reboots by itself; there, `cold_boot` is what
the hardware does meanwhile.)"""

from __future__ import annotations

from pathlib import Path

from ishowtts_ops.host import Host
from ishowtts_ops.sim.files import Tree
from ishowtts_ops.sim.tree import board_of, cold_boot

SHUTDOWN_LIMIT_S = 300
BOOT_LIMIT_S = 900


def shut_down_folder(root: Path) -> None:
    """Stop every unit of the box.

    Raises:
        CommandFailed: the stand-in service manager broke down.
    """
    Host.at(root).run(["systemctl", "sim-shutdown"], timeout=SHUTDOWN_LIMIT_S).check()


def boot_folder(root: Path) -> None:
    """Start what is enabled, nvpmodel.service first of all, each unit after those it waits for.
    Units that fail do not make the boot fail.

    Raises:
        CommandFailed: the stand-in service manager broke down.
    """
    Host.at(root).run(["systemctl", "sim-boot"], timeout=BOOT_LIMIT_S).check()


def reboot_folder(root: Path) -> None:
    """Shut down, power-cycle the hardware, empty /run, boot.

    Raises:
        OpsError: `root` is no simulated box.
        CommandFailed: the stand-in service manager broke down.
    """
    root = root.resolve()
    board_of(root)
    shut_down_folder(root)
    cold_boot(root)
    Tree(root).empty("run")
    boot_folder(root)
