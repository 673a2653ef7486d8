"""Who else sets power mode and clocks?"""

from __future__ import annotations

from ishowtts_ops.doctor.checks_clocks import loose
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Remedy, Severity, by_hand, known
from ishowtts_ops.facts.rivals import DISABLE, ORDER, Rival, RivalFacts
from ishowtts_ops.facts.systemd import NoSystemd
from ishowtts_ops.facts.value import Unknown


def _rivals(exam: Examination) -> list[Finding]:
    facts = known(exam.facts.rivals)
    if not exam.settings.power.lock_clocks:
        return []
    findings = [] if _no_systemd(exam) else _unclear(facts)
    return findings + [
        Finding(
            "rivals-active",
            Severity.WARN,
            f"{rival.name} wants the clocks too: {rival.detail}.",
            (Evidence(rival.source, f"{_when(rival)}, {rival.detail}"),),
            _remedy(rival),
        )
        for rival in facts.in_charge
    ]


def _unclear(facts: RivalFacts) -> list[Finding]:
    return [
        Finding(
            "rivals-active",
            Severity.UNKNOWN,
            f"Whether something else sets the clocks is not known: {reason}.",
            (Evidence("rivals", reason),),
            by_hand("See who sets mode and clocks.", ("sudo", "ishowtts-ops", "power", "status")),
        )
        for reason in facts.unclear
    ]


def _no_systemd(exam: Examination) -> bool:
    """Is it told elsewhere that systemd does not answer?"""
    systemd = exam.facts.systemd
    return isinstance(systemd, Unknown) or isinstance(systemd.units, NoSystemd)


def _when(rival: Rival) -> str:
    words = (["enabled"] if rival.enabled else []) + (["active"] if rival.active is True else [])
    return " and ".join(words) or "there"


def _remedy(rival: Rival) -> Remedy:
    if rival.way == ORDER:
        return _consent("Order it after our lock, or switch its boot setting off in jtop itself.")
    if rival.way == DISABLE:
        return _consent("Switch it off, if nothing else on the box needs it.")
    if rival.name == "jtop":
        return by_hand("Switch its setting jetson_clocks.boot off.", ("sudo", "jtop"))
    if rival.unit:
        return by_hand(
            "It starts something of its own as well, so take the line out with a drop-in.",
            ("sudo", "systemctl", "edit", rival.unit),
            needs_root=True,
        )
    return by_hand(f"Take the line out of {rival.source}.", ("sudoedit", rival.source))


def _consent(text: str) -> Remedy:
    """A step that only the owner can ask for: what it switches off is not ours."""
    commands = (("sudo", "ishowtts-ops", "power", "resolve"),)
    return Remedy(text, commands, "rivals", needs_root=True)


def _reran(exam: Examination) -> list[Finding]:
    reran = known(exam.facts.rivals).nvpmodel_reran
    if isinstance(reran, Unknown) or not reran:
        return []  # not known before the lock unit has run, which units-clocks tells
    lost = loose(exam.facts.clocks)
    text = "nvpmodel.service ran again after the clocks were locked, which drops the lock"
    text += "; it is the likely cause." if lost else ", and the guard has restored it."
    evidence = (Evidence("systemctl show nvpmodel.service", "started after ishowtts-clocks"),)
    remedy = by_hand(
        "Avoid `systemctl isolate`, and look for what pulls the unit in.",
        ("systemctl", "list-dependencies", "--reverse", "nvpmodel.service"),
    )
    return [Finding("rivals-nvpmodel", Severity.INFO, text, evidence, remedy)]


CHECKS = (
    Check("rivals-active", "rivals", "Nobody else sets the clocks", _rivals, jetson=True),
    Check(
        "rivals-nvpmodel", "rivals", "nvpmodel was not run again since boot", _reran, jetson=True
    ),
)
