"""The daemon runs what is installed, and is warm.

systemd calls the unit active only after READY=1, which the daemon sends after its warm-up, so
"active" and "warm" are one thing. What it was started with is recorded as a fingerprint; when any
of it changes, the daemon is restarted.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ishowtts_ops import __version__
from ishowtts_ops.config import CONFIG_PATH, MANIFEST_PATH, STATE_DIR, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.engine_python import OVERLAY_MADE
from ishowtts_ops.host import Host, Result
from ishowtts_ops.provision.patch_state import PATCH_STATE_PATH
from ishowtts_ops.provision.units import DAEMON, UNIT_DIR, is_active
from ishowtts_ops.steps import Change, Ledger, Progress, Recorder

STARTED_PATH = f"{STATE_DIR}/daemon.json"
START_TIMEOUT_S = 900.0
_POLL_S = 0.4

_INPUTS = (f"{UNIT_DIR}/{DAEMON}", CONFIG_PATH, MANIFEST_PATH, PATCH_STATE_PATH, OVERLAY_MADE)


def fingerprint(host: Host) -> str:
    """A hash of everything a running daemon depends on."""
    digest = hashlib.sha256(__version__.encode())
    for box_path in _INPUTS:
        content = host.read_bytes(box_path) if host.is_file(box_path) else b""
        digest.update(f"\0{box_path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def started_with(host: Host) -> str | None:
    """The fingerprint the running daemon was started with, as install recorded it."""
    if not host.is_file(STARTED_PATH):
        return None
    try:
        value = json.loads(host.read_text(STARTED_PATH))["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(value)


@dataclass(frozen=True)
class DaemonStep:
    """The unit is active and was started with what is installed now."""

    settings: Settings
    ledger: Ledger
    name: str = "daemon"
    title: str = "the inference daemon, warm"

    def diff(self, host: Host) -> Change | None:
        if not self.settings.daemon.enabled:
            return None  # its unit goes with the step `units`
        running = is_active(host, DAEMON)
        if running and started_with(host) == fingerprint(host):
            return None
        return self.restart(host, "start the daemon" if not running else "restart the daemon")

    def restart(self, host: Host, why: str) -> Change:
        """The change that (re)starts the daemon, whether or not it differs now."""
        return Change(
            self.name,
            f"{why} and wait until it is warm",
            (f"$ systemctl restart {DAEMON}",),
            lambda log: self._apply(host, log),
        )

    def _apply(self, host: Host, log: Progress) -> None:
        wanted = fingerprint(host)
        host.run(["systemctl", "reset-failed", DAEMON])
        restart(host, log)
        # After, not before: if we are killed in between, the next run restarts once too often
        # rather than leaving the old daemon running under the new name.
        Recorder(host, self.ledger).write(STARTED_PATH, json.dumps({"fingerprint": wanted}) + "\n")


def restart(host: Host, log: Progress) -> None:
    """Restart the daemon's unit; its own STATUS= lines are the progress shown.

    Raises:
        OpsError: it did not become active; the message ends with what it logged last.
    """
    restart_unit(host, DAEMON, "The daemon", START_TIMEOUT_S, log)


def restart_unit(host: Host, unit: str, what: str, limit_s: float, log: Progress) -> None:
    """Restart a unit of Type=notify and wait until it is ready.

    Args:
        what: its name at the beginning of a sentence.
        limit_s: how long it may take.

    Raises:
        OpsError: it did not become active; the message ends with what it logged last.
    """
    stale = host.query(["systemctl", "show", "-p", "NeedDaemonReload", "--value", unit])
    if stale.stdout.strip() == "yes":
        log("systemd has not read the unit on disk yet")
        host.run(["systemctl", "daemon-reload"], timeout=60).check()
    results: list[Result] = []

    def work() -> None:
        results.append(host.run(["systemctl", "restart", unit], timeout=limit_s))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    told = ""
    while worker.is_alive():
        worker.join(_POLL_S)
        status = _status_text(host, unit)
        if status and status != told:
            log(status)
            told = status
    deadline = time.monotonic() + 5
    # Between a failed start and systemd's own next try the unit is briefly neither.
    while not is_active(host, unit):
        if time.monotonic() > deadline or (results and not results[0].ok):
            late = bool(results) and results[0].timed_out
            failed = f"was not ready in {limit_s:g} s" if late else "did not start"
            raise OpsError(
                f"{what} {failed}."
                + _last_lines(host, unit)
                + (f"\n{results[0].output.strip()}" if results else ""),
                f"Mend what its log says and run install again; all of it: journalctl -u {unit}",
            )
        time.sleep(_POLL_S)


def _status_text(host: Host, unit: str) -> str:
    shown = host.query(["systemctl", "show", "-p", "StatusText", unit]).stdout
    return shown.partition("=")[2].strip()


def _last_lines(host: Host, unit: str) -> str:
    if host.which("journalctl") is None:
        return ""
    asked = host.query(["journalctl", "-u", unit, "-n", "40", "-o", "cat", "--no-pager"])
    lines = _without_frames(asked.stdout.splitlines())[-15:]
    return " Its last lines:\n" + "\n".join(lines) if lines else ""


def _without_frames(lines: Sequence[str]) -> list[str]:
    """Log lines without the frames of tracebacks: what was raised tells a person enough, and the
    journal has the rest."""
    kept: list[str] = []
    inside = False
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif not (inside and line.startswith("  ")):
            inside = False
            kept.append(line)
    return [line for line in kept if line.strip()]
