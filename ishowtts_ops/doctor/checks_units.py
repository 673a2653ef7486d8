"""Are our units installed as rendered, enabled and in order?"""

from __future__ import annotations

import re

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    NotKnown,
    Severity,
    by_hand,
    known,
    mend,
)
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.systemd import Unit, complaints, ordering_cycles
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.provision.f5_source import SourceState, locate
from ishowtts_ops.provision.units import (
    CALENDAR_UNITS,
    CLOCKS,
    DAEMON,
    GUARD,
    GUARD_TIMER,
    UNIT_DIR,
    WATCH_PATH,
    install_links,
    rendered,
    wanted_units,
)
from ishowtts_ops.steps import file_diff

_SHOWN_DIFF = 6
_OTHERS = {
    "nvpmodel.service": "so the power mode of this boot may not be the stored one",
    "systemd-journald.service": "so restarts and hangs leave no trace that could be read",
}
"""Units of others that matter here, and why."""
_DROPPED = re.compile(r"Job (\S+?)/\w+ deleted to break ordering cycle")


def _installed(exam: Examination) -> list[Finding]:
    if not exam.installed:
        return [
            Finding(
                "units-installed",
                Severity.ERROR,
                "ishowtts-ops is not installed on this box: nothing supervises speech or clocks.",
                (
                    Evidence(f"{UNIT_DIR}/{DAEMON}", "not there"),
                    Evidence(f"{UNIT_DIR}/{CLOCKS}", "not there"),
                ),
                by_hand("Install it.", ("sudo", "ishowtts-ops", "install"), needs_root=True),
            )
        ]
    paths = list(rendered(exam.host, exam.settings))
    missing = [path for path in paths if not exam.host.is_file(path)]
    if not missing:
        return [Finding("units-installed", Severity.OK, f"All {len(paths)} units are installed.")]
    names = ", ".join(path.rsplit("/", 1)[-1] for path in missing)
    return [
        Finding(
            "units-installed",
            Severity.ERROR,
            f"Units are missing: {names}.",
            tuple(
                Evidence(path, "masked" if exam.host.is_symlink(path) else "not there")
                for path in missing
            ),
            mend("units", "Install the units again."),
        )
    ]


def _drift(exam: Examination) -> list[Finding]:
    findings = []
    sources = locate(exam.host, exam.settings).state is SourceState.PRESENT
    for path, text in _present(exam).items():
        if path.endswith(f"/{WATCH_PATH}") and not sources:
            continue  # it names a file of the sources, whose loss is patch-source's to tell
        # Line by line, so that a person sees what was changed; the mode of the file is no drift.
        diff = [
            line
            for line in file_diff(exam.host, path, text)
            if line[:1] in "+-" and not line.startswith(("---", "+++"))
        ]
        if diff:
            words = {"-": "has", "+": "lacks"}
            shown = [Evidence(path, f"{words[line[0]]}: {line[1:]}") for line in diff[:_SHOWN_DIFF]]
            count = "1 line differs" if len(diff) == 1 else f"{len(diff)} lines differ"
            name = path.rsplit("/", 1)[-1]
            findings.append(
                Finding(
                    "units-drift",
                    Severity.WARN,
                    f"{name} is not as install wrote it, or the configuration changed since"
                    f" ({count}).",
                    tuple(shown),
                    mend(
                        "units",
                        "Write it anew; changes of your own belong into a drop-in"
                        f" (`systemctl edit {name}`), which stays.",
                    ),
                )
            )
    return findings


def _enabled(exam: Examination) -> list[Finding]:
    links = {
        link: path
        for path, text in _present(exam).items()
        for link in install_links(path.rsplit("/", 1)[-1], text)
    }
    missing = [link for link in links if not exam.host.is_symlink(link)]
    masked = [path for path in _present(exam) if _masked(exam, path)]
    if not missing and not masked:
        return []
    names = sorted({path.rsplit("/", 1)[-1] for path in (*missing, *masked)})
    return [
        Finding(
            "units-enabled",
            Severity.ERROR,
            f"{' and '.join(names)} will not start at the next boot.",
            tuple(Evidence(link, "not there") for link in missing)
            + tuple(Evidence(path, "masked") for path in masked),
            mend("units", "Enable the units again."),
        )
    ]


