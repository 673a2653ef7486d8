"""Which units a start pulls in, and in which order they go."""

from __future__ import annotations

from dataclasses import dataclass, field

from .box import Box
from .unitfile import Unit, load_unit, wanted_by

BOOT_TARGETS = (
    "sysinit.target",
    "basic.target",
    "network.target",
    "network-online.target",
    "sockets.target",
    "timers.target",
    "paths.target",
    "local-fs.target",
)
"""Targets that every boot reaches."""


@dataclass
class Transaction:
    """Units in start order, and the names of those dropped to break an ordering cycle."""

    units: list[Unit] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def pulled_in(box: Box, unit: Unit) -> list[str]:
    """Names of the units that starting this one starts too."""
    named = [word for key in ("Wants", "Requires", "BindsTo") for word in unit.words(f"Unit.{key}")]
    return [*named, *wanted_by(box, unit.name)]


def transaction(box: Box, names: list[str]) -> Transaction:
    """Everything that has to be started for `names`, ordered by After= and Before=.

    A target comes after what it wants. A unit that wants to be after a target that wants it makes
    a cycle; systemd then drops that unit's job, and so does this.
    """
    units: dict[str, Unit] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name in units:
            continue
        units[name] = load_unit(box, name)
        todo += pulled_in(box, units[name])
    after: dict[str, set[str]] = {name: set() for name in units}
    for name, unit in units.items():
        after[name] |= {other for other in unit.words("Unit.After") if other in units}
        for other in unit.words("Unit.Before"):
            if other in units:
                after[other].add(name)
        if unit.kind == "target":
            after[name] |= {other for other in pulled_in(box, unit) if other in units}
    result = Transaction()
    while after:
        free = [name for name, waits in after.items() if not waits]
        if not free:
            cut = next(name for name in sorted(after) if units[name].kind != "target")
            result.dropped.append(cut)
            _remove(after, cut)
            continue
        for name in free:
            result.units.append(units[name])
            _remove(after, name)
    return result


def _remove(after: dict[str, set[str]], name: str) -> None:
    del after[name]
    for waits in after.values():
        waits.discard(name)


def boot_goal(box: Box) -> list[str]:
    """What a boot starts: the default target and the targets below it."""
    target = default_target(box)
    goal = [*BOOT_TARGETS, "multi-user.target"]
    return goal if target in goal else [*goal, target]


def default_target(box: Box) -> str:
    """The name behind the default.target link; graphical.target where there is none, as upstream
    systemd has it."""
    link = box.path("/etc/systemd/system/default.target", follow_last=False)
    return link.readlink().name if link.is_symlink() else "graphical.target"
