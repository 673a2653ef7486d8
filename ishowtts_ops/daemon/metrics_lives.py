"""How earlier daemons of this box ended, kept in one small file of the state directory. A restart
is worth an alert, and the process that was restarted cannot count it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ishowtts_ops.daemon import journal

log = logging.getLogger(__name__)

FILE = "lives.json"
KILLED = "killed"
"""It did not say why it ended: a crash, the watchdog, a power cut."""
CAUSES = (KILLED, "device", "refused", "bug", "leak")
"""All that there are."""


class Lives:
    """The file. A disk that takes no writes costs the count, never the service.

    Args:
        folder: None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None
        self._ends = self._read()

    @property
    def ends(self) -> dict[str, int]:
        """Ends by cause, planned stops left out."""
        return {cause: count for cause, count in self._ends.items() if cause != "alive"}

    def begin(self) -> None:
        """This daemon lives; whoever did before and did not say goodbye was killed."""
        if self._ends.pop("alive", 0):
            self._ends[KILLED] = self._ends.get(KILLED, 0) + 1
        self._write({**self._ends, "alive": 1})

    def end(self, cause: str | None) -> None:
        """It ends now; None when it was asked to."""
        if cause is not None:
            self._ends[cause] = self._ends.get(cause, 0) + 1
        self._write(self._ends)

    def _read(self) -> dict[str, int]:
        if self._path is None:
            return {}
        try:
            data = json.loads(self._path.read_text())
            return {str(cause): int(count) for cause, count in data.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            log.warning(journal.line("the count of restarts begins anew", file=str(self._path)))
            return {}

    def _write(self, ends: dict[str, int]) -> None:
        if self._path is None:
            return
        try:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(ends))
            new.replace(self._path)
        except OSError as error:
            log.warning(journal.line("restarts are not counted", why=error.strerror))
