"""The benchmarks' history as doctor reads it, written by the benchmarks themselves."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ishowtts_ops.facts.history import HISTORY, NEVER, Damaged, HistoryFacts, read_history
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import HISTORY_PATH, open_history
from tests.unit.measure.made import make_run


def read(host: Host) -> HistoryFacts:
    found = read_history(host.read_only())
    assert isinstance(found, HistoryFacts), found
    return found


def test_both_sides_mean_one_file() -> None:
    assert HISTORY == HISTORY_PATH


def test_a_box_that_was_never_measured(tmp_path: Path) -> None:
    assert read(Host.at(tmp_path)) == NEVER
    open_history(Host.at(tmp_path)).__exit__()
    assert read(Host.at(tmp_path)) == NEVER


def test_the_newest_run_and_what_it_is_held_to(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    with open_history(host) as history:
        for day, rtf in ((1, 0.2), (2, 0.17)):
            run = make_run([rtf], started=f"2026-03-0{day}T10:00:00Z")
            history.set_baseline(run, "made", run.started)
        other = make_run([0.05], started="2026-03-03T10:00:00Z", key="other", engine="tone")
        history.set_baseline(other, "made", other.started)
        history.add(make_run([0.35, 0.36, 0.34], started="2026-03-04T10:00:00Z"))
    facts = read(host)
    assert facts.runs == 4
    assert facts.last is not None and facts.baseline is not None
    assert (facts.last.rtf, facts.baseline.rtf) == (0.35, 0.17)
    assert {engine: run.rtf for engine, run in facts.baselines.items()} == {
        "f5": 0.17,
        "tone": 0.05,
    }
    later = datetime(2026, 3, 5, 10, tzinfo=timezone.utc)
    assert facts.last.age_s(later) == timedelta(days=1).total_seconds()


def test_runs_of_another_door_are_no_measure_for_the_daemon(tmp_path: Path) -> None:
    with open_history(Host.at(tmp_path)) as history:
        history.set_baseline(make_run([0.1], door="in-process"), "made")
    assert read(Host.at(tmp_path)).baselines == {}


@pytest.mark.parametrize("body", [b"no database at all" * 90, b"SQLite format 3\0" + b"x" * 99])
def test_what_is_no_history_is_damage(tmp_path: Path, body: bytes) -> None:
    host = Host.at(tmp_path)
    host.write(HISTORY, body)
    assert isinstance(read_history(host.read_only()), Damaged)


def test_one_that_was_only_just_made_is_empty(tmp_path: Path) -> None:
    """As the benchmarks take it: SQLite's file has no content before its first change."""
    host = Host.at(tmp_path)
    host.write(HISTORY, b"")
    assert read_history(host.read_only()) == NEVER


def test_one_that_somebody_holds_is_no_damage(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    with open_history(host):
        pass
    holder = sqlite3.connect(host.path(HISTORY), isolation_level=None)
    with contextlib.closing(holder):
        holder.execute("BEGIN EXCLUSIVE")
        found = read_history(host.read_only())
    assert isinstance(found, Unknown) and not isinstance(found, Damaged)
    assert "locked" in found.reason


def test_a_run_of_another_release_is_left_out(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    with open_history(host) as history:
        history.add(make_run([0.2], started="2026-03-01T10:00:00Z"))
        history._db.execute("UPDATE runs SET body = '{\"summary\": 3}'")
    assert read(host).last is None


def test_looking_leaves_no_file_behind(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    with open_history(host) as history:
        history.add(make_run([0.2]))
    before = host.listdir("/var/lib/ishowtts-ops")
    read(host)
    assert host.listdir("/var/lib/ishowtts-ops") == before
