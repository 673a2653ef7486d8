"""Reads the logs that the stand-in service manager keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .box import Box
from .unitstate import BOOT_MARK, LOGS, STAMPED


@dataclass(frozen=True)
class Entry:
    """A line. A service's own lines carry no time: they show that of the manager's line before."""

    when: datetime | None
    source: str
    text: str

    @property
    def short(self) -> str:
        stamp = self.when.strftime("%b %d %H:%M:%S") if self.when else "--- -- --:--:--"
        return f"{stamp} orin-sim {self.source}: {self.text}"


def entries(box: Box, name: str, *, this_boot: bool = False) -> list[Entry]:
    """The log of a unit (or "kernel"), oldest first."""
    try:
        text = box.path(f"{LOGS}/{name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[Entry] = []
    when: datetime | None = None
    for line in text.splitlines():
        if line == BOOT_MARK:
            if this_boot:
                found.clear()
            continue
        match = STAMPED.fullmatch(line)
        if match:
            when = datetime.fromisoformat(match[1])
            found.append(Entry(when, match[2], match[3]))
        else:
            found.append(Entry(when, name.rsplit(".", 1)[0], line))
    return found
