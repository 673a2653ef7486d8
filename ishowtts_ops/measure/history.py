"""All runs of a box over time, in one SQLite file that several processes may use at once.

SQLite writes the file itself, past `Host.write`: its locking and its journal are what makes it safe
to use concurrently. A reader opens it read-only, so `bench history` needs no root.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ishowtts_ops.config import STATE_DIR
from ishowtts_ops.errors import NeedsRoot, OpsError, UsageError
from ishowtts_ops.host import Host, ReadOnlyHost
from ishowtts_ops.measure.fingerprint import Digest, content_hash, way_out
from ishowtts_ops.measure.run import Run, dumps, from_json

HISTORY_PATH = f"{STATE_DIR}/history.db"
BUSY_S = 20.0

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        started TEXT NOT NULL,
        workload TEXT NOT NULL,
        workload_key TEXT NOT NULL,
        engine TEXT NOT NULL,
        door TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX runs_by_time ON runs (started);
    CREATE TABLE baselines (
        set_at TEXT NOT NULL,
        workload_key TEXT NOT NULL,
        engine TEXT NOT NULL,
        door TEXT NOT NULL,
        run_id TEXT NOT NULL REFERENCES runs (id),
        reason TEXT NOT NULL,
        UNIQUE (set_at, run_id)
    );
    """,
    """
    CREATE TABLE digests (
        path TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    );
    """,
)
"""One step a version: `PRAGMA user_version` says how many a file has had."""


@dataclass(frozen=True)
class Baseline:
    """A run that others are held to, since when and why."""

    run_id: str
    set_at: str
    reason: str
    place: tuple[str, str, str]


@dataclass(frozen=True)
class Imported:
    """What an import brought in; what was there already is left as it was."""

    runs: int
    baselines: int
    known: int


