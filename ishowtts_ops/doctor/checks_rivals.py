"""Who else sets power mode and clocks?"""

from __future__ import annotations

from ishowtts_ops.doctor.checks_clocks import loose
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Remedy, Severity, by_hand, known
from ishowtts_ops.facts.rivals import Rival
from ishowtts_ops.facts.value import Unknown


def _rivals(exam: Examination) -> list[Finding]:
    rivals = known(exam.facts.rivals).in_charge
    if not exam.settings.power.lock_clocks or not rivals:
        return []
    return [
        Finding(
            "rivals-active",
            Severity.WARN,
            f"{rival.name} wants the clocks too: {rival.detail}.",
            (Evidence(rival.source, f"{_when(rival)}, {rival.detail}"),),
            _remedy(rival),
        )
        for rival in rivals
    ]


def _when(rival: Rival) -> str:
    words = (["enabled"] if rival.enabled else []) + (["active"] if rival.active is True else [])
    return " and ".join(words) or "there"


def _remedy(rival: Rival) -> Remedy:
    if rival.name == "jtop":
        return by_hand(
            "Switch its boot setting off; jtop then shows the clocks and leaves them alone.",
            ("sudo", "jtop"),
        )
    if rival.name == "rc.local":
        return by_hand(f"Take the line out of {rival.source}.", ("sudoedit", rival.source))
    unit = rival.source.rsplit("/", 1)[-1]
    return by_hand(
        "Switch it off, if nothing else on the box needs it.",
        ("sudo", "systemctl", "disable", "--now", unit),
        needs_root=True,
    )


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