def _masked(exam: Examination, path: str) -> bool:
    unit = exam.unit(path.rsplit("/", 1)[-1])
    return unit is not None and unit.load == "masked"


def _verify(exam: Examination) -> list[Finding]:
    paths = list(_present(exam))
    if not paths or exam.host.which("systemd-analyze") is None:
        return []
    lines = complaints(exam.host, paths)
    if isinstance(lines, Unknown):
        text = f"systemd-analyze could not judge the units: {lines.reason}."
        return [Finding("units-verify", Severity.UNKNOWN, text)]
    if not lines:
        return [Finding("units-verify", Severity.OK, "systemd has no complaint about the units.")]
    cycle = any("cycle" in line for line in lines)
    text = (
        "systemd finds an ordering cycle in the units and will drop one of them at boot."
        if cycle
        else f"systemd ignores or refuses part of the units: {_without_folder(lines[0])}."
    )
    evidence = tuple(Evidence("systemd-analyze verify", line[:200]) for line in lines[:4])
    remedy = mend("units", "Write the units anew; look into drop-ins if it stays.")
    severity = Severity.ERROR if cycle else Severity.WARN
    drift = ("units-drift",)
    return [Finding("units-verify", severity, text, evidence, remedy, because=drift)]


def _without_folder(line: str) -> str:
    """A line of systemd-analyze without the folder of the unit it names first, cut to a sentence's
    length between words."""
    short = re.sub(r"^/\S*/", "", line).rstrip(". ")
    return short if len(short) <= 140 else f"{short[:140].rsplit(' ', 1)[0]} …"


def _cycles(exam: Examination) -> list[Finding]:
    """systemd breaks a cycle by dropping a job, and says so only in the journal."""
    if isinstance(exam.facts.systemd, Unknown) or isinstance(exam.facts.systemd.units, Unknown):
        return []
    lines = ordering_cycles(exam.host)
    if isinstance(lines, Unknown):
        raise NotKnown(lines)
    if not lines:
        return [Finding("units-cycle", Severity.OK, "No ordering cycle was met since boot.")]
    ours = any("ishowtts-" in line for line in lines)
    dropped = sorted({name for line in lines for name in _DROPPED.findall(line)})
    what = f" and dropped {', '.join(dropped)}" if dropped else ""
    return [
        Finding(
            "units-cycle",
            Severity.ERROR if ours else Severity.WARN,
            f"systemd met an ordering cycle of units since boot{what}.",
            tuple(Evidence("journalctl -b -t systemd", line) for line in lines[:6]),
            by_hand(
                "Take `After=multi-user.target` out of the unit that is also wanted by it.",
                ("sudo", "systemctl", "edit", "--full", dropped[0] if dropped else "UNIT"),
                needs_root=True,
            ),
        )
    ]


def _reload(exam: Examination) -> list[Finding]:
    units = known(known(exam.facts.systemd).units)
    stale = [name for name, unit in units.items() if unit.stale and name.startswith("ishowtts-")]
    if not stale:
        return []
    return [
        Finding(
            "units-reload",
            Severity.WARN,
            f"systemd still runs an older text of {', '.join(stale)} than is on disk.",
            tuple(Evidence(f"systemctl show {name} NeedDaemonReload", "yes") for name in stale),
            by_hand(
                "Tell systemd to read its units again.",
                ("sudo", "systemctl", "daemon-reload"),
                needs_root=True,
            ),
            because=("units-installed", "units-drift"),
        )
    ]


def _clocks(exam: Examination) -> list[Finding]:
    unit = _ours(exam, CLOCKS)
    if unit is None or unit.active in ("active", "activating"):
        return []
    failed = unit.active == "failed"
    return [
        Finding(
            "units-clocks",
            Severity.ERROR if failed else Severity.WARN,
            f"The unit that locks the clocks at boot {'failed' if failed else 'has not run'}.",
            _evidence(unit),
            by_hand(
                "Its log says why; starting it again locks the clocks." if failed else "Start it.",
                *([("journalctl", "-b", "-u", CLOCKS, "-n", "20", "--no-pager")] if failed else []),
                ("sudo", "systemctl", "restart", CLOCKS),
                needs_root=True,
            ),
        )
    ]


