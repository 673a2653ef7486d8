"""The fan, and which of its three claimants has it: the kernel, nvfancontrol, or jtop."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ishowtts_ops.facts import rivals, sysfs
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

FULL_PWM = 255
NVFANCONTROL = "nvfancontrol.service"


@dataclass(frozen=True)
class FanFacts:
    """The fan of a box.

    Attributes:
        path: the fan's hwmon folder; None where a box has no fan.
        rpm_path: the tachometer's attribute; None where there is none.
        pwm: duty, 0 to 255.
        pwm_enable: the driver's mode; what its numbers mean differs by release.
        rpm: from the tachometer.
        nvfancontrol: does NVIDIA's fan service start at boot?
        jtop_profile: the profile that jtop saved and sets again; None when it saved none.
    """

    path: str | None
    rpm_path: str | None
    pwm: Maybe[int]
    pwm_enable: Maybe[int]
    rpm: Maybe[int]
    nvfancontrol: bool
    jtop_profile: Maybe[str | None]

    @property
    def claimants(self) -> tuple[str, ...]:
        """Who sets the fan: more than one beside the kernel is a quarrel."""
        found = ["nvfancontrol"] if self.nvfancontrol else []
        if isinstance(self.jtop_profile, str):
            found.append("jtop")
        return tuple(found) or ("kernel",)

    @property
    def stopped(self) -> Maybe[bool]:
        """Does the tachometer see the fan stand still although it is driven?"""
        if isinstance(self.pwm, Unknown):
            return self.pwm
        if isinstance(self.rpm, Unknown):
            return self.rpm
        return self.pwm > 0 and self.rpm == 0


def read(host: Host) -> FanFacts:
    """Read the fan; never raises."""
    fan, tachometer = None, None
    for path in sysfs.glob(host, "/sys/class/hwmon/hwmon*"):
        if sysfs.text(host, f"{path}/name") in ("pwmfan", "pwm-fan"):
            fan = path
        for attribute in ("rpm", "fan1_input"):
            if sysfs.exists(host, f"{path}/{attribute}"):
                tachometer = f"{path}/{attribute}"
    no_fan = Unknown("there is no hwmon device pwmfan")
    return FanFacts(
        fan,
        tachometer,
        sysfs.number(host, f"{fan}/pwm1") if fan else no_fan,
        sysfs.number(host, f"{fan}/pwm1_enable") if fan else no_fan,
        sysfs.number(host, tachometer) if tachometer else Unknown("there is no tachometer"),
        rivals.enabled(host, NVFANCONTROL),
        _jtop_profile(host),
    )


def parse_jtop_profile(text: str) -> Maybe[str | None]:
    """The fan profile in jtop's config.json: {"fan": {NAME: {"profile": …}}}."""
    try:
        fans = json.loads(text).get("fan", {})
        profiles = [str(fan["profile"]) for fan in fans.values() if "profile" in fan]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return Unknown("jtop's config.json is damaged")
    return profiles[0] if profiles else None


def _jtop_profile(host: Host) -> Maybe[str | None]:
    for path in rivals.JTOP_CONFIGS:
        text = sysfs.text(host, path)
        if isinstance(text, str):
            return parse_jtop_profile(text)
    return None
