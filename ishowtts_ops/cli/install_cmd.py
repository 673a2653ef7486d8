"""`ishowtts-ops install` and `uninstall`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import findings, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.config import PREFIX
from ishowtts_ops.doctor.run import examine, preflight
from ishowtts_ops.errors import UsageError
from ishowtts_ops.host import BoxKind
from ishowtts_ops.provision import install as provision
from ishowtts_ops.provision.offline import FIRST_BOOT, NEED_A_RUNNING_BOX
from ishowtts_ops.provision.wheels import offline_options
from ishowtts_ops.steps import Change, Ledger, Step

LINK = "/usr/local/bin/ishowtts-ops"
"""Made by install.sh."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show diffs and commands; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing the box.")]


Wheels = Annotated[
    Path | None,
    typer.Option("--wheels", metavar="DIR", help="Take Python packages and F5-TTS from there."),
]


def steps_of(box: Box, wheels: Path | None = None) -> list[Step]:
    """Install's steps for this box and its settings."""
    text, _ = box.settings_text
    replace = box.config_file is not None
    ledger = Ledger.open(box.host)
    return provision.all_steps(box.settings, ledger, text, replace_config=replace, wheels=wheels)


@takes_box
def install(
    box: Box,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STEP", help="Only this step; repeatable.")
    ] = None,
    wheels: Wheels = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Provision the box: show the plan, apply it, warm the daemon, examine the result.

    Steps, in order: config, engine, source, patch, weights, voices, power, units, daemon, backend
    (and rivals, where it is asked for). Running it again changes only what differs; a run that was
    interrupted is finished by the next one.
    """
    host, settings = box.host, box.settings
    offline_options(wheels)  # a folder that is mistyped is a mistake on a complete box too
    steps = provision.choose(steps_of(box, wheels), only or [])
    offline = host.kind is BoxKind.OFFLINE
    blocking = [
        finding
        for finding in preflight(host, settings, changes_follow=not dry_run).errors
        if not (offline and finding.check in NEED_A_RUNNING_BOX)
    ]
    if blocking:
        if as_json:
            render.envelope("install", {"blocked_by": blocking}, ok=False)
        else:
            render.note("Install cannot begin:", "bold")
            findings.show(box, blocking)
        return 1
    changes = provision.plan(host.read_only(), steps)
    if dry_run:
        return _show_plan(changes, as_json=as_json)
    if changes and not as_json:
        render.note("Plan:", "bold")
        render.plan(changes, details=False)
    if changes and not yes and not render.confirm(f"Apply {len(changes)} changes?"):
        raise UsageError(
            "Nothing was changed.", "Answer y, or give --yes; --dry-run shows every detail."
        )
    made = provision.apply(host, steps, log=render.log, on_step=announce) if changes else []
    if offline:
        return _wait_for_first_boot(made, as_json=as_json)
    report = examine(host.read_only(), settings)
    if as_json:
        data = {"changes": _rows(made), "doctor": report.to_json()}
        render.envelope("install", data, ok=report.exit_code == 0)
        return report.exit_code
    render.note("")
    if not made:
        render.say("Nothing to do: the box is as it should be.")
    else:
        render.say(f"Installed: {len(made)} changes made.")
    findings.summary(box, report)
    return report.exit_code


def _wait_for_first_boot(made: list[Change], *, as_json: bool) -> int:
    """A file system that is not running cannot be examined yet."""
    if as_json:
        render.envelope("install", {"changes": _rows(made), "finishes": FIRST_BOOT})
    else:
        render.say(f"Prepared: {len(made)} changes made. The rest comes with the first boot,")
        render.say(f"by {FIRST_BOOT}, which removes itself when it is done.")
    return 0


def _show_plan(changes: list[Change], *, as_json: bool) -> int:
    if as_json:
        shown = [{"preview": c.preview, "needs_reboot": c.needs_reboot} for c in changes]
        rows = [{**row, **more} for row, more in zip(_rows(changes), shown, strict=True)]
        render.envelope("install", {"plan": rows})
    elif changes:
        render.plan(changes, details=True)
        render.say("Nothing was changed (--dry-run).")
    else:
        render.say("Nothing to do: the box is as it should be.")
    return 0


def _rows(changes: list[Change]) -> list[dict[str, object]]:
    return [{"step": c.step, "summary": c.summary} for c in changes]


def announce(index: int, count: int, step: Step, change: Change) -> None:
    render.heading(f"[{index}/{count}] {step.title}: {change.summary}")


@takes_box
def uninstall(
    box: Box,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove an edited configuration and daemon state.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Put the box back as install found it: files, units, submodule, clocks and power mode."""
    host = box.host
    undo = provision.uninstall_plan(host, Ledger.open(host))
    if not undo:
        render.say("Nothing to do: nothing was installed on this box.")
        return 0
    for item in undo:
        render.say(f"~ {item.summary}")
        if dry_run:
            for line in item.lines:
                render.say(f"    {line}")
    if dry_run:
        render.say("Nothing was changed (--dry-run).")
        return 0
    host.require_root("Uninstall")
    if not yes and not render.confirm("Put the box back?"):
        raise UsageError("Nothing was changed.", "Answer y, or give --yes.")
    done = provision.uninstall(host, purge=purge, log=render.log)
    for path in done.kept:
        render.say(f"Kept, because it is yours: {path} (--purge removes it)")
    for problem in done.problems:
        render.say(f"Not put back: {problem}", "yellow")
    if done.reboot_needed:
        render.say("The power mode of before is staged; it comes with the next reboot.")
    if not done.problems:
        render.say("The box is as install found it.")
        if Path(sys.prefix) == Path(PREFIX, "venv"):
            render.note(
                f"The program itself stays: `sudo rm -r {PREFIX} {LINK}` removes it.", "dim"
            )
    return 1 if done.problems else 0
