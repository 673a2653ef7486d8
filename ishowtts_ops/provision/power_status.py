"""Everything about a box's power for one screen or one JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError, Undetermined
from ishowtts_ops.facts import fan as fan_facts
from ishowtts_ops.facts import rails as rail_facts
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts import thermal as thermal_facts
from ishowtts_ops.facts.clocks import ClockFacts
from ishowtts_ops.facts.fan import FanFacts
from ishowtts_ops.facts.identity import Identity
from ishowtts_ops.facts.nvpmodel import Conf, Mode
from ishowtts_ops.facts.parallel import FILE_LIMIT_S, Job, in_parallel
from ishowtts_ops.facts.power import PowerFacts
from ishowtts_ops.facts.rails import RailFacts
from ishowtts_ops.facts.rivals import RivalFacts
from ishowtts_ops.facts.thermal import ThermalFacts
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host
from ishowtts_ops.provision.power_look import Situation, describe, look


@dataclass(frozen=True)
class PowerStatus:
    """The power side of a box.

    Attributes:
        running: is it more than the files of a box?
        policy: the configuration's `power.mode`.
        situation: identity, clocks, mode, and what the policy asks for.
    """

    running: bool
    policy: str
    lock_wanted: bool
    situation: Situation
    thermal: Maybe[ThermalFacts]
    rails: Maybe[RailFacts]
    fan: Maybe[FanFacts]
    rivals: Maybe[RivalFacts]

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

    @property
    def cool(self) -> bool | None:
        """Does heat hold no clock down? None where that is not known."""
        thermal = self.thermal
        return None if isinstance(thermal, Unknown) else not thermal.active_throttles

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of each line for people."""
        identity, power = self.identity, self.power
        if not self.running:
            return [
                ("Module", f"{identity.name}, {_release(identity)}"),
                ("Mode", f"for the next boot: {self._mode()}"),
                ("Clocks", "not known: the box is not running"),
            ]
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
            "thermal": _thermal_data(self.thermal),
            "rails": _rail_data(self.rails),
            "over_current_events": _events(self.rails),
            "fan": _fan_data(self.fan),
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
        if not now.trouble:
            return text
        # The trouble is a sentence, and often about what is not known of the mode.
        return now.trouble if text in now.trouble else f"{text}. {now.trouble}"

    def _limits(self) -> str:
        power = self.power
        if power.off:
            return "not those of the mode: " + "; ".join(str(cap) for cap in power.off)
        if isinstance(power.mode, Unknown):
            return "not known, because the mode is not"
        if isinstance(power.in_force, Unknown):
            return str(power.in_force)
        if isinstance(power.conf, Conf) and power.conf.problems:
            return f"those of the mode, whose file is damaged: {power.conf.problems[0]}"
        if power.conf_fits is False:
            return f"those of the mode, in a file of another module: {power.conf_path}"
        return "those of the mode"

    def _heat(self) -> str:
        hottest = self.thermal if isinstance(self.thermal, Unknown) else self.thermal.hottest
        if isinstance(hottest, Unknown) or isinstance(self.thermal, Unknown):
            return str(hottest)
        degrees = hottest.temperature_mc
        shown_degrees = f"{degrees / 1000:.0f} °C" if isinstance(degrees, int) else str(degrees)
        active = ", ".join(device.name for device in self.thermal.active_throttles)
        held = f", throttled by {active}" if active else ", no throttling"
        return f"{hottest.name} {shown_degrees}{held}"

    def _rails(self) -> str:
        if isinstance(self.rails, Unknown):
            return str(self.rails)
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
        if isinstance(fan, Unknown):
            return str(fan)
        if isinstance(fan.pwm, Unknown):
            return fan.pwm.reason
        speed = f", {fan.rpm} rpm" if isinstance(fan.rpm, int) else ""
        duty = round(100 * fan.pwm / fan_facts.FULL_PWM)
        return f"{duty} %{speed}, set by {' and '.join(fan.claimants)}"

    def _others(self) -> str:
        if isinstance(self.rivals, Unknown):
            return str(self.rivals)
        found = [rival.detail for rival in self.rivals.in_charge]
        if self.rivals.nvpmodel_reran is True:
            found.append("nvpmodel.service ran again after the clocks were locked")
        found += [f"not known: {reason}" for reason in self.rivals.unclear]
        return "; ".join(found) or "nobody else sets mode or clocks"


def status(host: Host, settings: Settings) -> PowerStatus:
    """Read everything; changes nothing.

    Raises:
        UsageError: the policy names a mode that the box does not have.
        Undetermined: mode and clocks could not be read in their time.
    """
    policy = settings.power
    jobs = {
        "now": Job(lambda: _look(host, settings), 2 * FILE_LIMIT_S, "reading mode and clocks"),
        "thermal": Job(lambda: thermal_facts.read(host), FILE_LIMIT_S, "reading temperatures"),
        "rails": Job(lambda: rail_facts.read(host), FILE_LIMIT_S, "reading the power rails"),
        "fan": Job(lambda: fan_facts.read(host), FILE_LIMIT_S, "reading the fan"),
        "rivals": Job(
            lambda: rival_facts.read(host),
            3 * rival_facts.QUERY_LIMIT_S,
            "finding out who else sets clocks",
        ),
    }
    found = in_parallel(jobs)
    now = found.pop("now")
    if isinstance(now, OpsError):
        raise now
    if isinstance(now, Unknown):
        reason = now.reason[0].upper() + now.reason[1:]
        raise Undetermined(f"{reason}.", "The kernel's log may say why: sudo dmesg | tail -50")
    running = host.kind is not BoxKind.OFFLINE
    return PowerStatus(running, policy.mode, policy.lock_clocks, now, **found)


def _look(host: Host, settings: Settings) -> Situation | OpsError:
    """What `look` raises is for the caller of `status`, not a reason why nothing is known."""
    try:
        return look(host, settings.power)
    except OpsError as error:
        return error


def _thermal_data(thermal: Maybe[ThermalFacts]) -> Maybe[dict[str, Any]]:
    if isinstance(thermal, Unknown):
        return thermal
    return {
        "throttled": thermal.throttled,
        "active": [device.name for device in thermal.active_throttles],
        "zones": {z.name: z.temperature_mc for z in thermal.zones},
    }


def _rail_data(rails: Maybe[RailFacts]) -> Maybe[dict[str, Any]]:
    if isinstance(rails, Unknown):
        return rails
    return {rail.label: rail.milliwatt for rail in rails.rails}


def _events(rails: Maybe[RailFacts]) -> Maybe[dict[int, int]]:
    return rails if isinstance(rails, Unknown) else rails.events


def _fan_data(fan: Maybe[FanFacts]) -> Maybe[dict[str, Any]]:
    if isinstance(fan, Unknown):
        return fan
    return {"pwm": fan.pwm, "rpm": fan.rpm, "claimants": list(fan.claimants)}


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
