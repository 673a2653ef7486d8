"""Does heat hold the clocks down, and does the fan turn?"""

from __future__ import annotations

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import Check, Evidence, Finding, Remedy, Severity, by_hand, known
from ishowtts_ops.facts.thermal import Zone
from ishowtts_ops.facts.value import Maybe, Unknown

NEAR_MC = 10_000
"""So close to a passive trip (m°C) the box throttles as soon as it has more to do."""
PASSIVE_MC = 99_000
"""Orin's passive trip, for zones that do not show theirs."""
WARM_MC = 60_000
"""Below this a fan may rightly stand still."""

COOLING: Remedy = by_hand(
    "Free the fan and the air's way, and let the fan run faster: power.fan in the configuration"
    " runs it at full speed while the clocks are locked.",
    ("ishowtts-ops", "power", "status"),
    ("sudo", "jetson_clocks", "--fan"),
    needs_root=True,
)


def _throttle(exam: Examination) -> list[Finding]:
    thermal = known(exam.facts.thermal)
    acting = thermal.active_throttles
    if acting:
        names = ", ".join(device.name for device in acting)
        return [
            Finding(
                "heat-throttle",
                Severity.ERROR,
                f"The box is too hot and slows its clocks down{_at(thermal.hottest)}: {names}.",
                tuple(
                    Evidence(f"{device.path}/cur_state ({device.name})", str(device.state))
                    for device in acting
                )
                + _zone_evidence(thermal.hottest),
                COOLING,
                because=("heat-fan",),
            )
        ]
    if known(thermal.throttled):
        return []
    return [Finding("heat-throttle", Severity.OK, "Heat slows nothing down.")]


def _margin(exam: Examination) -> list[Finding]:
    thermal = known(exam.facts.thermal)
    if thermal.active_throttles:
        return []  # heat-throttle says more
    hottest = known(thermal.hottest)
    temperature = known(hottest.temperature_mc)
    trip = hottest.trip("passive") or PASSIVE_MC
    evidence = _zone_evidence(hottest)
    if temperature >= trip - NEAR_MC:
        text = (
            f"The box is at {_celsius(temperature)} ({hottest.name}) and slows down at"
            f" {_celsius(trip)}."
        )
        stopped = ("heat-fan",)
        return [Finding("heat-margin", Severity.WARN, text, evidence, COOLING, because=stopped)]
    text = f"The hottest part is at {_celsius(temperature)} ({hottest.name})."
    return [Finding("heat-margin", Severity.OK, text, evidence)]


def _fan(exam: Examination) -> list[Finding]:
    fan = known(exam.facts.fan)
    if fan.path is None:
        return []  # a module on a carrier without a fan
    pwm = known(fan.pwm)
    evidence: tuple[Evidence, ...] = (Evidence(f"{fan.path}/pwm1", str(pwm)),)
    if fan.rpm_path is not None:
        evidence += (Evidence(fan.rpm_path, str(known(fan.rpm))),)
    if fan.stopped is True:
        return [
            Finding(
                "heat-fan",
                Severity.ERROR,
                f"The fan does not turn although it is driven (pwm {pwm} of 255).",
                evidence,
                by_hand("Look whether it is blocked, unplugged or worn out."),
            )
        ]
    if pwm == 0:
        # Whether it should turn depends on the heat.
        temperature = known(known(known(exam.facts.thermal).hottest).temperature_mc)
        if temperature < WARM_MC:
            text = f"The fan stands still, at {_celsius(temperature)}."
            return [Finding("heat-fan", Severity.INFO, text, evidence)]
        return [
            Finding(
                "heat-fan",
                Severity.ERROR,
                f"The fan is off although the box is at {_celsius(temperature)}.",
                evidence,
                by_hand(
                    "Start NVIDIA's fan service, and see whether jtop has saved another profile.",
                    ("sudo", "systemctl", "restart", "nvfancontrol.service"),
                    needs_root=True,
                ),
            )
        ]
    if len(fan.claimants) > 1:
        text = f"Two programs set the fan: {' and '.join(fan.claimants)}."
        remedy = by_hand(
            "Let one of them do it: take jtop's fan profile back to its default.", ("sudo", "jtop")
        )
        return [Finding("heat-fan", Severity.INFO, text, evidence, remedy)]
    text = f"The fan turns ({fan.rpm} rpm)."
    if fan.rpm_path is None:
        text = f"The fan is driven (pwm {pwm} of 255); there is no tachometer to say that it turns."
    return [Finding("heat-fan", Severity.OK, text, evidence)]


def _at(hottest: Maybe[Zone]) -> str:
    if isinstance(hottest, Unknown) or isinstance(hottest.temperature_mc, Unknown):
        return ""
    return f" at {_celsius(hottest.temperature_mc)}"


def _zone_evidence(zone: Maybe[Zone]) -> tuple[Evidence, ...]:
    if isinstance(zone, Unknown) or isinstance(zone.temperature_mc, Unknown):
        return ()
    return (Evidence(f"{zone.path}/temp ({zone.name})", _celsius(zone.temperature_mc)),)


def _celsius(millidegrees: int) -> str:
    return f"{millidegrees / 1000:.1f} °C"


CHECKS = (
    Check("heat-throttle", "heat", "Heat holds no clock down", _throttle, jetson=True),
    Check("heat-margin", "heat", "The box is not close to throttling", _margin, jetson=True),
    Check("heat-fan", "heat", "The fan turns", _fan, jetson=True),
)
