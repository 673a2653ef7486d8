"""enable, disable, mask: the symlinks below /etc/systemd/system."""

from __future__ import annotations

import os
import sys

from .box import Box
from .unitfile import UNIT_DIR, Unit, load_unit


def install_links(unit: Unit) -> dict[str, str]:
    """The links that [Install] asks for: link → target, both paths of the box."""
    links = {
        f"{UNIT_DIR}/{target}.{folder}/{unit.name}": unit.fragment
        for key, folder in (("WantedBy", "wants"), ("RequiredBy", "requires"))
        for target in unit.words(f"Install.{key}")
    }
    for alias in unit.words("Install.Alias"):
        links[f"{UNIT_DIR}/{alias}"] = unit.fragment
    return links


def enable(box: Box, name: str) -> int:
    """Returns systemctl's exit status."""
    unit = load_unit(box, name)
    if unit.masked:
        print(f"Failed to enable unit: Unit file {unit.fragment} is masked.", file=sys.stderr)
        return 1
    if not unit.fragment:
        print(f"Failed to enable unit: Unit file {name} does not exist.", file=sys.stderr)
        return 1
    links = install_links(unit)
    if not links:
        print(f"The unit file {name} has no [Install] section to enable it by.", file=sys.stderr)
    for link, target in links.items():
        real = box.path(link, follow_last=False)
        if real.is_symlink() and os.readlink(real) == target:
            continue
        real.parent.mkdir(parents=True, exist_ok=True)
        if real.is_symlink():
            real.unlink()
        real.symlink_to(target)
        print(f"Created symlink {link} → {target}.", file=sys.stderr)
    for also in unit.words("Install.Also"):
        if also != name:
            enable(box, also)
    return 0


def disable(box: Box, name: str) -> int:
    unit = load_unit(box, name)
    if not unit.fragment and not enabling_links(box, name):
        print(f"Failed to disable unit: Unit file {name} does not exist.", file=sys.stderr)
        return 1
    for link in enabling_links(box, name):
        real = box.path(link, follow_last=False)
        real.unlink()
        print(f"Removed {link}.", file=sys.stderr)
        if real.parent.name.endswith((".wants", ".requires")) and not any(real.parent.iterdir()):
            real.parent.rmdir()
    for also in unit.words("Install.Also"):
        if also != name:
            disable(box, also)
    return 0


def enabling_links(box: Box, name: str) -> list[str]:
    """Links below /etc that pull the unit in or name it by another name."""
    found: list[str] = []
    for entry in box.listdir(UNIT_DIR):
        path = f"{UNIT_DIR}/{entry}"
        if entry.endswith((".wants", ".requires")):
            if name in box.listdir(path):
                found.append(f"{path}/{name}")
        elif entry != name:
            real = box.path(path, follow_last=False)
            if real.is_symlink() and os.path.basename(os.readlink(real)) == name:
                found.append(path)
    return found


def mask(box: Box, name: str) -> int:
    real = box.path(f"{UNIT_DIR}/{name}", follow_last=False)
    if real.exists() and not real.is_symlink():
        print(
            f"Failed to mask unit: File {UNIT_DIR}/{name} already exists.",
            file=sys.stderr,
        )
        return 1
    real.unlink(missing_ok=True)
    real.symlink_to("/dev/null")
    print(f"Created symlink {UNIT_DIR}/{name} → /dev/null.", file=sys.stderr)
    return 0


def unmask(box: Box, name: str) -> int:
    if load_unit(box, name).masked:
        box.path(f"{UNIT_DIR}/{name}", follow_last=False).unlink()
        print(f"Removed {UNIT_DIR}/{name}.", file=sys.stderr)
    return 0


def file_state(box: Box, unit: Unit) -> str:
    """enabled, disabled, static, masked, or nothing for a unit without a file."""
    if unit.masked:
        return "masked"
    if not unit.fragment:
        return ""
    if any(box.path(link, follow_last=False).is_symlink() for link in install_links(unit)):
        return "enabled"
    return "disabled" if install_links(unit) else "static"
