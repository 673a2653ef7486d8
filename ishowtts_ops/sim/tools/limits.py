"""How long and how often: systemd's defaults and the start limit."""

from __future__ import annotations

import time

from .unitfile import Unit
from .unitstate import State

DEFAULT_TIMEOUT_S = 90.0


def may_start(unit: Unit, state: State) -> bool:
    """The start limit: StartLimitBurst starts in StartLimitIntervalSec; counts this one."""
    interval = unit.seconds("Unit.StartLimitIntervalSec", 10)
    burst = int(unit.get("Unit.StartLimitBurst", "5"))
    now = time.time()
    state.starts = [start for start in state.starts if now - start < interval]
    if interval and burst and len(state.starts) >= burst:
        return False
    state.starts.append(now)
    return True
