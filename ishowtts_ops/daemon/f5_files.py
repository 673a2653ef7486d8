"""Where the F5 engine's sources, weights and caches are on the box."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ishowtts_ops.config import Manifest
from ishowtts_ops.daemon import journal
from ishowtts_ops.daemon.engine import StartRefused
from ishowtts_ops.daemon.folders import cache_folder, writable
from ishowtts_ops.host import Host

log = logging.getLogger(__name__)

ENTRY = "f5_tts/fast/synthesizer.py"
MEND = "Run `ishowtts-ops install`, which brings the sources and applies the series."


def source_digest(package: Path) -> str:
    """One SHA-256 over the names and contents of a package's Python files: which sources a running
    daemon has loaded, to be compared with those on the disk."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        total.update(f"{file.relative_to(package)}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def source_folder(manifest: Manifest, host: Host) -> Path:
    """The folder that holds the patched `f5_tts`. Raises StartRefused where it does not."""
    if manifest.source is None:
        raise StartRefused("The engine manifest names no F5-TTS sources.", MEND)
    folder = host.path(manifest.source)
    if not (folder / "f5_tts").is_dir():
        raise StartRefused(f"There is no f5_tts package in {manifest.source}.", MEND)
    if not (folder / ENTRY).is_file():
        raise StartRefused(f"The series is not applied to {manifest.source}.", MEND)
    return folder


def file_of(manifest: Manifest, key: str, host: Host) -> Path | None:
    """A file of the manifest; None where it names none. Raises StartRefused: it is not there."""
    box_path: str | None = getattr(manifest, key)
    if box_path is None:
        return None
    real = host.path(box_path)
    if not real.exists():
        raise StartRefused(f"{key} is {box_path}, which is not there.", MEND)
    return real


def weights_cache(host: Host) -> Path | None:
    """Where folded weights are kept: the folder systemd made for us (CacheDirectory=), else the
    toolkit's own; None when neither can be written, which only makes starts slower."""
    folder = cache_folder(host)
    if writable(folder):
        return folder
    log.warning(journal.line("folded weights are not kept: no writable folder", folder=str(folder)))
    return None
