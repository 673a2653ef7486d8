"""`ishowtts-ops serve`: the daemon in the foreground, as its unit runs it."""

from __future__ import annotations

import dataclasses

from pydantic import ValidationError

from ishowtts_ops.cli.box import Box, takes_box
from ishowtts_ops.cli.whereabouts import go_where_the_engine_is
from ishowtts_ops.config import MANIFEST_PATH, Manifest, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host


@takes_box
def serve(box: Box) -> int:
    """Serve speech over HTTP in the foreground (what ishowtts-tts.service runs).

    Under systemd it reports ready after its warm-up, feeds the watchdog with the engine's own
    progress, and drains on SIGTERM. Exit 78: something must be changed before it can start.
    """
    go_where_the_engine_is(box)
    # Not at the top: the web framework's import would cost every other verb a second.
    from ishowtts_ops.daemon.serve import run

    return run(*_state(box), box.host, lambda: _state(dataclasses.replace(box)))


def _state(box: Box) -> tuple[Settings, Manifest]:
    """As the files say now: a box remembers what it has read, so a SIGHUP asks a new one."""
    return box.settings, _manifest(box.host)


def _manifest(host: Host) -> Manifest:
    if not host.is_file(MANIFEST_PATH):
        return Manifest()
    try:
        return Manifest.model_validate_json(host.read_bytes(MANIFEST_PATH))
    except ValidationError:
        raise OpsError(
            f"{MANIFEST_PATH} is damaged.",
            "Write it again: sudo ishowtts-ops install --only voices",
        ) from None
