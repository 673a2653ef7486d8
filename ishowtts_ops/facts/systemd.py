"""What systemd knows: units, their states, the target the box boots into.

`systemctl show` never fails for a unit that does not exist (it answers LoadState=not-found), so one
call asks for all units. The default target is read off its symlink, as `systemctl get-default`
does, so that it is known on an offline box too. `systemd-analyze verify` exits 0 with complaints on
its stderr, so its stderr is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ishowtts_ops.facts.asking import ask, failure
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

QUERY_LIMIT_S = 5.0
VERIFY_LIMIT_S = 15.0

SHOWN = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "NRestarts",
    "MainPID",
    "ExecMainStatus",
    "StatusText",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
)
DISPLAY_MANAGER = "/etc/systemd/system/display-manager.service"
DEFAULT_TARGET_LINKS = (
    "/etc/systemd/system/default.target",
    "/usr/lib/systemd/system/default.target",
    "/lib/systemd/system/default.target",
)
_CYCLE = re.compile(r"Found ordering cycle|deleted to break ordering cycle")


@dataclass(frozen=True)
class NoSystemd(Unknown):
    """systemd does not run the box, or does not answer; `box-systemd` says so."""


@dataclass(frozen=True)
class Unit:
    """A unit as systemd sees it now; empty strings where systemd says nothing.

    Attributes:
        load: loaded, not-found, bad-setting, masked …
        active: active, inactive, activating, failed …
        result: success, exit-code, signal, watchdog, timeout, start-limit-hit, oom-kill …
        file_state: enabled, disabled, static, masked …
        restarts: automatic restarts since the unit was started by hand or at boot.
        pid: of the main process, 0 when there is none.
        status: the daemon's own STATUS= line.
        stale: the unit file changed and systemd was not told (`daemon-reload`).
    """

    name: str
    load: str
    active: str
    sub: str
    result: str
    file_state: str
    restarts: int
    pid: int
    exit_status: int
    status: str
    stale: bool
    fragment: str
    drop_ins: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return self.load not in ("", "not-found")

    @property
    def running(self) -> bool:
        return self.active == "active"


@dataclass(frozen=True)
class Systemd:
    """Attributes:
    version: 249 in "systemd 249 (249.11-0ubuntu3)".
    default_target: what the box boots into, "multi-user.target" for example.
    display_manager: the unit that starts a desktop there, None when none is installed. Without
        one, graphical.target is the same as multi-user.target, and it is systemd's own default.
    units: those asked for, by name.
    failed: names of all failed units of the box.
    """

    version: Maybe[int]
    default_target: Maybe[str]
    display_manager: str | None
    units: Maybe[Mapping[str, Unit]]
    failed: Maybe[tuple[str, ...]]


def parse_show(text: str) -> dict[str, Unit]:
    """`systemctl show -p … UNIT…`: blocks of Key=value, parted by empty lines. Blocks without an
    Id are left out."""
    units: dict[str, Unit] = {}
    for block in re.split(r"\n[ \t]*\n", text):
        pairs = (line.split("=", 1) for line in block.splitlines() if "=" in line)
        values = {key.strip(): value.strip() for key, value in pairs}
        if values.get("Id") and values.get("LoadState"):
            units[values["Id"]] = _unit(values)
    return units


def _unit(values: Mapping[str, str]) -> Unit:
    return Unit(
        name=values["Id"],
        load=values["LoadState"],
        active=values.get("ActiveState", ""),
        sub=values.get("SubState", ""),
        result=values.get("Result", ""),
        file_state=values.get("UnitFileState", ""),
        restarts=_count(values.get("NRestarts", "")),
        pid=_count(values.get("MainPID", "")),
        exit_status=_count(values.get("ExecMainStatus", "")),
        status=values.get("StatusText", ""),
        stale=values.get("NeedDaemonReload") == "yes",
        fragment=values.get("FragmentPath", ""),
        drop_ins=tuple(values.get("DropInPaths", "").split()),
    )


def _count(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else 0


def parse_version(text: str) -> Maybe[int]:
    """`systemctl --version`: the number after the first "systemd"."""
    match = re.match(r"systemd (\d{1,5})\b", text, re.ASCII)
    return int(match[1]) if match else Unknown("systemctl --version names no version")


def parse_failed(text: str) -> tuple[str, ...]:
    """`systemctl list-units --failed --plain --no-legend`: the units' names."""
    return tuple(
        match[1]
        for line in text.splitlines()
        if (match := re.match(r"\s*[●*×]?\s*(\S+\.[a-z]+)\s+\S+\s+failed\b", line))
    )


