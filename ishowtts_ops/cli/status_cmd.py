"""`ishowtts-ops status`: one screen."""

from __future__ import annotations

from typing import Any

from ishowtts_ops.cli import render
from ishowtts_ops.cli.box import Box, Json, takes_box
from ishowtts_ops.client import DaemonClient, Readiness
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision import patch, power_status
from ishowtts_ops.provision.f5_source import locate
from ishowtts_ops.provision.units import UNIT_DIR, wanted_units


@takes_box
def status(box: Box, as_json: Json = False) -> int:
    """One screen: module, mode, clock lock, patch, units, daemon. Exit 1 when any is not in order.

    `doctor` says what is wrong and how to mend it.
    """
    host, settings = box.host.read_only(), box.settings
    machine = power_status.status(host, settings)
    source = locate(host, settings)
    series = patch.status(host, source.path)
    states = {name: _unit_state(host, name) for name in wanted_units(settings)}
    daemon = _daemon(box)
    ok = (
        machine.ok
        and series.state is patch.PatchState.APPLIED
        and isinstance(daemon, Readiness)
        and daemon.ready
    )
    if as_json:
        data: dict[str, Any] = {
            "power": machine.data(),
            "patch": series.to_json(),
            "units": states,
            "daemon": daemon.story if isinstance(daemon, Readiness) else {"error": daemon},
        }
        render.envelope("status", data, ok=ok)
        return 0 if ok else 1
    rows = list(machine.lines())
    rows.append(("patch", f"{series.state.value}, F5-TTS {series.version or 'of unknown version'}"))
    rows += [(name.removeprefix("ishowtts-"), state) for name, state in states.items()]
    rows.append(("daemon", _told(daemon)))
    render.pairs(rows)
    return 0 if ok else 1


def _unit_state(host: Host, name: str) -> str:
    if not host.lexists(f"{UNIT_DIR}/{name}"):
        return "not installed"
    active = host.query(["systemctl", "is-active", name]).stdout.strip()
    enabled = host.query(["systemctl", "is-enabled", name]).stdout.strip()
    return f"{active}, {enabled}"


def _daemon(box: Box) -> Readiness | str:
    daemon = box.settings.daemon
    try:
        with DaemonClient(f"http://{daemon.host}:{daemon.port}", timeout=3.0) as client:
            return client.readyz()
    except OpsError as error:
        return error.message


def _told(daemon: Readiness | str) -> str:
    if isinstance(daemon, str):
        return daemon
    rtf = f", recent RTF {daemon.recent_rtf:.3f}" if daemon.recent_rtf else ""
    voices = len(daemon.voices)
    return f"{daemon.status}: {daemon.engine} on {daemon.device}, {voices} voices{rtf}"
