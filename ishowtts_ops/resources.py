"""Where the files that come with the package are: patches/, units/ and config/.

In an installed wheel they lie in `ishowtts_ops/_data/`, in a checkout beside the package.
"""

from __future__ import annotations

from pathlib import Path

from ishowtts_ops.errors import OpsError

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The real path of a file or folder that comes with the package.

    Args:
        name: path below the project's top, such as "patches/f5-tts" or "config".

    Raises:
        OpsError: it is not there (a broken installation).
    """
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        if (base / name).exists():
            return base / name
    raise OpsError(
        f"The file {name!r} that belongs to ishowtts-ops is not beside the program.",
        "Install ishowtts-ops again.",
    )
