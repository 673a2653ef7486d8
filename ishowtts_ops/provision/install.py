"""Install and uninstall: the order of the steps, the plan, its application, its undoing.

    settings → steps → plan (every step's diff, nothing changed) → lock → each step: diff, apply,
    diff again

A step whose second diff is not empty did not do what it said, and install stops there. A run that
is killed anywhere is finished by the next one, because every step starts from what is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.config import CACHE_DIR, CONFIG_PATH, RUN_DIR, STATE_DIR, Settings
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.host import BoxKind, Host
from ishowtts_ops.provision import (
    engine_pip,
    f5_source,
    ishowtts_nfe,
    patch,
    power_undo,
    rivals,
    units,
)
from ishowtts_ops.provision.backend import BackendStep
from ishowtts_ops.provision.daemon import DaemonStep
from ishowtts_ops.provision.engine_env import EngineStep
from ishowtts_ops.provision.f5_source import SourceStep
from ishowtts_ops.provision.offline import offline_steps
from ishowtts_ops.provision.own_config import ConfigStep
from ishowtts_ops.provision.patch import PatchStep
from ishowtts_ops.provision.power import PowerStep
from ishowtts_ops.provision.rivals import RivalsStep
from ishowtts_ops.provision.units import UnitsStep
from ishowtts_ops.provision.voices import VoicesStep
from ishowtts_ops.provision.weights import WeightsStep
from ishowtts_ops.steps import Change, Ledger, Progress, Step

LOCK_PATH = f"{RUN_DIR}/install.lock"

ON_REQUEST = (RivalsStep.name,)
"""Steps that are taken only when they are named: they touch what is not ours."""

_DAEMON_STATE = "/var/lib/private/ishowtts-tts"
_DAEMON_FOLDERS = (
    "/var/lib/ishowtts-tts",
    _DAEMON_STATE,
    "/var/cache/ishowtts-tts",
    "/var/cache/private/ishowtts-tts",
)
"""What systemd makes for the daemon's StateDirectory= and CacheDirectory= under DynamicUser=."""


def all_steps(
    settings: Settings,
    ledger: Ledger,
    config_text: str,
    *,
    replace_config: bool,
    wheels: Path | None = None,
) -> list[Step]:
    """Every step, in order.

    Args:
        wheels: a folder to install Python packages and F5-TTS from instead of any index.
    """
    steps: list[Step] = [
        ConfigStep(config_text, ledger, replace_config),
        EngineStep(settings, ledger, wheels),
        SourceStep(settings, ledger, wheels),
        PatchStep(settings, ledger),
        WeightsStep(settings, ledger),
        VoicesStep(settings, ledger),
        RivalsStep(settings, ledger),
        PowerStep(settings, ledger),
        UnitsStep(settings, ledger),
        DaemonStep(settings, ledger),
        BackendStep(settings, ledger),
    ]
    if ledger.host.kind is BoxKind.OFFLINE:
        return offline_steps(settings, ledger, steps, wheels)
    return steps


