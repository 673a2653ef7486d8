"""Files that are whole whenever the power goes."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """Write aside and move into place. Raises OSError; then nothing was changed."""
    _make_private(path.parent)
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _make_private(folder: Path) -> None:
    """Make a folder and what is missing above it, for nobody else: `mkdir(parents=True)` gives its
    mode to the last one only."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def _sync_folder(folder: Path) -> None:
    """Without it a power cut may leave the old name pointing at nothing."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
