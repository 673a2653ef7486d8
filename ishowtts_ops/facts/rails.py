"""Power rails (INA3221) and the over-current counters of the SoC.

Volts are mV, currents mA, powers mW. The counters only ever rise; what happens now shows in the
difference between two readings. OC1 is under-voltage, OC2 the average and OC3 the instantaneous
limit; OC3 alone is common and mild on an Orin Nano Super.
"""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

CHANNELS = (1, 2, 3)
COUNTERS = (1, 2, 3)
MEANING = {1: "under-voltage", 2: "average over-current", 3: "instantaneous over-current"}
SERIOUS = (1, 2)


@dataclass(frozen=True)
class Rail:
    """One channel of a monitor. A small current may read negative; that is no error.

    Attributes:
        label: VDD_GPU_SOC, VDD_IN …
        crit_alarm: is the current above the rail's critical limit right now?
    """

    path: str
    channel: int
    label: str
    millivolt: Maybe[int]
    milliampere: Maybe[int]
    crit_milliampere: Maybe[int]
    crit_alarm: Maybe[bool]

    @property
    def milliwatt(self) -> Maybe[int]:
        if isinstance(self.millivolt, Unknown):
            return self.millivolt
        if isinstance(self.milliampere, Unknown):
            return self.milliampere
        return round(self.millivolt * self.milliampere / 1000)


@dataclass(frozen=True)
class RailFacts:
    """All rails, and how often each over-current event has happened since boot.

    Attributes:
        events: by number of the counter (1, 2, 3).
        events_path: the hwmon folder of the counters.
    """

    rails: tuple[Rail, ...]
    events: Maybe[dict[int, int]]
    events_path: str = ""

    def counter(self, number: int) -> str:
        """Where a counter is read."""
        return f"{self.events_path}/oc{number}_event_cnt"

    @property
    def alarms(self) -> tuple[Rail, ...]:
        """Rails above their critical limit now."""
        return tuple(rail for rail in self.rails if rail.crit_alarm is True)

    def since(self, earlier: RailFacts) -> Maybe[dict[int, int]]:
        """Events between an earlier reading and this one; a counter that fell was reset."""
        if isinstance(self.events, Unknown):
            return self.events
        if isinstance(earlier.events, Unknown):
            return earlier.events
        before = earlier.events
        return {
            number: count - before.get(number, 0) if count >= before.get(number, 0) else count
            for number, count in self.events.items()
        }


def read(host: Host) -> RailFacts:
    """Read all monitors; never raises."""
    rails: list[Rail] = []
    events: Maybe[dict[int, int]] = Unknown("there is no hwmon device soctherm_oc")
    counters = ""
    for path in sysfs.glob(host, "/sys/class/hwmon/hwmon*"):
        name = sysfs.text(host, f"{path}/name")
        if name == "ina3221":
            rails += _rails(host, path)
        elif name == "soctherm_oc":
            events, counters = _events(host, path), path
    return RailFacts(tuple(rails), events, counters)


def _rails(host: Host, path: str) -> list[Rail]:
    found = []
    for channel in CHANNELS:
        label = sysfs.text(host, f"{path}/in{channel}_label")
        if isinstance(label, Unknown) or label in ("", "NC"):
            continue
        alarm = sysfs.number(host, f"{path}/curr{channel}_crit_alarm")
        found.append(
            Rail(
                path,
                channel,
                label,
                sysfs.number(host, f"{path}/in{channel}_input"),
                sysfs.number(host, f"{path}/curr{channel}_input"),
                sysfs.number(host, f"{path}/curr{channel}_crit"),
                alarm if isinstance(alarm, Unknown) else alarm != 0,
            )
        )
    return found


def _events(host: Host, path: str) -> Maybe[dict[int, int]]:
    counts = {}
    for number in COUNTERS:
        count = sysfs.number(host, f"{path}/oc{number}_event_cnt")
        if isinstance(count, int):
            counts[number] = count
    return counts or Unknown(f"{path} shows no over-current counters")