def read_systemd(host: Host, unit_names: Sequence[str]) -> Systemd:
    """Ask systemd about some units and about the box as a whole.

    Units are Unknown when systemd does not run on the box (an offline root, a container without it)
    or does not answer.
    """
    units = _units(host, unit_names)
    failed: Maybe[tuple[str, ...]] = units if isinstance(units, Unknown) else _failed(host)
    return Systemd(_version(host), default_target(host), display_manager(host), units, failed)


def default_target(host: Host) -> Maybe[str]:
    """The target the box boots into, read off the symlink."""
    for link in DEFAULT_TARGET_LINKS:
        if host.is_symlink(link):
            name = host.readlink(link).rsplit("/", 1)[-1]
            return "graphical.target" if name == "runlevel5.target" else name
    return Unknown(f"there is no {DEFAULT_TARGET_LINKS[0]} and no default of the system")


def display_manager(host: Host) -> str | None:
    """The display manager's unit, "gdm.service" for example, read off its symlink."""
    if not host.is_symlink(DISPLAY_MANAGER):
        return None
    return host.readlink(DISPLAY_MANAGER).rsplit("/", 1)[-1]


def watchdog_kills(journal: str) -> int:
    """How often systemd's watchdog killed the unit, in lines of its journal."""
    return len(re.findall(r"Watchdog timeout \(limit", journal))


def read_journal(host: Host, unit: str, lines: int = 400) -> Maybe[str]:
    """The newest lines of a unit's journal since boot."""
    argv = ("journalctl", "-u", unit, "-b", "-n", str(lines), "--no-pager", "-o", "cat")
    return _ask(host, argv)


def ordering_cycles(host: Host) -> Maybe[tuple[str, ...]]:
    """Ordering cycles that systemd met since boot, one line each, and what it dropped for them."""
    argv = ("journalctl", "-b", "-t", "systemd", "-n", "4000", "--no-pager", "-o", "cat")
    text = _ask(host, argv)
    return text if isinstance(text, Unknown) else parse_cycles(text)


def parse_cycles(journal: str) -> tuple[str, ...]:
    """systemd's lines about ordering cycles, without repetitions."""
    lines = (line.strip() for line in journal.splitlines())
    return tuple(dict.fromkeys(line[:300] for line in lines if _CYCLE.search(line)))


def complaints(host: Host, unit_paths: Sequence[str]) -> Maybe[tuple[str, ...]]:
    """What `systemd-analyze verify` has to say about unit files, line by line; empty is good.

    Lines about other units that ours merely mention are left out.
    """
    argv = ["systemd-analyze", "verify", "--man=no", *unit_paths]
    result = ask(host, argv, VERIFY_LIMIT_S)
    if isinstance(result, Unknown):
        return result
    return about_units(result.stderr, [path.rsplit("/", 1)[-1] for path in unit_paths])


def about_units(stderr: str, names: Sequence[str]) -> tuple[str, ...]:
    """Lines of `systemd-analyze verify`'s stderr that name one of the units, or a cycle."""
    lines = (line.strip() for line in stderr.splitlines())
    return tuple(
        line
        for line in lines
        if line and (any(name in line for name in names) or "ordering cycle" in line)
    )


def _units(host: Host, names: Sequence[str]) -> Maybe[Mapping[str, Unit]]:
    argv = ("systemctl", "show", "--no-pager", "-p", ",".join(SHOWN), *names)
    text = _ask(host, argv)
    if isinstance(text, Unknown):
        return NoSystemd(text.reason)
    units = parse_show(text)
    missing = [name for name in names if name not in units]
    if missing:
        return NoSystemd(f"systemctl show says nothing about {', '.join(missing)}")
    return units


def _failed(host: Host) -> Maybe[tuple[str, ...]]:
    argv = ("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
    text = _ask(host, argv)
    return text if isinstance(text, Unknown) else parse_failed(text)


def _version(host: Host) -> Maybe[int]:
    text = _ask(host, ("systemctl", "--version"))
    return text if isinstance(text, Unknown) else parse_version(text)


def _ask(host: Host, argv: Sequence[str]) -> Maybe[str]:
    result = ask(host, argv, QUERY_LIMIT_S)
    if isinstance(result, Unknown):
        return result
    return result.stdout if result.ok else failure(result, words=2)
