"""All checks, in the order in which a person would look."""

from __future__ import annotations

from ishowtts_ops.doctor import (
    checks_box,
    checks_clocks,
    checks_config,
    checks_daemon,
    checks_disk,
    checks_engine,
    checks_heat,
    checks_load,
    checks_memory,
    checks_patch,
    checks_power,
    checks_rivals,
    checks_speed,
    checks_supply,
    checks_units,
    checks_voices,
)
from ishowtts_ops.doctor.finding import Check

ALL_CHECKS: tuple[Check, ...] = (
    *checks_box.CHECKS,
    *checks_power.CHECKS,
    *checks_clocks.CHECKS,
    *checks_heat.CHECKS,
    *checks_supply.CHECKS,
    *checks_rivals.CHECKS,
    *checks_memory.CHECKS,
    *checks_disk.CHECKS,
    *checks_engine.CHECKS,
    *checks_patch.CHECKS,
    *checks_config.CHECKS,
    *checks_voices.CHECKS,
    *checks_units.CHECKS,
    *checks_daemon.CHECKS,
    *checks_speed.CHECKS,
    *checks_load.CHECKS,
)
