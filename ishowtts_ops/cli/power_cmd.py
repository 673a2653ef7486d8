"""`ishowtts-ops power`: mode and clocks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated

import typer

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.cli.install_cmd import announce, steps_of
from ishowtts_ops.cli.spelling import spelled
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.power import POLICY_LEAVE
from ishowtts_ops.host import Host
from ishowtts_ops.provision import guard as guarding
from ishowtts_ops.provision import install as provision
from ishowtts_ops.provision import power, power_status, power_undo
from ishowtts_ops.provision.units import GUARD_TIMER, POWER_UNITS, UNIT_DIR
from ishowtts_ops.steps import Ledger

app = typer.Typer(help="Power mode and clock lock.", no_args_is_help=True)

Mode = Annotated[
    str | None,
    typer.Option("--mode", help="max, leave, or a mode's name, instead of the configured policy."),
]


@app.command("status")
@takes_box
def status(box: Box, as_json: Json = False) -> int:
    """Show mode, clocks, fan and who else wants control, read from sysfs.

    Exit 1 when mode or lock are not as configured. The memory clock (EMC) needs root to read.
    """
    found = power_status.status(box.host.read_only(), box.settings)
    power.require_jetson(found.identity)
    if as_json:
        render.envelope("power status", found.data(), ok=found.ok)
        return 0 if found.ok else 1
    render.pairs(found.lines())
    return 0 if found.ok else 1


@app.command("lock")
@takes_box
def lock(
    box: Box,
    mode: Mode = None,
    boot: Annotated[
        bool, typer.Option("--boot", help="As the boot unit calls it: wait longer for the GPU.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Set the power mode, lock the clocks, read both back.

    What was there first is saved; `power restore` puts it back. A mode that needs a reboot is
    staged; nothing is ever rebooted from here.
    """
    policy = box.settings.power
    if mode is not None:
        policy = policy.model_copy(update={"mode": mode})
    host = box.host
    host.require_root("Locking the clocks")
    power.require_jetson(power.look(host, policy).identity)  # a mode that is none: nothing is done
    power.require_running(host)
    if boot:
        try:
            power_undo.record_before(host, Ledger.open(host))
        except OpsError as error:
            # A box that boots must not be slow because of what only uninstall needs.
            render.log(error.message)
        report = power.lock(host, policy, log=render.log, wait_s=power.WAIT_S)
    else:
        with _alone(host, "lock"):
            power_undo.record_before(host, Ledger.open(host))
            report = power.lock(host, policy, log=render.log, wait_s=power.WAIT_S / 3)
    if as_json:
        render.envelope("power lock", report.data(), ok=report.ok)
        return 0 if report.ok else 1
    render.say(report.summary)
    if report.reboot_needed:
        render.say(f"{report.wanted} is staged and needs one reboot: {_reboot(box)}")
    for problem in report.problems:
        render.say(problem, "red")
    if not policy.lock_clocks:
        render.note("The clocks were left alone: the configuration says power.lock_clocks: false.")
    if mode is not None and mode != box.settings.power.mode:
        asked = f"`{box.settings.power.mode}`"
        _say_who_takes_it_back(box, asked, "set power.mode to keep this one.")
    return 0 if report.ok else 1


def _alone(host: Host, verb: str) -> AbstractContextManager[None]:
    """While a person's verb is at work, neither the guard nor an install is. The boot unit does
    without it: an install that starts the unit holds the lock itself."""
    return host.lock(provision.LOCK_PATH, f"ishowtts-ops power {verb}")


def _reboot(box: Box) -> str:
    return spelled(box.host, ("sudo", "systemctl", "reboot"))


def _say_who_takes_it_back(box: Box, asked: str, how_to_keep: str) -> None:
    if box.host.is_file(f"{UNIT_DIR}/{GUARD_TIMER}"):
        seconds = box.settings.power.guard_seconds
        render.note(
            f"The configuration asks for {asked}, which the guard brings back within {seconds} s"
            f" and every boot does; {how_to_keep}",
            "yellow",
        )


@app.command("restore")
@takes_box
def restore(box: Box) -> int:
    """Put mode and clocks back as they were before the first lock.

    On a box where install has been, the guard brings the configured ones back within a minute; it
    says so, and how they stay.
    """
    host = box.host
    host.require_root("Putting power mode and clocks back")
    if power_undo.NOTE not in Ledger.open(host).notes:
        render.say("Nothing to do: mode and clocks were never changed from here.")
        return 0
    power.require_running(host)
    with _alone(host, "restore"):
        ledger = Ledger.open(host)
        report = power_undo.restore(host, ledger, render.log)
        if report.ok and not any(host.is_file(f"{UNIT_DIR}/{unit}") for unit in POWER_UNITS):
            # Else they will be changed again, and uninstall has to know what was there first.
            del ledger.notes[power_undo.NOTE]
            ledger.save()
    for problem in report.problems:
        render.say(problem, "red")
    if report.ok:
        found = power.look(host, box.settings.power.model_copy(update={"mode": "leave"}))
        render.say(f"As before the first lock: {found.summary}")
    if report.reboot_needed:
        render.say(f"The mode of before is staged and needs one reboot: {_reboot(box)}")
    policy = box.settings.power
    asked = [] if policy.mode == POLICY_LEAVE else [f"`{policy.mode}`"]
    asked += ["locked clocks"] if policy.lock_clocks else []
    if asked:
        keep = "set power.mode to leave and power.lock_clocks to false to keep it as it is."
        _say_who_takes_it_back(box, " and ".join(asked), keep)
    return 0 if report.ok else 1


@app.command("guard")
@takes_box
def guard(box: Box, as_json: Json = False) -> int:
    """Look at the lock and restore it when it is lost (what ishowtts-guard.timer runs)."""
    report = guarding.check_and_restore(box.host, box.settings, render.log)
    if as_json:
        render.envelope("power guard", report.data(), ok=report.ok)
    else:
        render.say(f"Clock lock: {report.state.value}.")
        for remark in report.seen:
            render.say(remark)
    return 0 if report.ok else 1


@app.command("resolve")
@takes_box
def resolve(
    box: Box,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it; change nothing.")] = False,
) -> int:
    """Keep others from the clocks: tuned, auto-cpufreq, power-profiles-daemon, hand-made units.

    Services are disabled and stopped, jtop is ordered after our lock by a drop-in; no file of
    another package is edited. `uninstall` brings all of it back. Afterwards mode and clocks are set
    again.
    """
    power.require_running(box.host)
    box.host.require_root("Seeing to others who set the clocks")
    steps = provision.choose(steps_of(box), ["rivals", "power"])
    changes = provision.plan(box.host.read_only(), steps)
    if not any(change.step == "rivals" for change in changes):
        render.say("Nothing to do: nobody else sets mode or clocks.")
        return 0
    render.plan(changes, details=True)
    if dry_run:
        render.say("Nothing was changed (--dry-run).")
        return 0
    if not yes and not render.confirm("Do that? Uninstall brings it back."):
        raise UsageError("Nothing was changed.", "Answer y, or give --yes.")
    provision.apply(
        box.host, steps, log=render.log, on_step=announce, doing="ishowtts-ops power resolve"
    )
    render.say("Nobody else sets mode or clocks any more.")
    return 0
