"""systemctl's verbs that only look."""

from __future__ import annotations

import sys
from collections.abc import Callable

from . import enabling
from .box import Box
from .command_line import Words
from .jobs import default_target
from .showing import cat, list_unit_files, list_units, show, status
from .unitfile import all_units, load_unit
from .unitstate import known_states, load_state


def _is_active(box: Box, words: Words) -> int:
    states = [load_state(box, name).active for name in words.units]
    if not words.has("-q", "--quiet"):
        print("\n".join(states))
    return 0 if any(state in ("active", "reloading") for state in states) else 3


def _is_failed(box: Box, words: Words) -> int:
    states = [load_state(box, name).active for name in words.units]
    if not words.has("-q", "--quiet"):
        print("\n".join(states))
    return 0 if "failed" in states else 1


def _is_enabled(box: Box, words: Words) -> int:
    ok = False
    for name in words.units:
        unit = load_unit(box, name)
        if not unit.fragment:
            print(
                f"Failed to get unit file state for {name}: No such file or directory",
                file=sys.stderr,
            )
            continue
        state = enabling.file_state(box, unit)
        ok = ok or state in ("enabled", "static")
        if not words.has("-q", "--quiet"):
            print(state)
    return 0 if ok else 1


def _get_default(box: Box, words: Words) -> int:
    print(default_target(box))
    return 0


def _show(box: Box, words: Words) -> int:
    wanted = words.value("-p", "--property")
    names = wanted.split(",") if wanted else []
    show(box, words.units, names, value_only=words.has("--value"))
    return 0


def _status(box: Box, words: Words) -> int:
    lines = words.value("-n", "--lines")
    return max(
        (status(box, name, int(lines) if lines.isdigit() else 10) for name in words.units),
        default=0,
    )


def _cat(box: Box, words: Words) -> int:
    return max((cat(box, name) for name in words.units), default=0)


def _list_units(box: Box, words: Words) -> int:
    wanted = words.value("--state")
    states = set(wanted.split(",")) if wanted else set()
    if words.has("--failed"):
        states.add("failed")
    kinds = words.value("-t", "--type")
    names = sorted({*all_units(box), *known_states(box)})
    names = [name for name in names if not kinds or name.rsplit(".", 1)[-1] in kinds.split(",")]
    list_units(
        box, names, states, legend=not words.has("--no-legend"), every=words.has("-a", "--all")
    )
    return 0


def _list_unit_files(box: Box, words: Words) -> int:
    list_unit_files(box, words.units or all_units(box), legend=not words.has("--no-legend"))
    return 0


def _list_timers(box: Box, words: Words) -> int:
    print("NEXT LEFT LAST PASSED UNIT ACTIVATES")
    for name in all_units(box):
        if name.endswith(".timer") and load_state(box, name).active == "active":
            unit = load_unit(box, name)
            activates = unit.get("Timer.Unit") or f"{name[:-6]}.service"
            print(f"n/a  n/a  n/a  n/a    {name} {activates}")
    return 0


VERBS: dict[str, Callable[[Box, Words], int]] = {
    "is-active": _is_active,
    "is-failed": _is_failed,
    "is-enabled": _is_enabled,
    "get-default": _get_default,
    "show": _show,
    "status": _status,
    "cat": _cat,
    "list-units": _list_units,
    "list-unit-files": _list_unit_files,
    "list-timers": _list_timers,
}
