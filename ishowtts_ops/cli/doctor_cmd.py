"""`ishowtts-ops doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ishowtts_ops.cli import findings, render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.cli.install_cmd import announce, steps_of
from ishowtts_ops.cli.spelling import spelled
from ishowtts_ops.doctor import bundle as bundling
from ishowtts_ops.doctor.finding import Finding
from ishowtts_ops.doctor.fix import FixReport, fix
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.run import examine, select
from ishowtts_ops.doctor.under_load import LIMIT_S
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.provision import daemon
from ishowtts_ops.provision import install as provision


@takes_box
def doctor(
    box: Box,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECK]...", help="Only these checks or subjects; see --list."),
    ] = None,
    fix_it: Annotated[
        bool, typer.Option("--fix", help="Mend what an install step can mend; asks for each.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --fix: do not ask.")] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Also import the engine and launch a kernel (seconds)."),
    ] = False,
    under_load: Annotated[
        bool,
        typer.Option("--under-load", help="Also watch the box while it speaks (at most 20 s)."),
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.tar.gz",
            help="Also write all of it, with logs and settings, to a file for a support request.",
        ),
    ] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and end.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what is fine too.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Say why the box is slow or silent: what is wrong, the evidence, the remedy.

    Changes nothing, except with --fix. Exit 0 when nothing is broken (warnings allowed), 1 when
    something is, 3 when something could not be found out.
    """
    checks = select(names or [])
    if list_checks:
        if as_json:
            rows = [{"id": c.id, "subject": c.subject, "title": c.title} for c in checks]
            render.envelope("doctor", {"checks": rows})
        else:
            render.table(("check", "looks at"), [(c.id, c.title) for c in checks])
        return 0
    if fix_it and bundle is not None:
        raise UsageError(
            "--bundle goes with a look, not with --fix.", "Make the bundle first, then mend."
        )
    if under_load:
        render.note(f"Watching the box while it works, for up to {LIMIT_S:.0f} s …", "dim")
    report = examine(
        box.host.read_only(),
        box.settings,
        checks=checks,
        thorough=thorough,
        under_load=under_load,
    )
    if bundle is not None:
        _write_bundle(box, report, bundle)
    if fix_it:
        return _fix(box, report, yes=yes, as_json=as_json)
    if as_json:
        render.envelope("doctor", report.to_json(), ok=report.exit_code == 0)
    else:
        findings.report(box, report, verbose=verbose)
        findings.what_fix_mends(box, report)
    return report.exit_code


def _write_bundle(box: Box, report: Report, path: Path) -> None:
    data = bundling.pack(bundling.collect(report, box.settings_text[0], render.plain))
    try:
        bundling.save(path, data)
    except OSError as error:
        raise OpsError(
            f"{path} cannot be written: {error.strerror}.", "Name a file in a folder of yours."
        ) from None
    render.note(f"{path} holds what was found ({len(data) / 1024:.0f} KiB), secrets removed.")
    render.note("Look it through before you send it: logs may hold what was spoken.", "dim")


def _fix(box: Box, report: Report, *, yes: bool, as_json: bool) -> int:
    if not report.fixable:
        if as_json:
            render.envelope("doctor", FixReport((), report).to_json(), ok=report.exit_code == 0)
        else:
            findings.report(box, report, verbose=False)
            render.say("There is nothing that --fix could mend.")
        return report.exit_code

    def ask(step: str, concerned: Sequence[Finding]) -> bool:
        if as_json:  # a program reads this, and nobody can be asked
            return yes and step not in provision.ON_REQUEST
        if step in provision.ON_REQUEST:
            # What it switches off is not ours, so --yes does not answer for its owner.
            findings.show(box, concerned)
            return render.confirm("Switch them off as shown? `uninstall` brings them back.")
        if yes:
            return True
        findings.show(box, concerned)
        return render.confirm(f"Run the step `{step}`?")

    def run_step(step: str) -> None:
        doing = "ishowtts-ops doctor --fix"
        chosen = provision.choose(steps_of(box), [step])
        made = provision.apply(box.host, chosen, log=render.log, on_step=announce, doing=doing)
        if step == daemon.DaemonStep.name and not made:
            # It runs what is installed, so the step is content; and it is not well all the same.
            with box.host.lock(provision.LOCK_PATH, doing):
                daemon.restart(box.host, render.log)

    box.host.require_root("Mending the box")
    result = fix(report, ask, run_step)
    if as_json:
        render.envelope("doctor", result.to_json(), ok=result.exit_code == 0)
        return result.exit_code
    render.say()
    for attempt in result.attempts:
        detail = f": {attempt.detail}" if attempt.detail else ""
        if attempt.outcome == "declined" and attempt.step in provision.ON_REQUEST:
            again = ("sudo", "ishowtts-ops", "power", "resolve")
            detail = f": `{spelled(box.host, again, box.config_file)}` asks again"
        render.say(f"{attempt.step:<8} {attempt.outcome}{detail}")
    render.say()
    findings.report(box, result.left, verbose=False)
    return result.exit_code
