"""Does the daemon run, answer, and run what is installed?"""

from __future__ import annotations

import re

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    Remedy,
    Severity,
    by_hand,
    known,
    mend,
    restart,
)
from ishowtts_ops.facts.daemon_health import DaemonHealth, NotRunning, SomebodyElse
from ishowtts_ops.facts.stacks import hung_in
from ishowtts_ops.facts.systemd import Unit, read_journal, watchdog_kills
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.provision.daemon import fingerprint, started_with
from ishowtts_ops.provision.units import DAEMON

LOOP = 3
"""So many restarts by systemd since boot or since a start by hand are no accident."""
REFUSED_START = 78
"""The daemon's own status for "a setting or file has to change first"; the unit is not restarted
after it."""
BUSY_SHARE = 0.05
_NEEDED = ("engine-python", "engine-packages", "patch-source", "config-manifest")
"""What has to be mended before it can run."""
STACK_LINES = 2000
"""A hang's dump has some hundred lines, and the newest one counts."""
SHOWN_FRAMES = 5

_LOG = ("journalctl", "-u", DAEMON, "-b", "-n", "60", "--no-pager")
_RESULTS = {
    "watchdog": "its engine made no progress and systemd's watchdog killed it",
    "oom-kill": "the kernel killed it for lack of memory",
    "timeout": "it did not become warm in time",
    "start-limit-hit": "it failed too often in a row and systemd gave it up",
    "core-dump": "it crashed",
    "signal": "a signal ended it",
    "exit-code": "it ended with an error",
}


def _running(exam: Examination) -> list[Finding]:
    unit = _unit(exam)
    if unit is None or unit.load == "masked":
        return []  # units-installed or units-enabled says so
    if unit.active == "active":
        text = f"The daemon is active: {unit.status or 'no status given'}."
        return [Finding("daemon-running", Severity.OK, text, _evidence(unit))]
    if unit.active in ("activating", "reloading") and unit.sub != "auto-restart":
        text = f"The daemon is warming up: {unit.status or 'no status given'}."
        return [Finding("daemon-running", Severity.WARN, text, _evidence(unit))]
    why = _why(unit)
    if unit.exit_status == REFUSED_START:
        last = _last_line(exam)
        text = "The daemon refuses to start, and trying again will not help" + (
            f": {last}" if last else "."
        )
        remedy: Remedy = by_hand("Mend what its log says, then start it.", _LOG)
    else:
        text = f"The daemon does not run{f': {why}' if why else ''}."
        remedy = mend("daemon", "Start it and wait until it is warm.")
    return [
        Finding(
            "daemon-running",
            Severity.ERROR,
            text,
            _evidence(unit),
            remedy,
            # What is to be mended first, and, of one that starts again and again, why it does.
            because=(*_NEEDED, "daemon-restarts"),
        )
    ]


def _restarts(exam: Examination) -> list[Finding]:
    unit = _unit(exam)
    if unit is None or unit.restarts == 0:
        return []
    journal = read_journal(exam.host, DAEMON, STACK_LINES)
    kills = 0 if isinstance(journal, Unknown) else watchdog_kills(journal)
    times = "once" if unit.restarts == 1 else f"{unit.restarts} times"
    text = f"systemd had to restart the daemon {times}"
    if kills:
        part = "" if kills == unit.restarts else ", once" if kills == 1 else f", {kills} times"
        text += f"{part} because the watchdog saw no progress"
    why = _why(unit)
    if unit.active != "active" and why and not kills:
        text += f"; the last time {why}"
    loop = unit.restarts >= LOOP and unit.active != "active"
    evidence = (
        *_evidence(unit),
        Evidence(f"systemctl show {DAEMON} NRestarts", str(unit.restarts)),
    )
    if kills:
        evidence += (Evidence(f"journalctl -u {DAEMON} Watchdog timeout", str(kills)),)
        stack = None if isinstance(journal, Unknown) else hung_in(journal)
        if stack is not None:
            frame = stack.frames[0]
            place = "/".join(frame.path.split("/")[-2:])
            text += f", the last time in {frame.function} of {place}"
            evidence += tuple(
                Evidence("its engine's thread stood at" if n == 0 else "called from", str(frame))
                for n, frame in enumerate(stack.frames[:SHOWN_FRAMES])
            )
    return [
        Finding(
            "daemon-restarts",
            Severity.ERROR if loop else Severity.WARN,
            f"{text}.",
            evidence,
            by_hand("Its log has the reason; after a hang it holds every thread's stack.", _LOG),
            because=_NEEDED if loop else (),
        )
    ]


def _answers(exam: Examination) -> list[Finding]:
    unit = _unit(exam)
    if unit is None or unit.active != "active":
        return []
    health = exam.facts.daemon
    if isinstance(health, Unknown):
        return [
            Finding(
                "daemon-answers",
                Severity.ERROR,
                f"The daemon is active and cannot be reached: {health.reason}.",
                (*_evidence(unit), Evidence("GET /readyz", health.reason)),
                _reach(exam, health),
            )
        ]
    if not health.live:
        evidence = (Evidence(f"GET {health.url}/livez", "; ".join(health.reasons) or "hung"),)
        text = "The daemon's engine hangs; the watchdog should end it soon."
        remedy = restart(DAEMON, "Restart it without waiting for the watchdog.")
        return [Finding("daemon-answers", Severity.ERROR, text, evidence, remedy)]
    return [Finding("daemon-answers", Severity.OK, f"The daemon answers at {health.url}.")]


