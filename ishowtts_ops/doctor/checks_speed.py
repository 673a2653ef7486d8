"""Is the box as fast as it was, and when was that last looked at?"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Severity, by_hand, known
from ishowtts_ops.facts.history import HISTORY, Damaged, HistoryFacts, Measured
from ishowtts_ops.facts.value import Unknown

SLOWER = 1.6
"""Live requests are short and uneven, so they are held to the baseline loosely; `regress` measures
it with care."""
OLD = timedelta(days=9)
"""The calendar measures daily and weekly."""

SLOW = (
    "engine-torch",
    "daemon-device",
    "power-mode",
    "clocks-gpu",
    "heat-throttle",
    "supply-alarm",
    "supply-measured",
    "power-caps",
    "power-firmware",
    "patch-state",
    "config-nfe",
    "config-ishowtts-nfe",
    "memory-swap",
    "memory-headroom",
    "memory-gpu-others",
)
"""What makes speech slow: where one of these complains, slow speech is what comes of it."""

_REGRESS = by_hand(
    "Measure it with care when nobody is on air: that names the likely cause.",
    ("sudo", "ishowtts-ops", "regress"),
)


def _history(exam: Examination) -> list[Finding]:
    """Can what was measured be read at all?"""
    history = exam.facts.history
    if not isinstance(history, Damaged):
        return []
    text = (
        "The history of measurements is damaged, so nothing can be held to a baseline: a box that"
        " got slow would not be noticed."
    )
    remedy = by_hand(
        "Measure when nobody is on air: the damaged file is kept under another name and a new"
        " history begun. `ishowtts-ops bench history --import` brings an export back.",
        ("sudo", "ishowtts-ops", "bench", "run"),
        ("sudo", "ishowtts-ops", "regress", "--update-baseline"),
        needs_root=True,
    )
    evidence = (Evidence(HISTORY, history.reason.removeprefix(f"{HISTORY} ")),)
    return [Finding("speed-history", Severity.WARN, text, evidence, remedy)]


def _recent(exam: Examination) -> list[Finding]:
    """The daemon's recent RTF against the baseline of its engine."""
    health = exam.facts.daemon
    if isinstance(health, Unknown) or health.recent_rtf is None:
        return []  # the daemon is down, or has not spoken yet
    baseline = known(exam.facts.history).baselines.get(health.engine)
    if baseline is None:
        return []
    ratio = health.recent_rtf / baseline.rtf
    evidence = (
        Evidence(f"GET {health.url}/readyz recent_rtf", f"{health.recent_rtf:.4g}"),
        _evidence(baseline, "baseline"),
    )
    if ratio <= SLOWER:
        text = f"The daemon's recent RTF of {health.recent_rtf:.3g} is near its baseline."
        return [Finding("speed-recent", Severity.OK, text, evidence)]
    text = (
        f"The daemon is slower than it was: its recent RTF is {health.recent_rtf:.3g}, and that of"
        f" its baseline {baseline.rtf:.3g}."
    )
    effect = round(ratio, 2)
    return [Finding("speed-recent", Severity.WARN, text, evidence, _REGRESS, effect, because=SLOW)]


def _last(exam: Examination) -> list[Finding]:
    """The newest benchmark against what it is held to."""
    history = known(exam.facts.history)
    last, baseline = history.last, history.baseline
    if last is None or baseline is None or last.id == baseline.id:
        return []
    ratio = last.rtf / baseline.rtf
    allowed = 1 + 2 * exam.settings.measure.tolerance_percent / 100
    evidence = (_evidence(last, "newest"), _evidence(baseline, "baseline"))
    if ratio <= allowed:
        return [
            Finding("speed-last", Severity.OK, "The newest benchmark held its speed.", evidence)
        ]
    text = (
        f"The newest benchmark was {ratio - 1:.0%} slower than its baseline (RTF {last.rtf:.3g}"
        f" against {baseline.rtf:.3g})."
    )
    effect = round(ratio, 2)
    return [Finding("speed-last", Severity.WARN, text, evidence, _REGRESS, effect, because=SLOW)]


def _age(exam: Examination) -> list[Finding]:
    """When was it measured last?"""
    history: HistoryFacts = known(exam.facts.history)
    if not exam.installed:
        return []
    measure = by_hand("Measure it when nobody is on air.", ("sudo", "ishowtts-ops", "bench", "run"))
    if history.last is None:
        evidence = (Evidence(HISTORY, f"{history.runs} runs"),)
        text = "The speed of this box was never measured."
        return [Finding("speed-age", Severity.INFO, text, evidence, measure)]
    age = timedelta(seconds=history.last.age_s(datetime.now(timezone.utc)))
    evidence = (_evidence(history.last, "newest"),)
    if age <= OLD:
        text = f"The speed was measured {_since(age)}."
        return [Finding("speed-age", Severity.OK, text, evidence)]
    text = f"The speed was last measured {_since(age)}, so a slow box would not have been seen."
    severity = Severity.WARN if exam.settings.measure.calendar else Severity.INFO
    return [Finding("speed-age", severity, text, evidence, measure)]


def _since(age: timedelta) -> str:
    if age < timedelta(hours=2):
        return "a short while ago"
    hours = round(age.total_seconds() / 3600)
    return f"{hours} hours ago" if age < timedelta(days=2) else f"{age.days} days ago"


def _evidence(run: Measured, what: str) -> Evidence:
    return Evidence(
        f"{HISTORY} {what} {run.id[:12]}",
        f"RTF {run.rtf:.4g}, workload {run.workload}, {run.started:%Y-%m-%d %H:%M} UTC",
    )


CHECKS = (
    Check("speed-history", "speed", "What was measured can be read", _history),
    Check("speed-recent", "speed", "The daemon speaks as fast as its baseline", _recent),
    Check("speed-last", "speed", "The newest benchmark held its speed", _last),
    Check("speed-age", "speed", "The speed was measured lately", _age),
)
