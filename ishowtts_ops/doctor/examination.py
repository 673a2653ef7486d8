"""What a check may look at."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ishowtts_ops.config import Settings
from ishowtts_ops.doctor.under_load import Load
from ishowtts_ops.errors import NeedsRoot, OpsError
from ishowtts_ops.facts.gather import Facts
from ishowtts_ops.facts.systemd import Unit
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision import power_undo
from ishowtts_ops.provision.units import DAEMON, POWER_UNITS, UNIT_DIR, UNITS
from ishowtts_ops.steps import Ledger

ASKED_UNITS = (*UNITS, "nvpmodel.service", "nvfancontrol.service")
"""The units whose state is gathered."""


@dataclass(frozen=True)
class Examination:
    """One look at one box.

    Attributes:
        host: the box; refuses to change anything.
        thorough: the engine's packages were imported and a kernel launched.
        changes_follow: install asks, and is about to change the box.
        load: the box watched under load; None when that was not asked for.
    """

    host: Host
    settings: Settings
    facts: Facts
    thorough: bool = False
    changes_follow: bool = False
    load: Maybe[Load] | None = None

    @property
    def jetson(self) -> bool:
        """False only when the box is known not to be one."""
        identity = self.facts.identity
        return isinstance(identity, Unknown) or identity.is_jetson

    @functools.cached_property
    def installed(self) -> bool:
        """Has install ever been here? Then whatever lacks is a fault, not just yet to come. `power
        lock` alone, which keeps a ledger as well, is no install."""
        host = self.host
        if any(host.lexists(f"{UNIT_DIR}/{name}") for name in (*POWER_UNITS, DAEMON)):
            return True
        try:
            ledger = Ledger.open(host)
        except NeedsRoot:
            return False  # it may be a lock's, and there is no unit
        except (OpsError, OSError):
            return True  # damaged, which config-ledger says
        return bool(ledger.files) or not ledger.notes.keys() <= {power_undo.NOTE}

    def unit(self, name: str) -> Unit | None:
        """A unit as systemd sees it; None when systemd was not asked or did not answer."""
        systemd = self.facts.systemd
        if isinstance(systemd, Unknown) or isinstance(systemd.units, Unknown):
            return None
        return systemd.units.get(name)