def _reach(exam: Examination, health: Unknown) -> Remedy:
    port = exam.settings.daemon.port
    who = ("sudo", "ss", "-ltnp", f"sport = :{port}")
    if isinstance(health, SomebodyElse):
        text = f"See who has port {port}; move it, or give the daemon another one (daemon.port)."
        return by_hand(text, who, needs_root=True)
    if isinstance(health, NotRunning):
        text = "Compare daemon.port of the configuration with the port that it listens on."
        return by_hand(text, ("sudo", "ss", "-ltnp"), needs_root=True)
    return restart(DAEMON, "Restart it.")


def _ready(exam: Examination) -> list[Finding]:
    health = _health(exam)
    if health is None or not health.live:
        return []
    evidence = (Evidence(f"GET {health.url}/readyz", health.status),)
    if health.ready:
        rtf = "" if health.recent_rtf is None else f", recent RTF {health.recent_rtf:.3f}"
        text = f"The daemon is ready: {health.engine} on {health.device}{rtf}."
        return [Finding("daemon-ready", Severity.OK, text, evidence)]
    why = "; ".join(health.reasons) or health.stage or "it does not say why"
    text = f"The daemon is up and not ready: {why}."
    passing = health.status in ("warming", "draining")
    remedy = None if passing else restart(DAEMON, "Restart it.")
    severity = Severity.WARN if passing else Severity.ERROR
    source = ("daemon-running",)
    return [Finding("daemon-ready", severity, text, evidence, remedy, because=source)]


def _current(exam: Examination) -> list[Finding]:
    unit = _unit(exam)
    if unit is None or unit.active != "active":
        return []
    recorded = started_with(exam.host)
    if recorded == fingerprint(exam.host):
        return []
    return [
        Finding(
            "daemon-current",
            Severity.WARN,
            "The daemon runs with older settings, patches or units than are installed now.",
            (Evidence("started with", (recorded or "not recorded")[:12]),),
            mend("daemon", "Restart it."),
            because=("units-drift", "patch-state", "config-manifest", "config-file"),
        )
    ]


def _device(exam: Examination) -> list[Finding]:
    health = _health(exam)
    if health is None or health.engine != "f5" or exam.settings.f5.device == "cpu":
        return []
    if not health.device.startswith("cpu") or not exam.jetson:
        return []
    env = exam.facts.python_env
    if not isinstance(env, Unknown) and env.cpu_only:
        return []  # engine-torch names the cause
    return [
        Finding(
            "daemon-device",
            Severity.ERROR,
            "The daemon computes on the CPU although the box has a GPU.",
            (Evidence(f"GET {health.url}/readyz device", health.device),),
            by_hand(
                "Its log says why the GPU was not taken; `--thorough` tries it out.",
                _LOG,
                ("sudo", "ishowtts-ops", "doctor", "--thorough", "engine"),
            ),
        )
    ]


def _load(exam: Examination) -> list[Finding]:
    health = _health(exam)
    if health is None or not health.outcomes:
        return []
    total = sum(health.outcomes.values())
    failed = health.outcomes.get("failed", 0)
    late = sum(health.outcomes.get(name, 0) for name in ("queue_full", "deadline"))
    evidence = tuple(
        Evidence(f"GET {health.url}/metrics ishowtts_requests_total {name}", str(count))
        for name, count in sorted(health.outcomes.items())
    )
    if failed:
        text = f"The engine failed at {failed} of {total} requests since the daemon started."
        remedy = by_hand("Its log has each failure with its request.", _LOG)
        return [Finding("daemon-load", Severity.WARN, text, evidence, remedy)]
    if late > max(1, total * BUSY_SHARE):
        text = f"{late} of {total} requests were turned away because the daemon was too busy."
        remedy = by_hand(
            "Ask for less speech at once, or see what slows the box; the other findings say."
        )
        return [Finding("daemon-load", Severity.WARN, text, evidence, remedy)]
    return []


def _health(exam: Examination) -> DaemonHealth | None:
    """The daemon's own story; None when there is none, which `daemon-answers` tells."""
    unit = _unit(exam)
    health = exam.facts.daemon
    if unit is None or unit.active not in ("active", "activating") or isinstance(health, Unknown):
        return None
    return health


def _unit(exam: Examination) -> Unit | None:
    """The daemon's unit; None when it is not installed, which `units-installed` tells."""
    if not exam.installed:
        return None
    unit = known(known(exam.facts.systemd).units).get(DAEMON)
    return unit if unit is not None and unit.installed else None


def _why(unit: Unit) -> str:
    return _RESULTS.get(unit.result, "")


def _last_line(exam: Examination) -> str:
    """The daemon's own last words in its journal."""
    journal = read_journal(exam.host, DAEMON, 30)
    if isinstance(journal, Unknown):
        return ""
    own = [
        line.strip()
        for line in journal.splitlines()
        if line.strip() and not re.match(r"(\S+\.service|Start|Stop|Fail)", line)
    ]
    return own[-1][:200] if own else ""


def _evidence(unit: Unit) -> tuple[Evidence, ...]:
    return (
        Evidence(f"systemctl show {unit.name} ActiveState", f"{unit.active} ({unit.sub})"),
        Evidence(f"systemctl show {unit.name} Result", unit.result or "none"),
    )


CHECKS = (
    Check("daemon-running", "daemon", "The daemon runs", _running, limit_s=8.0),
    Check(
        "daemon-restarts",
        "daemon",
        "The daemon is not restarted again and again",
        _restarts,
        limit_s=8.0,
    ),
    Check("daemon-answers", "daemon", "The daemon answers", _answers),
    Check("daemon-ready", "daemon", "The daemon is ready to speak", _ready),
    Check("daemon-current", "daemon", "The daemon runs what is installed", _current),
    Check("daemon-device", "daemon", "The daemon computes on the GPU", _device),
    Check("daemon-load", "daemon", "Requests are served", _load),
)