def _guard(exam: Examination) -> list[Finding]:
    findings = []
    timer = _ours(exam, GUARD_TIMER)
    if timer is not None and timer.active != "active":
        findings.append(
            Finding(
                "units-guard",
                Severity.ERROR,
                "The guard timer does not run, so a lost clock lock is not restored.",
                _evidence(timer),
                mend("units", "Start the guard timer."),
            )
        )
    service = _ours(exam, GUARD)
    if service is not None and service.active == "failed":
        findings.append(
            Finding(
                "units-guard",
                Severity.WARN,
                "The guard's last look at the clock lock failed.",
                _evidence(service),
                by_hand(
                    "Read what it says.", ("journalctl", "-u", GUARD, "-n", "20", "--no-pager")
                ),
            )
        )
    return findings


def _calendar(exam: Examination) -> list[Finding]:
    """What measures the box now and then: does it wait for its time, and did it end well?"""
    units = [unit for name in CALENDAR_UNITS if (unit := _ours(exam, name)) is not None]
    waiting = (".timer", ".path")
    asleep = [u for u in units if u.name.endswith(waiting) and u.active not in ("active", "failed")]
    failed = [unit for unit in units if unit.active == "failed"]
    findings = []
    if asleep:
        names = ", ".join(unit.name for unit in asleep)
        findings.append(
            Finding(
                "units-calendar",
                Severity.WARN,
                f"Not running, so the box is not measured or watched as it should be: {names}.",
                tuple(e for unit in asleep for e in _evidence(unit)[:1]),
                mend("units", "Start them."),
            )
        )
    findings += [
        Finding(
            "units-calendar",
            Severity.WARN,
            f"{unit.name} failed the last time it ran.",
            _evidence(unit),
            by_hand(
                "Read what it found; a regression of speed is reported this way too.",
                ("journalctl", "-u", unit.name, "-n", "40", "--no-pager"),
            ),
        )
        for unit in failed
    ]
    return findings


def _others(exam: Examination) -> list[Finding]:
    failed = known(known(exam.facts.systemd).failed)
    others = [name for name in failed if not name.startswith("ishowtts-")]
    if not others:
        return []
    serious = [name for name in _OTHERS if name in others]
    text = f"Other units of the box failed: {', '.join(others[:5])}."
    if serious:
        text = f"{serious[0]} failed, {_OTHERS[serious[0]]}."
    return [
        Finding(
            "units-others",
            Severity.WARN if serious else Severity.INFO,
            text,
            tuple(Evidence(f"systemctl is-failed {name}", "failed") for name in others[:5]),
            by_hand(
                "Read what it says.",
                ("journalctl", "-b", "-u", (*serious, *others)[0], "-n", "30", "--no-pager"),
            ),
        )
    ]


def _present(exam: Examination) -> dict[str, str]:
    """Our unit files that are on the box: path → text as it should be."""
    try:
        wanted = rendered(exam.host, exam.settings)
    except OSError as error:
        raise OpsError(f"the units' templates cannot be read: {error.strerror}") from error
    return {path: text for path, text in wanted.items() if exam.host.is_file(path)}


def _ours(exam: Examination, name: str) -> Unit | None:
    """A unit of ours that is installed and wanted."""
    if name not in wanted_units(exam.settings) or not exam.host.is_file(f"{UNIT_DIR}/{name}"):
        return None
    return known(known(exam.facts.systemd).units).get(name)


def _evidence(unit: Unit) -> tuple[Evidence, ...]:
    return (
        Evidence(f"systemctl show {unit.name} ActiveState", unit.active),
        Evidence(f"systemctl show {unit.name} Result", unit.result or "none"),
    )


CHECKS = (
    Check("units-installed", "units", "Our units are installed", _installed),
    Check("units-drift", "units", "Unit files are as rendered", _drift),
    Check("units-enabled", "units", "Our units start at boot", _enabled),
    Check("units-verify", "units", "systemd accepts our units", _verify, limit_s=16.0),
    Check("units-cycle", "units", "No ordering cycle since boot", _cycles, limit_s=8.0),
    Check("units-reload", "units", "systemd has read the units on disk", _reload),
    Check("units-clocks", "units", "The clock lock unit has run", _clocks, jetson=True),
    Check("units-guard", "units", "The guard timer runs", _guard, jetson=True),
    Check("units-calendar", "units", "Measurements and watches run", _calendar),
    Check("units-others", "units", "No other unit of the box failed", _others),
)
