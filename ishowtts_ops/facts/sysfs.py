"""Reading single attributes of a box: a value, or Unknown with the reason. Nothing here raises."""

from __future__ import annotations

import errno
import re
import threading

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

_NUMBER = re.compile(r"-?[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}")
_LIMIT = 1 << 20
"""Bytes read at most: an attribute has one page, and a wrong path must not fill the memory."""
_reading: dict[int, str] = {}
"""What each thread is reading, so that one that hangs can be told apart."""


def raw(host: Host, path: str) -> Maybe[bytes]:
    """A file's bytes."""
    me = threading.get_ident()
    _reading[me] = path
    try:
        return host.read_bytes(path, _LIMIT)
    except (OSError, OpsError) as error:
        return Unknown(why(path, error))
    finally:
        del _reading[me]


def being_read(thread: int | None) -> str | None:
    """The path that a thread is reading right now; None when it does something else."""
    return None if thread is None else _reading.get(thread)


def text(host: Host, path: str) -> Maybe[str]:
    """An attribute as text, without surrounding blanks and NULs."""
    data = raw(host, path)
    if isinstance(data, Unknown):
        return data
    return data.decode("utf-8", errors="replace").strip(" \t\r\n\0")


def number(host: Host, path: str) -> Maybe[int]:
    """An attribute as a whole number, decimal or 0x…."""
    found = text(host, path)
    if isinstance(found, Unknown):
        return found
    if not _NUMBER.fullmatch(found):
        return Unknown(f"{path} holds {_short(found)}, which is not a number")
    return int(found, 16 if found[:2] in ("0x", "0X") else 10)


def exists(host: Host, path: str) -> bool:
    """False also for what may not be looked at."""
    try:
        return host.exists(path)
    except (OSError, OpsError):
        return False


def glob(host: Host, pattern: str) -> list[str]:
    """Box paths that match, sorted; empty where the folders may not be looked at."""
    try:
        return host.glob(pattern)
    except (OSError, OpsError):
        return []


def why(path: str, error: Exception) -> str:
    """Why a path could not be read, as a clause."""
    if isinstance(error, PermissionError):
        return f"reading {path} needs root"
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there"
    if isinstance(error, OSError):
        name = errno.errorcode.get(error.errno or 0, "an error")
        return f"{path} answers {name}"
    return str(error)


def parse_ranges(listing: str) -> tuple[int, ...] | None:
    """`0-3,6` as the kernel writes sets of cores -> (0, 1, 2, 3, 6); None when it is not one."""
    found: list[int] = []
    for part in listing.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        if match is None:
            return () if not listing.strip() else None
        low = int(match[1])
        found += range(low, int(match[2] or low) + 1)
    return tuple(found)


def _short(found: str) -> str:
    return repr(found if len(found) <= 40 else found[:37] + "...")
