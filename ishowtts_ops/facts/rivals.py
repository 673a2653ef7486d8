"""Who else wants control of mode and clocks.

Known rivals: jtop (jetson-stats) when it is told to run jetson_clocks at boot, tuned,
auto-cpufreq, power-profiles-daemon, and hand-made units or rc.local lines that run jetson_clocks or
nvpmodel. What is installed and enabled is read off unit files and their links, so that an offline
box can be looked at too; whether it runs is asked of systemd.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

JTOP_CONFIGS = (
    "/usr/local/jtop/config.json",
    "/usr/local/local/jtop/config.json",
    "/usr/local/share/jetson_stats/config.json",
)
"""jetson-stats keeps it at <sys.base_prefix>/local/jtop; the base prefix is /usr or /usr/local."""
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
SERVICES = {
    "tuned": "tuned.service",
    "auto-cpufreq": "auto-cpufreq.service",
    "power-profiles-daemon": "power-profiles-daemon.service",
}
NVIDIA_UNITS = ("nvpmodel.service", "nvpower.service", "nvfancontrol.service")
CLOCKS_UNIT = "ishowtts-clocks.service"
JTOP_UNIT = "jtop.service"
JTOP_DROP_IN = f"/etc/systemd/system/{JTOP_UNIT}.d/50-ishowtts-ops.conf"
"""Puts jtop's own lock after ours, where both want the same; jtop's files stay as they are."""
QUERY_LIMIT_S = 5.0

DISABLE = "disable"
ORDER = "order"

_RUNS_TOOL = re.compile(
    r"^\s*Exec(?:Start|StartPre|StartPost|Reload|Stop|StopPost)\s*=.*"
    r"(?:jetson_clocks|nvpmodel\b.*\s(?:-m|--mode)\b)",
    re.MULTILINE,
)
_EXEC = re.compile(r"^\s*ExecStart\s*=\s*(.+)$", re.MULTILINE)
_SHELL = re.compile(r"(?:\S*/)?(?:ba|da)?sh\s+-\w*c\s+([\"'])(.*)\1\s*")
_HARMLESS = frozenset({"jetson_clocks", "nvpmodel", "sleep", "echo", "true"})
_RC_LINE = re.compile(r"^[ \t]*(?![#\s]).*?(?:jetson_clocks|nvpmodel\s.*-m).*$", re.MULTILINE)


@dataclass(frozen=True)
class Rival:
    """Something else that sets the power mode or the clocks.

    Attributes:
        name: "tuned", "jtop", or the unit's or file's name for a hand-made one.
        kind: "daemon" (works all the time) or "boot" (acts once at boot).
        source: the file it was found by.
        enabled: does it start at boot?
        active: does it run now? Unknown where systemd cannot be asked.
        unit: the unit it is, empty when it is none.
        way: how it may be kept from the clocks without editing its files: `disable` its unit,
            `order` it after our lock; empty where only a person can tell.
        settled: it has been ordered after our lock.
    """

    name: str
    kind: str
    source: str
    enabled: bool
    active: Maybe[bool]
    detail: str
    unit: str = ""
    way: str = ""
    settled: bool = False

    @property
    def in_charge(self) -> bool:
        """Does it act on this box, against us: now, or at the next boot?"""
        return not self.settled and (self.enabled or self.active is True)


@dataclass(frozen=True)
class RivalFacts:
    """All rivals found, in charge or not.

    Attributes:
        nvpmodel_reran: did nvpmodel.service start after our lock unit had run? It resets the
            clocks, and nothing shows it: it is "inactive (dead)" after every boot.
        lock_ran: has our lock unit run since boot?
        unclear: what could not be told of something that is there, as clauses.
    """

    rivals: tuple[Rival, ...]
    nvpmodel_reran: Maybe[bool]
    lock_ran: Maybe[bool]

    @property
    def unclear(self) -> tuple[str, ...]:
        reasons = [
            rival.active.reason
            for rival in self.rivals
            if isinstance(rival.active, Unknown) and not rival.enabled
        ]
        return tuple(dict.fromkeys(reasons))

    @property
    def in_charge(self) -> tuple[Rival, ...]:
        return tuple(rival for rival in self.rivals if rival.in_charge)


def read(host: Host) -> RivalFacts:
    """Look for rivals; never raises."""
    found = [*_services(host), *_jtop(host), *_hand_made(host), *_rc_local(host)]
    reran, ran = _since_boot(host)
    return RivalFacts(tuple(found), reran, ran)


def _since_boot(host: Host) -> tuple[Maybe[bool], Maybe[bool]]:
    """`nvpmodel_reran` and `lock_ran` of RivalFacts."""
    if _unit_file(host, CLOCKS_UNIT) is None:
        missing = Unknown(f"{CLOCKS_UNIT} is not installed")
        return missing, missing
    starts = unit_starts(host, ("nvpmodel.service", CLOCKS_UNIT))
    if isinstance(starts, Unknown):
        return starts, starts
    ours, theirs = starts.get(CLOCKS_UNIT, 0), starts.get("nvpmodel.service", 0)
    if not ours:
        return Unknown(f"{CLOCKS_UNIT} has not run since boot"), False
    return theirs > ours, True


def unit_starts(host: Host, units: Sequence[str]) -> Maybe[Mapping[str, int]]:
    """When each unit's main process was started last: µs of the monotonic clock, 0 for never."""
    wanted = "Id,ExecMainStartTimestampMonotonic"
    argv = ["systemctl", "show", f"--property={wanted}", *units]
    try:
        answer = host.query(argv, timeout=QUERY_LIMIT_S)
    except OpsError as error:
        return Unknown(error.message.rstrip("."))
    if not answer.ok:
        return Unknown("`systemctl show` did not answer")
    return parse_starts(answer.stdout)


