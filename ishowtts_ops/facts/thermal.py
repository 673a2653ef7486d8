"""Temperatures, and whether heat holds the clocks down.

Temperatures are millidegrees Celsius, as in sysfs. Zones of blocks that are switched off answer
EAGAIN or -256 °C; that is no fault and no temperature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

ROOT = "/sys/class/thermal"
OFF_MC = -200_000
"""Below this a zone says "switched off": -256 °C is colder than anything can get."""

_THROTTLE = re.compile(
    r"(?:cpu|gpu|cv[0-9]|soc[0-9])-throttle-alert|devfreq-.+|(?:thermal-)?cpufreq-.+"
)
_MAX_TRIPS = 16


@dataclass(frozen=True)
class Trip:
    """Where a zone acts: kind is passive, active, hot or critical."""

    kind: str
    temperature_mc: int


@dataclass(frozen=True)
class Zone:
    """One thermal zone.

    Attributes:
        name: the zone's type, `gpu-thermal` or on R35 `GPU-therm`.
    """

    path: str
    name: str
    temperature_mc: Maybe[int]
    trips: tuple[Trip, ...]

    def trip(self, kind: str) -> int | None:
        """The lowest trip point of that kind, in m°C."""
        return min((t.temperature_mc for t in self.trips if t.kind == kind), default=None)


@dataclass(frozen=True)
class CoolingDevice:
    """Something the kernel turns on against heat: a throttle, or the fan."""

    path: str
    name: str
    state: Maybe[int]
    max_state: Maybe[int]

    @property
    def throttles(self) -> bool:
        """Does it slow a clock down (the fan does not)?"""
        return _THROTTLE.fullmatch(self.name) is not None


@dataclass(frozen=True)
class ThermalFacts:
    """All zones and cooling devices."""

    zones: tuple[Zone, ...]
    cooling: tuple[CoolingDevice, ...]

    @property
    def hottest(self) -> Maybe[Zone]:
        known = [zone for zone in self.zones if isinstance(zone.temperature_mc, int)]
        if not known:
            return Unknown(f"no zone of {ROOT} shows a temperature")
        return max(known, key=_temperature)

    @property
    def active_throttles(self) -> tuple[CoolingDevice, ...]:
        """Throttles that work right now."""
        return tuple(
            device
            for device in self.cooling
            if device.throttles and isinstance(device.state, int) and device.state > 0
        )

    @property
    def throttled(self) -> Maybe[bool]:
        """Is heat holding a clock down right now?"""
        if self.active_throttles:
            return True
        throttles = [device for device in self.cooling if device.throttles]
        if not throttles:
            return Unknown(f"{ROOT} shows no throttle")
        return next((d.state for d in throttles if isinstance(d.state, Unknown)), False)


def read(host: Host) -> ThermalFacts:
    """Read all zones; never raises."""
    zones = (_zone(host, path) for path in sysfs.glob(host, f"{ROOT}/thermal_zone*"))
    devices = (_device(host, path) for path in sysfs.glob(host, f"{ROOT}/cooling_device*"))
    return ThermalFacts(
        tuple(zone for zone in zones if zone is not None),
        tuple(device for device in devices if device is not None),
    )


def _zone(host: Host, path: str) -> Zone | None:
    name = sysfs.text(host, f"{path}/type")
    if isinstance(name, Unknown):
        return None
    found = sysfs.number(host, f"{path}/temp")
    if isinstance(found, int) and found <= OFF_MC:
        found = Unknown(f"the block of {name} is switched off")
    return Zone(path, name, found, _trips(host, path))


def _trips(host: Host, path: str) -> tuple[Trip, ...]:
    trips = []
    for number in range(_MAX_TRIPS):
        kind = sysfs.text(host, f"{path}/trip_point_{number}_type")
        if isinstance(kind, Unknown):
            break
        temperature = sysfs.number(host, f"{path}/trip_point_{number}_temp")
        if isinstance(temperature, int):
            trips.append(Trip(kind, temperature))
    return tuple(trips)


def _device(host: Host, path: str) -> CoolingDevice | None:
    name = sysfs.text(host, f"{path}/type")
    if isinstance(name, Unknown):
        return None
    state = sysfs.number(host, f"{path}/cur_state")
    return CoolingDevice(path, name, state, sysfs.number(host, f"{path}/max_state"))


def _temperature(zone: Zone) -> int:
    return zone.temperature_mc if isinstance(zone.temperature_mc, int) else OFF_MC
