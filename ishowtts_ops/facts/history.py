"""What the benchmarks' history says: the newest run and the baselines, read-only.

The history is the benchmarks' own (an SQLite file, `runs` and `baselines`, each run's body as JSON
with its summary). Only what doctor asks for is read here, with plain SQL, so that looking needs
neither the benchmarks' code nor the right to write.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ishowtts_ops.config import STATE_DIR
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

HISTORY = f"{STATE_DIR}/history.db"
_BUSY_S = 1.0
_RUN = "id, started, workload, runs.engine, runs.door, body"


@dataclass(frozen=True)
class Measured:
    """One benchmark run.

    Attributes:
        started: UTC.
        rtf: the median over its passes: engine seconds per second of speech.
    """

    id: str
    started: datetime
    workload: str
    engine: str
    door: str
    rtf: float

    def age_s(self, now: datetime) -> float:
        return (now - self.started).total_seconds()


@dataclass(frozen=True)
class HistoryFacts:
    """Attributes:
    runs: how many there are.
    last: the newest; None when the box was never measured.
    baseline: what the newest run is held to.
    baselines: the newest baseline of each engine as asked over HTTP, by engine.
    """

    runs: int
    last: Measured | None
    baseline: Measured | None
    baselines: dict[str, Measured]


@dataclass(frozen=True)
class Damaged(Unknown):
    """The file is there and is no whole database."""


NEVER = HistoryFacts(0, None, None, {})


def read_history(host: Host) -> Maybe[HistoryFacts]:
    """Read the history; `NEVER` where there is none, or one that was only just made."""
    real = host.path(HISTORY)
    if not real.is_file():
        return NEVER
    try:
        with contextlib.closing(
            sqlite3.connect(f"{real.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        ) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return _facts(db) if version else NEVER
    except sqlite3.Error as error:
        # SQLite tells damage from locks and rights by these words alone.
        broken = type(error) is sqlite3.DatabaseError or "malformed" in str(error)
        return (Damaged if broken else Unknown)(f"{HISTORY} cannot be read: {error}")


def _facts(db: sqlite3.Connection) -> HistoryFacts:
    (count,) = db.execute("SELECT count(*) FROM runs").fetchone()
    row = db.execute(
        f"SELECT {_RUN}, workload_key FROM runs ORDER BY started DESC, rowid DESC LIMIT 1"
    ).fetchone()
    held = None
    if row is not None:
        *_, engine, door, _, key = row
        held = db.execute(
            f"SELECT {_RUN} FROM runs JOIN baselines ON id = run_id"
            " WHERE baselines.workload_key = ? AND baselines.engine = ? AND baselines.door = ?"
            " ORDER BY set_at DESC, baselines.rowid DESC LIMIT 1",
            (key, engine, door),
        ).fetchone()
    return HistoryFacts(
        int(count),
        _measured(row[:-1]) if row is not None else None,
        _measured(held) if held is not None else None,
        {run.engine: run for run in _baselines(db)},
    )


def _baselines(db: sqlite3.Connection) -> Iterator[Measured]:
    """Those asked over HTTP, the newest of an engine last."""
    for row in db.execute(
        f"SELECT {_RUN} FROM runs JOIN baselines ON id = run_id WHERE baselines.door = 'http'"
        " ORDER BY set_at, baselines.rowid"
    ):
        run = _measured(row)
        if run is not None:
            yield run


def _measured(row: Any) -> Measured | None:
    """A row as a value; None for one that another release wrote otherwise."""
    name, started, workload, engine, door, body = row
    try:
        when = datetime.strptime(str(started), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        rtf = float(json.loads(body)["summary"]["rtf"]["median"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not math.isfinite(rtf) or rtf <= 0:
        return None
    return Measured(str(name), when, str(workload), str(engine), str(door), rtf)
