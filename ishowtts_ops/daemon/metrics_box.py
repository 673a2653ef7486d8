"""What the box does to the daemon, as metrics: clocks and heat, read off sysfs as any user may.

The GPU's devfreq is `*.gpu` or `*.ga10b`, on Thor `gpu-gpc-0` and `gpu-nvd-0`; cooling
devices named `*-throttle-alert`, whose state is above 0 while heat holds the clocks down. The
memory clock cannot be read without root; the guard and the doctor look at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host

GPU = (
    "/sys/class/devfreq/*.gpu",
    "/sys/class/devfreq/*.ga10b",
    "/sys/class/devfreq/gpu-*",
    "/sys/devices/*.ga10b/devfreq/*",
)
COOLING = "/sys/class/thermal/cooling_device*"
ZONES = "/sys/class/thermal/thermal_zone*"


class BoxReadings:
    """Readings of one box; NaN where it has no such thing."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def clocks_locked(self) -> float:
        """1 when the GPU's clock has one value to choose from, 0 when it has more."""
        for pattern in GPU:
            found = [
                (self._number(f"{folder}/min_freq"), self._number(f"{folder}/max_freq"))
                for folder in self._glob(pattern)
            ]
            known = [(low, high) for low, high in found if not math.isnan(low + high)]
            if known:
                return float(all(low == high for low, high in known))
        return math.nan

    def throttles(self) -> float:
        """How many cooling devices hold a clock down."""
        alerts = [f for f in self._glob(COOLING) if self._text(f"{f}/type").endswith("-alert")]
        if not alerts:
            return math.nan
        return float(sum(self._number(f"{folder}/cur_state") > 0 for folder in alerts))

    def hottest(self) -> float:
        """Degrees Celsius of the hottest zone."""
        zones = [self._number(f"{folder}/temp") / 1000 for folder in self._glob(ZONES)]
        return max((zone for zone in zones if -50 < zone < 200), default=math.nan)

    def publish(self, gauge: Callable[[str, str, Callable[[], float]], None]) -> None:
        gauge("ishowtts_clocks_locked", "1 while the GPU's clock is locked.", self.clocks_locked)
        gauge("ishowtts_throttles", "Cooling devices that hold a clock down.", self.throttles)
        gauge("ishowtts_hottest_celsius", "The hottest zone of the box.", self.hottest)

    def _glob(self, pattern: str) -> list[str]:
        try:
            return self._host.glob(pattern)
        except (OSError, OpsError):
            return []

    def _text(self, path: str) -> str:
        # cv zones of an Orin answer EAGAIN while their part of the chip sleeps.
        try:
            return self._host.read_text(path).strip()
        except (OSError, OpsError):
            return ""

    def _number(self, path: str) -> float:
        try:
            return float(self._text(path))
        except ValueError:
            return math.nan
