"""The systemd units: rendered from `units/`, installed, enabled.

To add a unit, put its template into `units/` and its name into `UNITS`. A template's `@name@` is
replaced from `_values`; a name that is not there is an error, never an empty string.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass

from ishowtts_ops.config import CONFIG_PATH, PREFIX, STATE_DIR, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.identity import RELEASE_PATH
from ishowtts_ops.host import Host
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.provision.git import Repo
from ishowtts_ops.provision.series import load_series
from ishowtts_ops.resources import resource
from ishowtts_ops.steps import Change, Ledger, Progress, Recorder, command_line, file_diff

UNIT_DIR = "/etc/systemd/system"
PROGRAM = f"{PREFIX}/venv/bin/ishowtts-ops"

CLOCKS = "ishowtts-clocks.service"
GUARD = "ishowtts-guard.service"
GUARD_TIMER = "ishowtts-guard.timer"
DAEMON = "ishowtts-tts.service"
BACKEND = "ishowtts-backend.service"
REGRESS_TIMER = "ishowtts-regress.timer"
BENCH_TIMER = "ishowtts-bench.timer"
WATCH_TIMER = "ishowtts-watch.timer"
WATCH_PATH = "ishowtts-watch.path"
NOTIFY = "ishowtts-notify@.service"
POWER_UNITS = (CLOCKS, GUARD, GUARD_TIMER)
CALENDAR_UNITS = (
    "ishowtts-regress.service",
    REGRESS_TIMER,
    "ishowtts-bench.service",
    BENCH_TIMER,
    "ishowtts-watch.service",
    WATCH_TIMER,
    WATCH_PATH,
)
UNITS = (*POWER_UNITS, DAEMON, BACKEND, *CALENDAR_UNITS)
TEMPLATES = (NOTIFY,)
"""Units that systemd only knows with an instance: never started, enabled or asked about."""

GPU_GROUPS = ("video", "render")
"""Groups that own the GPU's device nodes on L4T. systemd refuses a unit that names a group the box
does not have, so only those found in /etc/group are rendered."""

GPU_NODES = (
    "/dev/nvhost*",
    "/dev/nvmap",
    "/dev/nvgpu/*/*",
    "/dev/nvsciipc",
    "/dev/host1x-fence",
    "/dev/nvidia*",
    "/dev/dri/*",
)
"""Device nodes that CUDA opens on L4T. systemd takes no patterns of paths, so those found are
rendered; where there are none, no other device is closed either: a GPU that appears later must not
be hidden from the daemon."""

_STOP_MARGIN_S = 15


def wanted_units(settings: Settings) -> tuple[str, ...]:
    """Names of the units these settings ask for."""
    power = settings.power.lock_clocks or settings.power.mode != "leave"
    # What the calendar measures is the daemon.
    calendar = CALENDAR_UNITS if settings.measure.calendar and settings.daemon.enabled else ()
    daemon = (DAEMON,) if settings.daemon.enabled else ()
    backend = (BACKEND,) if settings.backend.command else ()
    return (*(POWER_UNITS if power else ()), *daemon, *backend, *calendar)


def rendered(host: Host, settings: Settings) -> dict[str, str]:
    """Box path → text of every unit as it should be installed."""
    values = _values(host, settings)
    return {
        f"{UNIT_DIR}/{name}": _render(resource("units").joinpath(name).read_text(), values, name)
        for name in (*wanted_units(settings), *TEMPLATES)
    }


def rendered_unit(host: Host, settings: Settings, name: str, **values: str) -> str:
    """The text of one unit, also of one that install does not keep.

    Args:
        values: of the template, beside those that every unit has.
    """
    every = {**_values(host, settings), **values}
    return _render(resource("units").joinpath(name).read_text(), every, name)


def install_links(name: str, text: str) -> dict[str, str]:
    """The symlinks `systemctl enable` makes for a unit: box path → target, read off [Install]."""
    wanted_by = re.findall(r"^WantedBy=(.*)$", text, re.MULTILINE)
    targets = [target for line in wanted_by for target in line.split()]
    return {f"{UNIT_DIR}/{target}.wants/{name}": f"{UNIT_DIR}/{name}" for target in targets}


def _values(host: Host, settings: Settings) -> dict[str, str]:
    present = _groups(host)
    groups = [group for group in GPU_GROUPS if group in present]
    return {
        "program": PROGRAM,
        "first_boot_options": "",
        "state_dir": STATE_DIR,
        "daily": settings.measure.daily,
        "weekly": settings.measure.weekly,
        "watch_minutes": str(settings.measure.watch_minutes),
        "watched_paths": "\n".join(f"PathChanged={path}" for path in _watched(host, settings)),
        "guard_seconds": str(settings.power.guard_seconds),
        "watchdog_seconds": str(settings.daemon.watchdog_seconds),
        "stop_seconds": str(settings.daemon.drain_seconds + _STOP_MARGIN_S),
        "backend_digest": hashlib.sha256(settings.backend.model_dump_json().encode()).hexdigest()[
            :16
        ],
        "backend_user": _backend_user(host, settings),
        "backend_watchdog_seconds": str(
            math.ceil(settings.backend.verdict_seconds) + _STOP_MARGIN_S
        ),
        "backend_stop_seconds": str(math.ceil(settings.backend.stop_seconds) + _STOP_MARGIN_S),
        "devices": _devices(host),
        "addresses": _addresses(settings),
        "groups": f"SupplementaryGroups={' '.join(groups)}" if groups else "# no GPU groups here",
    }


def _backend_user(host: Host, settings: Settings) -> str:
    """Who runs the backend: the one we are told, else the owner of iShowTTS's checkout."""
    path = settings.ishowtts.path
    if settings.backend.user or not host.is_dir(path):
        return settings.backend.user or "root"
    uid = str(host.stat(path).uid)
    users = host.read_text("/etc/passwd") if host.is_file("/etc/passwd") else ""
    rows = [line.split(":") for line in users.splitlines()]
    return next((row[0] for row in rows if row[2:3] == [uid]), uid)