def parse_starts(output: str) -> Mapping[str, int]:
    """`systemctl show`'s blocks of KEY=VALUE, one block a unit, parted by empty lines."""
    starts = {}
    for block in re.split(r"\n[ \t]*\n", output):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        stamp = values.get("ExecMainStartTimestampMonotonic", "")
        if values.get("Id") and re.fullmatch(r"[0-9]{1,18}", stamp):
            starts[values["Id"]] = int(stamp)
    return starts


def parse_jtop_boot(text: str) -> Maybe[bool]:
    """jtop's setting `jetson_clocks.boot` from its config.json."""
    try:
        section = json.loads(text).get("jetson_clocks", {})
        return bool(section.get("boot", False))
    except (ValueError, AttributeError, RecursionError):
        return Unknown("jtop's config.json is damaged")


def enabled(host: Host, unit: str) -> bool:
    """Is a unit pulled in at boot? Masked units are not."""
    path = f"/etc/systemd/system/{unit}"
    if _link(host, path) == "/dev/null":
        return False
    patterns = (f"/etc/systemd/system/*.{kind}/{unit}" for kind in ("wants", "requires"))
    return any(sysfs.glob(host, pattern) for pattern in patterns)


def _services(host: Host) -> list[Rival]:
    found = []
    for name, unit in SERVICES.items():
        path = _unit_file(host, unit)
        if path is not None:
            detail = f"{name} sets CPU frequencies while it runs"
            found.append(_rival(host, name, "daemon", path, unit, detail))
    return found


def _jtop(host: Host) -> list[Rival]:
    for path in JTOP_CONFIGS:
        text = sysfs.text(host, path)
        if isinstance(text, Unknown):
            continue
        boot = parse_jtop_boot(text)
        if isinstance(boot, Unknown):
            return [Rival("jtop", "boot", path, False, boot, boot.reason)]
        if not boot:
            return []
        there = _unit_file(host, JTOP_UNIT) is not None
        return [
            Rival(
                "jtop",
                "boot",
                path,
                there,
                is_active(host, JTOP_UNIT),
                "jtop runs jetson_clocks at boot (its setting jetson_clocks.boot)",
                JTOP_UNIT if there else "",
                ORDER if there else "",
                _ordered(host),
            )
        ]
    return []


def _ordered(host: Host) -> bool:
    """Does jtop come after our lock?"""
    text = sysfs.text(host, JTOP_DROP_IN)
    return isinstance(text, str) and f"After={CLOCKS_UNIT}" in text.splitlines()


def _hand_made(host: Host) -> list[Rival]:
    found = []
    seen = {*NVIDIA_UNITS, CLOCKS_UNIT}
    for folder in UNIT_FOLDERS:
        for path in sysfs.glob(host, f"{folder}/*.service"):
            unit = path.rsplit("/", 1)[-1]
            if unit in seen or unit.startswith("ishowtts-"):
                continue
            seen.add(unit)
            text = sysfs.text(host, path)
            match = None if isinstance(text, Unknown) else _RUNS_TOOL.search(text)
            if match is not None:
                line = match[0].strip()
                rival = _rival(host, unit, "boot", path, unit, f"{unit} has {line}")
                way = DISABLE if _does_only_that(str(text)) else ""
                found.append(dataclasses.replace(rival, way=way))
    return found


def _does_only_that(text: str) -> bool:
    """Is locking clocks all that a unit starts? One that also starts a service of its own is not
    ours to switch off."""
    commands: list[str] = []
    for command in _EXEC.findall(text):
        line = str(command).strip().lstrip("-@:+!")
        shell = _SHELL.fullmatch(line)
        commands += re.split(r"[;&|]+", shell[2]) if shell else [line]
    programs = {c.split()[0].rsplit("/", 1)[-1] for c in commands if c.split()}
    return bool(programs) and programs <= _HARMLESS


def _rc_local(host: Host) -> list[Rival]:
    path = "/etc/rc.local"
    text = sysfs.text(host, path)
    match = None if isinstance(text, Unknown) else _RC_LINE.search(text)
    if match is None:
        return []
    return [Rival("rc.local", "boot", path, True, False, f"{path} has {match[0].strip()}")]


def _rival(host: Host, name: str, kind: str, path: str, unit: str, detail: str) -> Rival:
    on, active = enabled(host, unit), is_active(host, unit)
    return Rival(name, kind, path, on, active, detail, unit, DISABLE)


def is_active(host: Host, unit: str) -> Maybe[bool]:
    """Does a unit run? A oneshot that has ended counts only while it is kept "active"."""
    try:
        answer = host.query(["systemctl", "is-active", unit], timeout=QUERY_LIMIT_S)
    except OpsError as error:
        return Unknown(error.message.rstrip("."))
    state = answer.stdout.strip()
    if state in ("active", "reloading", "activating", "deactivating"):
        return True
    if state in ("inactive", "failed", "unknown"):
        return False
    return Unknown(f"`systemctl is-active {unit}` says {state[:40]!r}")


def _unit_file(host: Host, unit: str) -> str | None:
    for folder in UNIT_FOLDERS:
        path = f"{folder}/{unit}"
        if _link(host, path) == "/dev/null":
            return None
        if sysfs.exists(host, path):
            return path
    return None


def _link(host: Host, path: str) -> str | None:
    try:
        return host.readlink(path) if host.is_symlink(path) else None
    except (OSError, OpsError):
        return None
