"""The folders that systemd gives the daemon (StateDirectory=, CacheDirectory=)."""

from __future__ import annotations

import os
from pathlib import Path

from ishowtts_ops.config import CACHE_DIR
from ishowtts_ops.host import Host


def state_folder() -> Path | None:
    """Where the daemon keeps what must outlive it; None outside systemd."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given and os.path.isdir(given) else None


def cache_folder(host: Host) -> Path:
    """Where it keeps what can be made again: the folder systemd made, else the toolkit's own. It
    need not be there, nor take writes."""
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else host.path(CACHE_DIR)


def writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)