def choose(steps: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """The named steps, in install's order; when none is named, all but those `ON_REQUEST`.

    Raises:
        UsageError: a name is no step's.
    """
    names = [step.name for step in steps]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(
            f"There is no step {', '.join(map(repr, unknown))}.", f"Steps: {', '.join(names)}."
        )
    return [step for step in steps if (step.name in only if only else step.name not in ON_REQUEST)]


def plan(host: Host, steps: Sequence[Step]) -> list[Change]:
    """What the steps would change, in order. Changes nothing.

    A daemon (or backend) that needs nothing by itself is still restarted when what it runs changes.
    """
    changes: list[Change] = []
    for step in steps:
        change = step.diff(host)
        if change is None and isinstance(step, (DaemonStep, BackendStep)):
            change = _restart_with(step, host, changes)
        if change is not None:
            changes.append(change)
    return changes


_FEED_DAEMON = frozenset({"config", "engine", "source", "patch", "weights", "voices", "units"})
_FEED_BACKEND = frozenset({"source", "patch"})


def _restart_with(
    step: DaemonStep | BackendStep, host: Host, changes: Sequence[Change]
) -> Change | None:
    """The restart that changes before it make needed, where the step is wanted at all."""
    settings = step.settings
    if isinstance(step, DaemonStep):
        if settings.daemon.enabled and any(change.step in _FEED_DAEMON for change in changes):
            return step.restart(host, "restart the daemon with the above")
        return None
    unit = any(units.BACKEND in line for c in changes if c.step == "units" for line in c.preview)
    if settings.backend.command and (unit or any(c.step in _FEED_BACKEND for c in changes)):
        return step.restart(host, "restart the backend with the above")
    return None


def apply(
    host: Host,
    steps: Sequence[Step],
    *,
    log: Progress,
    on_step: Callable[[int, int, Step, Change], None],
    doing: str = "ishowtts-ops install",
    automatic: bool = False,
) -> list[Change]:
    """Apply every step that differs, under the box's lock.

    Args:
        on_step: told (index, count, step, change) before each change.
        automatic: a timer applies them; see `Host.lock`.

    Returns:
        the changes that were made.

    Raises:
        BoxLocked: somebody else is at work.
        OpsError: a step failed, or did not do what it said.
    """
    made: list[Change] = []
    with host.lock(LOCK_PATH, doing, automatic=automatic):
        for index, step in enumerate(steps, 1):
            change = step.diff(host)
            if change is None:
                continue
            if change.needs_root:
                host.require_root(f"The step `{step.name}` ({change.summary})")
            on_step(index, len(steps), step, change)
            change.apply(log)
            rest = step.diff(host)
            # A staged power mode is what `apply` could do; only a reboot does the rest.
            if rest is not None and not rest.needs_reboot:
                raise OpsError(
                    f"The step `{step.name}` was applied and still wants: {rest.summary}.",
                    "This is a bug; please report it with the output of `ishowtts-ops doctor`.",
                )
            made.append(change)
    return made


@dataclass(frozen=True)
class Undo:
    """What uninstall does, for its plan."""

    summary: str
    lines: tuple[str, ...]


def uninstall_plan(host: Host, ledger: Ledger) -> list[Undo]:
    """What was recorded and will be put back; empty when nothing was installed."""
    if ledger.empty:
        return []
    here = [name for name in units.UNITS if host.lexists(f"{units.UNIT_DIR}/{name}")]
    undo = []
    if here:
        undo.append(Undo("stop and disable the units", tuple(here)))
    made = [path for path, was in ledger.files.items() if was["kind"] == "absent"]
    back = [path for path, was in ledger.files.items() if was["kind"] != "absent"]
    if back:
        undo.append(Undo(f"put back {len(back)} files as they were", tuple(back)))
    if made:
        undo.append(Undo(f"remove {len(made)} files and links", tuple(made)))
    packages = engine_pip.changed(ledger)
    if packages:
        undo.append(Undo("give the engine's environment its packages back", packages))
    if ishowtts_nfe.NOTE in ledger.notes:
        note = ledger.notes[ishowtts_nfe.NOTE]
        undo.append(Undo(f"put {ishowtts_nfe.KEY} of iShowTTS back", (note["path"],)))
    if f5_source.NOTE in ledger.notes:
        undo.append(Undo("empty the submodule of F5-TTS again", ()))
    if power_undo.NOTE in ledger.notes:
        undo.append(Undo("put power mode and clocks back as they were", ()))
    waiting = rivals.switched_off(ledger)
    if waiting:
        undo.append(Undo("let others set the clocks again", waiting))
    return undo


@dataclass(frozen=True)
class Uninstalled:
    """What uninstall left.

    Attributes:
        kept: paths that are the owner's.
        reboot_needed: the power mode of before comes with the next boot.
        problems: sentences about what could not be put back.
    """

    kept: tuple[str, ...] = ()
    reboot_needed: bool = False
    problems: tuple[str, ...] = ()


def uninstall(host: Host, *, purge: bool, log: Progress) -> Uninstalled:
    """Put the box back as the ledger says it was.

    Args:
        purge: also remove what the owner made since: an edited configuration, the daemon's state.
    """
    kept: list[str] = []
    with host.lock(LOCK_PATH, "ishowtts-ops uninstall"):
        ledger = Ledger.open(host)
        if ledger.empty:
            return Uninstalled()
        running = host.kind is not BoxKind.OFFLINE
        if running:
            units.remove_units(host, log)
        log("taking the patch series out of the F5-TTS sources")
        not_back = patch.undo_all(host, ledger, log)
        not_back += f5_source.undo_submodule(host, ledger, log)
        not_back += ishowtts_nfe.undo(host, ledger, log) + engine_pip.undo(host, ledger, log)
        power = power_undo.restore(host, ledger, log)
        kept += _keep_config(host, ledger, purge)
        log(f"putting back {len(ledger.files)} paths")
        ledger.restore_files(keep=lambda path: path in kept or path.startswith(f"{STATE_DIR}/"))
        if running:
            host.run(["systemctl", "daemon-reload"], timeout=60)
        problems = (*not_back, *power.problems, *rivals.bring_back(host, ledger, log))
        kept += _remove_daemon_folders(host, purge)
        # The ledger goes last: until then a killed uninstall can be run again.
        host.rmtree(CACHE_DIR)
        host.rmtree(STATE_DIR)
        for folder in sorted(ledger.folders, key=lambda f: -f.count("/")):
            host.rmdir(folder)
    host.rmtree(RUN_DIR)
    return Uninstalled(tuple(kept), power.reboot_needed, problems)


def _keep_config(host: Host, ledger: Ledger, purge: bool) -> list[str]:
    """The owner's edits to the configuration are not ours to delete."""
    written = ledger.notes.get("config-sha256")
    if purge or CONFIG_PATH not in ledger.files or not host.is_file(CONFIG_PATH):
        return []
    return [] if written in (None, host.sha256(CONFIG_PATH)) else [CONFIG_PATH]


def _remove_daemon_folders(host: Host, purge: bool) -> list[str]:
    """The daemon's cache and state go; voices that were added through it are the owner's."""
    # Prepared voices are made of the others, and can be made again.
    given = set(host.listdir(f"{_DAEMON_STATE}/voices")) - {"prepared"}
    keep = not purge and bool(given)
    for folder in _DAEMON_FOLDERS:
        if keep and folder == _DAEMON_STATE:
            continue
        if host.is_symlink(folder):
            host.remove(folder)
        else:
            host.rmtree(folder)
    return [f"{_DAEMON_STATE}/voices"] if keep else []
