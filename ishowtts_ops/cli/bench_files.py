"""Files that the measuring verbs write where the user says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ishowtts_ops.errors import OpsError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence why a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise OpsError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Name a file in a folder that exists and is yours.",
        ) from None


def refuse_unwritable(*paths: Path | None) -> None:
    """Before a long measurement, not after it: can these files be written? They are left as they
    are.

    Raises:
        OpsError: one cannot be.
    """
    for path in paths:
        if path is None:
            continue
        with writing(path):
            was_there = path.exists()
            path.open("a", encoding="utf-8").close()
            if not was_there:
                path.unlink()


def write(path: Path, text: str) -> None:
    """Raises:
    OpsError: it cannot be written.
    """
    with writing(path):
        path.write_text(text, encoding="utf-8")
