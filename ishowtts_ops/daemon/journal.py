"""The log on stderr, which is the journal under systemd: one line per event, `key=value` behind the
words, and never a text that somebody wanted spoken."""

from __future__ import annotations

import json
import logging
import os
import sys

_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _Formatter(logging.Formatter):
    """systemd reads `<3>` at the start of a line as its priority (sd-daemon(3)); a terminal gets
    time and level instead, which the journal has by itself."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        prefix = f"<{_SYSLOG.get(record.levelno, 3)}>"
        return "\n".join(prefix + line for line in text.splitlines())


def setup(level: int = logging.INFO) -> None:
    """Send all logging to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its start and stop lines say nothing that ours do not.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def line(words: str, **facts: str | float | bool | None) -> str:
    """One event as text: `spoken id=… voice=… rtf=0.12`; absent facts are left out."""
    pairs = (f"{key}={_value(value)}" for key, value in facts.items() if value is not None)
    return " ".join((words, *pairs))


def _value(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    plain = text.isprintable() and not any(char in text for char in ' "=')
    return text if plain and text else json.dumps(text, ensure_ascii=False)
