"""How long and how often: systemd's defaults and the start limit."""

from __future__ import annotations

import time

from .box import Box
from .unitfile import Unit
from .unitstate import State, last_reset

DEFAULT_TIMEOUT_S = 90.0


def may_start(box: Box, unit: Unit, state: State) -> bool:
    """The start limit: StartLimitBurst starts in StartLimitIntervalSec, those before the last
    `systemctl reset-failed` forgotten; counts this one."""
    interval = unit.seconds("Unit.StartLimitIntervalSec", 10)
    burst = int(unit.get("Unit.StartLimitBurst", "5"))
    now = time.time()
    since = max(now - interval, last_reset(box, unit.name))
    state.starts = [start for start in state.starts if start > since]
    if interval and burst and len(state.starts) >= burst:
        return False
    state.starts.append(now)
    return True
