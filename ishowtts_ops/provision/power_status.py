"""Everything about a box's power for one screen or one JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import Settings
from ishowtts_ops.facts import fan as fan_facts
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.fan import FanFacts
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.nvpmodel import Conf, Mode
from ishowtts_ops.facts.power import PowerFacts
from ishowtts_ops.facts.rails import RailFacts
from ishowtts_ops.facts.rivals import RivalFacts
from ishowtts_ops.facts.thermal import ThermalFacts
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power_look import Situation, describe, look


@dataclass(frozen=True)
class PowerStatus:
    """The power side of a box.

    Attributes:
        policy: the configuration's `power.mode`.
        situation: identity, clocks, mode, and what the policy asks for.
    """

    policy: str
    lock_wanted: bool
    situation: Situation
    thermal: ThermalFacts
    rails: RailFacts
    fan: FanFacts
    rivals: RivalFacts

    @property
    def identity(self) -> Identity:
        return self.situation.identity

    @property
    def clocks(self) -> ClockFacts:
        return self.situation.clocks

    @property
    def power(self) -> PowerFacts:
        return self.situation.power

    @property
    def ok(self) -> bool:
        """Is the box as its configuration wants it?"""
        now = self.situation
        held = now.clocks_held or not self.lock_wanted
        return not (now.mode_wrong or now.staged or now.trouble) and held

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of each line for people."""
        identity, power = self.identity, self.power
        rows = [
            ("Module", f"{identity.name}, {_release(identity)}"),
            ("Mode", self._mode()),
            ("Clocks", describe(self.clocks)),
            ("Limits", self._limits()),
            ("Heat", self._heat()),
            ("Rails", self._rails()),
            ("Fan", self._fan()),
            ("Others", self._others()),
        ]
        if power.low_ceilings:
            caps = "; ".join(str(cap) for cap in power.low_ceilings)
            rows.insert(4, ("Firmware", f"offers less than this module should: {caps}"))
        return rows

    def data(self) -> dict[str, Any]:
        """For JSON: what a program asks of it, facts as they are."""
        identity, power, clocks, now = self.identity, self.power, self.clocks, self.situation
        return {
            "ok": self.ok,
            "module": _name(identity.module),
            "model": identity.model,
            "l4t": _text(identity.release),
            "jetpack": identity.jetpack,
            "policy": self.policy,
            "mode": {
                "id": power.mode_id,
                "name": power.mode_name,
                "wanted": now.target.name if now.target else None,
                "best": _name(power.best),
                "effective": _name(power.effective),
                "in_force": power.in_force,
                "reboot_pending": now.staged,
                "conf": power.conf_path,
                "conf_fits_module": power.conf_fits,
                "conf_problems": _conf_problems(power),
                "limits_off": [str(cap) for cap in power.off],
                "low_ceilings": [str(cap) for cap in power.low_ceilings],
                "trouble": now.trouble or None,
            },
            "locked": {
                "wanted": self.lock_wanted,
                "cpu": clocks.cpu_locked,
                "gpu": clocks.gpu_locked,
                "emc": clocks.emc_locked,
            },
            "clocks": clocks,
            "thermal": {
                "throttled": self.thermal.throttled,
                "active": [device.name for device in self.thermal.active_throttles],
                "zones": {z.name: z.temperature_mc for z in self.thermal.zones},
            },
            "rails": {rail.label: rail.milliwatt for rail in self.rails.rails},
            "over_current_events": self.rails.events,
            "fan": {
                "pwm": self.fan.pwm,
                "rpm": self.fan.rpm,
                "claimants": list(self.fan.claimants),
            },
            "rivals": self.rivals,
        }

    def _mode(self) -> str:
        now, power = self.situation, self.power
        if isinstance(power.mode, Unknown):
            text = power.mode.reason
        else:
            text = f"{power.mode.name} (id {power.mode.id})"
        if now.staged and isinstance(power.effective, Mode):
            text += f", staged: {power.effective.name} is in force until the next reboot"
        elif now.target is not None and now.mode_wrong:
            text += f"; the configuration asks for {now.target.name}"
        return f"{text}; {now.trouble}" if now.trouble else text

    def _limits(self) -> str:
        power = self.power
        if power.off:
            return "not those of the mode: " + "; ".join(str(cap) for cap in power.off)
        if isinstance(power.in_force, Unknown):
            return str(power.in_force)
        return "those of the mode"

    def _heat(self) -> str:
        hottest = self.thermal.hottest
        if isinstance(hottest, Unknown):
            return str(hottest)
        degrees = hottest.temperature_mc
        shown_degrees = f"{degrees / 1000:.0f} °C" if isinstance(degrees, int) else str(degrees)
        active = ", ".join(device.name for device in self.thermal.active_throttles)
        held = f", throttled by {active}" if active else ", no throttling"
        return f"{hottest.name} {shown_degrees}{held}"

    def _rails(self) -> str:
        parts = []
        for rail in self.rails.rails:
            watts = rail.milliwatt
            value = f"{watts / 1000:.1f} W" if isinstance(watts, int) else str(watts)
            parts.append(f"{rail.label} {value}")
        events = self.rails.events
        if isinstance(events, dict) and any(events.values()):
            counts = ", ".join(
                f"OC{number} {rail_facts.MEANING[number]} {count}x"
                for number, count in events.items()
                if count
            )
            parts.append(f"since boot: {counts}")
        return ", ".join(parts) or "no power monitor"

    def _fan(self) -> str:
        fan = self.fan
        if isinstance(fan.pwm, Unknown):
            return fan.pwm.reason
        speed = f", {fan.rpm} rpm" if isinstance(fan.rpm, int) else ""
        duty = round(100 * fan.pwm / fan_facts.FULL_PWM)
        return f"{duty} %{speed}, set by {' and '.join(fan.claimants)}"

    def _others(self) -> str:
        found = [rival.detail for rival in self.rivals.in_charge]
        if self.rivals.nvpmodel_reran is True:
            found.append("nvpmodel.service ran again after the clocks were locked")
        return "; ".join(found) or "nobody else sets mode or clocks"


def status(host: Host, settings: Settings) -> PowerStatus:
    """Read everything; changes nothing.

    Raises:
        UsageError: the policy names a mode that the box does not have.
    """
    policy = settings.power
    return PowerStatus(
        policy.mode,
        policy.lock_clocks,
        look(host, policy),
        thermal_facts.read(host),
        rail_facts.read(host),
        fan_facts.read(host),
        rival_facts.read(host),
    )


def _name(value: Any) -> Any:
    return value if isinstance(value, Unknown) else value.name


def _text(value: Maybe[Any]) -> Maybe[str]:
    return value if isinstance(value, Unknown) else str(value)


def _release(identity: Identity) -> str:
    if isinstance(identity.release, Unknown):
        return f"L4T {identity.release}"
    jetpack = identity.jetpack
    named = f"JetPack {jetpack}" if isinstance(jetpack, str) else "JetPack not in the table"
    return f"L4T {identity.release}, {named}"


def _conf_problems(power: PowerFacts) -> list[str]:
    return [str(p) for p in power.conf.problems] if isinstance(power.conf, Conf) else []