class History:
    """An open history; use as a context. `notes` are sentences for the user about its opening."""

    def __init__(self, db: sqlite3.Connection, notes: tuple[str, ...] = ()) -> None:
        self._db = db
        self.notes = notes

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # ---- runs --------------------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Keep a run; one with the same id is replaced."""
        with self._change() as db:
            db.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run.id, run.started, run.workload, *run.place, dumps(run)),
            )

    def get(self, name: str) -> Run:
        """A run by its id or an unambiguous beginning of it; `last` is the newest, `last~1` the one
        before, `baseline` the newest baseline.

        Raises:
            UsageError: there is none, or several fit.
        """
        rows: list[Any]
        if name.startswith("last"):
            back = name.removeprefix("last").removeprefix("~") or "0"
            if not back.isdigit():
                raise UsageError(f"{name!r} names no run.", "Say last, last~1, last~2 …")
            rows = self._rows(
                "SELECT body FROM runs ORDER BY started DESC, rowid DESC LIMIT 1 OFFSET ?",
                int(back),
            )
        elif name == "baseline":
            rows = self._rows(
                "SELECT body FROM runs JOIN baselines ON id = run_id"
                " ORDER BY set_at DESC, baselines.rowid DESC LIMIT 1"
            )
        else:
            rows = self._rows("SELECT body FROM runs WHERE id = ?", name) or self._rows(
                "SELECT body FROM runs WHERE substr(id, 1, ?) = ?", len(name), name
            )
        if not rows:
            raise UsageError(
                f"There is no run {name!r} in the history.",
                "`ishowtts-ops bench history` lists them.",
            )
        if len(rows) > 1:
            raise UsageError(f"{name!r} fits {len(rows)} runs.", "Give more of the id.")
        return from_json(json.loads(rows[0][0]))

    def runs(
        self,
        *,
        workload: str | None = None,
        key: str | None = None,
        engine: str | None = None,
        door: str | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Runs, oldest first; the newest `limit` of them."""
        where, values = ["1"], []
        wanted = {"workload": workload, "workload_key": key, "engine": engine, "door": door}
        for column, value in wanted.items():
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows = self._rows(
            f"SELECT body FROM runs WHERE {' AND '.join(where)}"
            " ORDER BY started DESC, rowid DESC LIMIT ?",
            *values,
            -1 if limit is None else limit,
        )
        return [from_json(json.loads(body)) for (body,) in reversed(rows)]

    # ---- baselines ---------------------------------------------------------------------------

    def baseline(self, place: tuple[str, str, str]) -> Run | None:
        """The run that this kind of work is held to."""
        rows = self._rows(
            "SELECT body FROM runs JOIN baselines ON id = run_id WHERE baselines.workload_key = ?"
            " AND baselines.engine = ? AND baselines.door = ?"
            " ORDER BY set_at DESC, baselines.rowid DESC LIMIT 1",
            *place,
        )
        return from_json(json.loads(rows[0][0])) if rows else None

    def baselines(self) -> list[Baseline]:
        """Every baseline there ever was, oldest first."""
        rows = self._rows(
            "SELECT run_id, set_at, reason, workload_key, engine, door FROM baselines"
            " ORDER BY set_at, rowid"
        )
        return [
            Baseline(run, at, why, (key, engine, door)) for run, at, why, key, engine, door in rows
        ]

    def set_baseline(self, run: Run, reason: str, now: str | None = None) -> None:
        """Hold this kind of work to that run from now on; keeps the run too.

        Raises:
            OpsError: the run is marked.
        """
        if not run.fit_for_baseline:
            raise OpsError(
                f"This run cannot be a baseline: {'; '.join(run.marks)}.",
                way_out(run.fingerprint),
            )
        self.add(run)
        with self._change() as db:
            db.execute(
                "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?, ?)",
                (now or utc_now(), *run.place, run.id, reason),
            )

    # ---- digests -----------------------------------------------------------------------------

    def digest(self, path: str, size: int, mtime_ns: int) -> str | None:
        """A file's remembered SHA-256, as long as its size and time are the same."""
        rows = self._rows(
            "SELECT sha256 FROM digests WHERE path = ? AND size = ? AND mtime_ns = ?",
            path,
            size,
            mtime_ns,
        )
        return str(rows[0][0]) if rows else None

    def remember_digest(self, path: str, size: int, mtime_ns: int, sha256: str) -> None:
        with self._change() as db:
            db.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", (path, size, mtime_ns, sha256)
            )

    # ---- exchange ----------------------------------------------------------------------------

    def export(self) -> Iterator[str]:
        """Everything as JSON lines, runs first."""
        for (body,) in self._rows("SELECT body FROM runs ORDER BY started, rowid"):
            yield json.dumps({"kind": "run", "run": json.loads(body)}, ensure_ascii=False)
        for item in self.baselines():
            row = {"run_id": item.run_id, "set_at": item.set_at, "reason": item.reason}
            yield json.dumps({"kind": "baseline", **row}, ensure_ascii=False)

    def bring_in(self, lines: Iterable[str]) -> Imported:
        """Merge exported lines; all of them or none.

        Raises:
            OpsError: a line is not of an export, with its number.
        """
        runs: list[Run] = []
        marks: list[tuple[str, str, str]] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if row["kind"] == "run":
                    runs.append(from_json(row["run"]))
                elif row["kind"] == "baseline":
                    marks.append((row["run_id"], row["set_at"], row["reason"]))
                else:
                    raise ValueError(row["kind"])
            except (ValueError, KeyError, TypeError, OpsError) as error:
                raise OpsError(
                    f"Line {number} is not of an exported history ({error}); nothing was imported.",
                    "`ishowtts-ops bench history --export FILE` writes one.",
                ) from None
        return self._merge(runs, marks)

    def _merge(self, runs: list[Run], marks: list[tuple[str, str, str]]) -> Imported:
        new_runs = new_marks = 0
        with self._change() as db:
            for run in runs:
                new_runs += db.execute(
                    "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (run.id, run.started, run.workload, *run.place, dumps(run)),
                ).rowcount
            for run_id, set_at, reason in marks:
                new_marks += db.execute(
                    "INSERT OR IGNORE INTO baselines SELECT ?, workload_key, engine, door, id, ?"
                    " FROM runs WHERE id = ?",
                    (set_at, reason, run_id),
                ).rowcount
        known = len(runs) + len(marks) - new_runs - new_marks
        return Imported(new_runs, new_marks, known)

    # ---- the file ----------------------------------------------------------------------------

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with _speaking():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with _speaking():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def open_history(host: Host) -> History:
    """Open the box's history; made when it is not there, migrated when it is old. A read-only host
    gets a history that refuses changes; where there is no file, an empty one.

    A file that is not a database, or is a damaged one, is kept under another name and a new one is
    begun; `History.notes` says so.

    Raises:
        OpsError: a newer release wrote it, another process holds it for too long, or there is no
            room.
        NeedsRoot: it may not be written; said now and not after a long run.
    """
    real = host.path(HISTORY_PATH)
    if isinstance(host, ReadOnlyHost):
        return _open_to_read(real)
    if not real.parent.is_dir():
        try:
            host.mkdir(STATE_DIR)
        except PermissionError:
            raise NeedsRoot("Keeping the history of runs") from None
    notes: tuple[str, ...] = ()
    try:
        return History(_open(real))
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise _trouble(error) from None
        kept = f"{HISTORY_PATH}.damaged-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
        host.rename(HISTORY_PATH, kept)
        host.remove(f"{HISTORY_PATH}-journal")
        notes = (f"The history {HISTORY_PATH} was damaged ({error}).",)
        notes += (
            f"It is kept as {kept}, and a new one was begun: without baselines, until"
            " `bench history --import` brings an export in or `regress --update-baseline` takes"
            " one.",
        )
    try:
        return History(_open(real), notes)
    except sqlite3.DatabaseError as error:
        raise _trouble(error) from None