def _watched(host: Host, settings: Settings) -> list[str]:
    """Files that change with the configuration, L4T, the commit of F5-TTS, and when the series is
    lost: checking the same commit out again does not touch HEAD."""
    found = [CONFIG_PATH, RELEASE_PATH]
    if settings.engine.kind != "f5":
        return found
    source = locate(host, settings).path
    repo = Repo.open(host, source)
    if repo is not None and repo.git_dir.is_relative_to(host.root):
        found.append(f"{host.box_path(repo.git_dir)}/HEAD")
    return [*found, *(f"{source}/{path}" for path in load_series().hooked())]


def _devices(host: Host) -> str:
    nodes = sorted({node for pattern in GPU_NODES for node in host.glob(pattern)})
    nodes = [node for node in nodes if not host.is_dir(node)]
    if not nodes:
        return "# no GPU nodes here, so devices are not restricted"
    return "\n".join(["DevicePolicy=closed", *(f"DeviceAllow={node} rw" for node in nodes)])


def _addresses(settings: Settings) -> str:
    if not settings.daemon.loopback:
        return "# other machines may connect, as daemon.host says"
    return "IPAddressDeny=any\nIPAddressAllow=localhost"


def _groups(host: Host) -> frozenset[str]:
    if not host.is_file("/etc/group"):
        return frozenset()
    lines = host.read_text("/etc/group").splitlines()
    return frozenset(line.split(":", 1)[0] for line in lines)


def _render(template: str, values: dict[str, str], name: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise OpsError(f"The template of {name} uses @{match[1]}@, which has no value.")
        return values[match[1]]

    return re.sub(r"@([a-z_]+)@", replace, template)


@dataclass(frozen=True)
class UnitsStep:
    """Unit files as rendered, known to systemd, enabled; stale ones of ours are gone."""

    settings: Settings
    ledger: Ledger
    name: str = "units"
    title: str = "systemd units"

    def diff(self, host: Host) -> Change | None:
        wanted = rendered(host, self.settings)
        texts = {path: text for path, text in wanted.items() if file_diff(host, path, text)}
        links = {
            link: target
            for path, text in wanted.items()
            for link, target in install_links(path.rsplit("/", 1)[1], text).items()
            if not host.is_symlink(link)
        }
        stale = [
            name
            for name in UNITS
            if f"{UNIT_DIR}/{name}" not in wanted and host.lexists(f"{UNIT_DIR}/{name}")
        ]
        timers = _asleep(
            host, [n for n in wanted_units(self.settings) if n.endswith((".timer", ".path"))]
        )
        if not (texts or links or stale or timers):
            return None
        enable = sorted({link.rsplit("/", 1)[1] for link in links})
        preview = [line for path in texts for line in file_diff(host, path, texts[path])]
        preview += [command_line(argv) for argv in _commands(stale, bool(texts), enable, timers)]
        done = [f"{len(texts)} written"] if texts else []
        done += [f"{len(enable)} enabled"] if enable else []
        done += [f"{len(stale)} removed"] if stale else []
        done += [f"{', '.join(timers)} started"] if timers else []
        return Change(
            self.name,
            ", ".join(done),
            tuple(preview),
            lambda log: self._apply(host, texts, links, stale, timers, log),
        )

    def _apply(
        self,
        host: Host,
        texts: dict[str, str],
        links: dict[str, str],
        stale: list[str],
        timers: list[str],
        log: Progress,
    ) -> None:
        record = Recorder(host, self.ledger)
        for path, text in texts.items():
            log(f"writing {path}")
            record.write(path, text)
        for link in links:
            self.ledger.remember(link)
        for name in stale:
            self.ledger.remember(f"{UNIT_DIR}/{name}")
        enable = sorted({link.rsplit("/", 1)[1] for link in links})
        for argv in _commands(stale, bool(texts), enable, timers):
            log(" ".join(argv))
            host.run(argv, timeout=60).check("`systemctl status` of the unit says more.")
        for name in stale:
            host.remove(f"{UNIT_DIR}/{name}")


def is_active(host: Host, unit: str) -> bool:
    """Does systemd call the unit active?"""
    return not _asleep(host, [unit])


def _asleep(host: Host, units: list[str]) -> list[str]:
    """Those of the units that systemd does not call active."""
    told = host.query(["systemctl", "is-active", *units]).stdout.split() if units else []
    states = dict(zip(units, told, strict=False))
    return [unit for unit in units if states.get(unit) != "active"]


def remove_units(host: Host, log: Progress) -> None:
    """Stop and disable whatever of ours is installed; the files go when the ledger is undone."""
    here = [name for name in UNITS if host.lexists(f"{UNIT_DIR}/{name}")]
    # The daemon first: while the others go, nothing may pull it back in.
    for name in reversed(here):
        log(f"stopping {name}")
        host.run(["systemctl", "disable", "--now", name], timeout=120)
    if here:
        host.run(["systemctl", "reset-failed", *here], timeout=60)


def _commands(
    stale: list[str], reload: bool, enable: list[str], timers: list[str]
) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    if stale:
        commands.append(("systemctl", "disable", "--now", *stale))
    if reload or stale:
        commands.append(("systemctl", "daemon-reload"))
    if enable:
        commands.append(("systemctl", "enable", *enable))
    if timers:
        commands.append(("systemctl", "start", *timers))
    return commands
