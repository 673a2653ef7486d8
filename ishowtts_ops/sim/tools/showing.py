"""What the stand-in systemctl prints about units."""

from __future__ import annotations

import sys

from .box import Box
from .enabling import file_state
from .logs import entries
from .unitfile import Unit, load_unit
from .unitstate import load_state, needs_reload


def properties(box: Box, name: str) -> dict[str, str]:
    """`systemctl show` of a unit, as far as it is simulated."""
    unit, state = load_unit(box, name), load_state(box, name)
    load = "masked" if unit.masked else "loaded" if unit.fragment else "not-found"
    return {
        "Id": name,
        "Names": name,
        "Description": unit.description,
        "LoadState": load,
        "ActiveState": state.active,
        "SubState": state.sub,
        "FragmentPath": unit.fragment,
        "DropInPaths": " ".join(unit.drop_ins),
        "UnitFileState": file_state(box, unit),
        "NeedDaemonReload": "yes" if needs_reload(box, unit) else "no",
        "Type": unit.service_type if unit.kind == "service" else "",
        "Restart": unit.get("Service.Restart", "no"),
        "NotifyAccess": "main",
        "Result": state.result,
        "MainPID": str(state.main_pid),
        "NRestarts": str(state.n_restarts),
        "StatusText": state.status_text,
        "ExecMainStartTimestampMonotonic": str(state.start_monotonic),
        "ExecMainPID": str(state.main_pid),
        "ExecMainCode": str(state.exit_code),
        "ExecMainStatus": str(state.exit_status),
        "ActiveEnterTimestampMonotonic": str(state.active_monotonic),
        "WatchdogUSec": _usec(unit),
        "After": " ".join(unit.words("Unit.After")),
        "Wants": " ".join(unit.words("Unit.Wants")),
        "Requires": " ".join(unit.words("Unit.Requires")),
    }


def _usec(unit: Unit) -> str:
    seconds = unit.seconds("Service.WatchdogSec", 0)
    return f"{seconds:g}s" if seconds else "0"


def manager_properties() -> dict[str, str]:
    """`systemctl show` without a unit. The hardware watchdog is armed on real boxes."""
    return {"SystemState": "running", "RuntimeWatchdogUSec": "2min", "WatchdogDevice": ""}


def show(box: Box, units: list[str], names: list[str], *, value_only: bool) -> None:
    blocks = [properties(box, unit) for unit in units] if units else [manager_properties()]
    for number, block in enumerate(blocks):
        if number:
            print()
        for key, value in block.items():
            if names and key not in names:
                continue
            print(value if value_only else f"{key}={value}")


def status(box: Box, name: str, lines: int) -> int:
    """Returns 0 active, 3 not active, 4 no such unit."""
    block = properties(box, name)
    if block["LoadState"] == "not-found":
        print(f"Unit {name} could not be found.", file=sys.stderr)
        return 4
    active = block["ActiveState"]
    dot = {"active": "●", "failed": "×"}.get(active, "○")
    print(f"{dot} {name} - {block['Description']}")
    enabled = f"; {block['UnitFileState']}" if block["UnitFileState"] else ""
    print(f"     Loaded: {block['LoadState']} ({block['FragmentPath']}{enabled})")
    result = f" (Result: {block['Result']})" if active == "failed" else f" ({block['SubState']})"
    print(f"     Active: {active}{result}")
    if name.endswith((".timer", ".path")):
        print("       Note: stand-in for systemd: recorded, never fired")
    if block["MainPID"] != "0":
        print(f"   Main PID: {block['MainPID']}")
    if block["StatusText"]:
        print(f'     Status: "{block["StatusText"]}"')
    shown = entries(box, name)[-lines:] if lines else []
    if shown:
        print()
    for entry in shown:
        print(entry.short)
    return 0 if active in ("active", "reloading") else 3


def cat(box: Box, name: str) -> int:
    unit = load_unit(box, name)
    if not unit.fragment:
        print(f"No files found for {name}.", file=sys.stderr)
        return 1
    for path in (unit.fragment, *unit.drop_ins):
        print(f"# {path}")
        if box.exists(path):
            print(box.path(path).read_text(encoding="utf-8"))
    return 0


def list_units(box: Box, names: list[str], states: set[str], *, legend: bool, every: bool) -> None:
    rows = []
    for name in names:
        block = properties(box, name)
        active = block["ActiveState"]
        if states and not states & {active, block["SubState"], block["LoadState"]}:
            continue
        if not states and not every and active == "inactive":
            continue
        rows.append((name, block["LoadState"], active, block["SubState"], block["Description"]))
    width = max((len(row[0]) for row in rows), default=4)
    if legend and rows:
        print(f"{'UNIT':{width}} LOAD   ACTIVE   SUB     DESCRIPTION")
    for name, load, active, sub, description in rows:
        print(f"{name:{width}} {load:6} {active:8} {sub:7} {description}")
    if legend:
        print(f"\n{len(rows)} loaded units listed.")


def list_unit_files(box: Box, names: list[str], *, legend: bool) -> None:
    width = max((len(name) for name in names), default=9)
    if legend:
        print(f"{'UNIT FILE':{width}} STATE    PRESET")
    for name in names:
        unit = load_unit(box, name)
        if unit.fragment:
            print(f"{name:{width}} {file_state(box, unit):8} enabled")
    if legend:
        print(f"\n{len(names)} unit files listed.")
