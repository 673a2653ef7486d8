"""iShowTTS's own backend runs what is installed, and is warm.

Its unit is active only after its warm-up requests were answered (`ishowtts-ops supervise`), so
"active" and "warm" are one thing here too. It imports F5-TTS from the checkout that the series
changes, and reads the checkout's configuration; when any of it changes, it is started again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ishowtts_ops.config import STATE_DIR, Settings
from ishowtts_ops.host import Host
from ishowtts_ops.provision.daemon import restart_unit
from ishowtts_ops.provision.ishowtts import CONFIG
from ishowtts_ops.provision.patch_state import PATCH_STATE_PATH
from ishowtts_ops.provision.units import BACKEND, UNIT_DIR, is_active
from ishowtts_ops.steps import Change, Ledger, Progress, Recorder

STARTED_PATH = f"{STATE_DIR}/backend.json"
MARGIN_S = 60.0
"""For systemd and the supervisor, beside the start's own limit."""


def fingerprint(host: Host, settings: Settings) -> str:
    """A hash of everything a running backend depends on and that install changes or reads."""
    digest = hashlib.sha256()
    theirs = f"{settings.ishowtts.path.rstrip('/')}/{CONFIG}"
    for box_path in (f"{UNIT_DIR}/{BACKEND}", PATCH_STATE_PATH, theirs):
        content = host.read_bytes(box_path) if host.is_file(box_path) else b""
        digest.update(f"\0{box_path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@dataclass(frozen=True)
class BackendStep:
    """The unit is active and was started with what is installed now."""

    settings: Settings
    ledger: Ledger
    name: str = "backend"
    title: str = "iShowTTS's own backend, warm"

    def diff(self, host: Host) -> Change | None:
        if self.settings.backend.command is None:
            return None
        running = is_active(host, BACKEND)
        if running and _started_with(host) == fingerprint(host, self.settings):
            return None
        return self.restart(host, "start the backend" if not running else "restart the backend")

    def restart(self, host: Host, why: str) -> Change:
        """The change that (re)starts it, whether or not it differs now."""
        limit = f"{self.settings.backend.start_limit:g} s"
        return Change(
            self.name,
            f"{why} and wait until it is warm, at most {limit}",
            (f"$ systemctl restart {BACKEND}",),
            lambda log: self._apply(host, log),
        )

    def _apply(self, host: Host, log: Progress) -> None:
        wanted = fingerprint(host, self.settings)
        host.run(["systemctl", "reset-failed", BACKEND])
        limit = self.settings.backend.start_limit + MARGIN_S
        restart_unit(host, BACKEND, "The backend", limit, log)
        Recorder(host, self.ledger).write(STARTED_PATH, json.dumps({"fingerprint": wanted}) + "\n")


def _started_with(host: Host) -> str | None:
    if not host.is_file(STARTED_PATH):
        return None
    try:
        return str(json.loads(host.read_text(STARTED_PATH))["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None