def _open(real: Path) -> sqlite3.Connection:
    db = sqlite3.connect(real, timeout=BUSY_S, isolation_level=None)
    try:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
        _migrate(db)
        # SQLite opens what may not be written for reading, without a word, until it is to write.
        db.execute("DELETE FROM runs WHERE 0")
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    if _version(db) < len(MIGRATIONS):
        db.execute("BEGIN IMMEDIATE")
        try:
            # Asked again: somebody else may have migrated while we waited for the lock.
            for number in range(_version(db), len(MIGRATIONS)):
                for statement in filter(str.strip, MIGRATIONS[number].split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    _refuse_newer(db)


def _version(db: sqlite3.Connection) -> int:
    (found,) = db.execute("PRAGMA user_version").fetchone()
    return int(found)


def _refuse_newer(db: sqlite3.Connection) -> None:
    if _version(db) > len(MIGRATIONS):
        raise OpsError(
            f"{HISTORY_PATH} is of version {_version(db)}; this program knows {len(MIGRATIONS)}.",
            "Use the release of ishowtts-ops that wrote it.",
        )


def _open_to_read(real: Path) -> History:
    if not real.is_file():
        return _empty()
    try:
        db = sqlite3.connect(
            f"{real.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
        _refuse_newer(db)
        if _version(db) == 0:
            # Somebody has only just made it, or was ended while doing so.
            db.close()
            return _empty()
        return History(db)
    except sqlite3.DatabaseError as error:
        raise _trouble(error) from None


def _empty() -> History:
    db = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(db)
    return History(db)


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _trouble(error) from None


def _is_damage(error: sqlite3.Error) -> bool:
    """Is the file itself broken? SQLite says so in these words alone, whichever class it raises;
    what else it says is of locks, rights and disks."""
    words = ("file is not a database", "malformed")
    plain = type(error) is sqlite3.DatabaseError
    return plain or any(word in str(error) for word in words)


def _trouble(error: sqlite3.Error) -> OpsError:
    text = str(error)
    if _is_damage(error):
        return OpsError(
            f"The history {HISTORY_PATH} is damaged: {text}.",
            "The next `sudo ishowtts-ops bench run` keeps the damaged file aside and begins anew.",
        )
    if "readonly" in text or "unable to open" in text:
        return NeedsRoot("Keeping the history of runs")
    if "locked" in text or "busy" in text:
        return OpsError(
            f"Another process has held the history for {BUSY_S:.0f} s.",
            f"`sudo fuser {HISTORY_PATH}` shows which.",
        )
    if "full" in text or "disk I/O" in text:
        return OpsError(
            f"The history {HISTORY_PATH} cannot be written: {text}.",
            f"`df -h {STATE_DIR}` shows how much room there is; what is kept so far is whole.",
        )
    return OpsError(
        f"The history {HISTORY_PATH} fails: {text}.", "`ishowtts-ops doctor` may know why."
    )


def cached_digest(host: Host, history: History) -> Digest:
    """A digest of files that remembers: weights of a gigabyte are read once, not at every run."""
    plain = content_hash(host)

    def digest(box_path: str) -> str | None:
        try:
            info = host.path(box_path).stat()
        except OSError:
            return None
        known = history.digest(box_path, info.st_size, info.st_mtime_ns)
        if known is not None:
            return known
        found = plain(box_path)
        if found is not None:
            history.remember_digest(box_path, info.st_size, info.st_mtime_ns, found)
        return found

    return digest


def utc_now() -> str:
    """Now, UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
