"""The history under several processes, old and broken files, and its exchange."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ishowtts_ops.errors import NeedsRoot, OpsError, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.measure import history as module
from ishowtts_ops.measure.history import HISTORY_PATH, open_history
from ishowtts_ops.measure.run import from_json
from tests.unit.measure.made import make_run, moment, noisy, print_of


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "box").mkdir()
    return Host.at(tmp_path / "box")


def test_a_run_comes_back_as_it_was(host: Host) -> None:
    run = make_run(noisy(0.17), marks=("a mark",), found=print_of(torch="2.9"))
    with open_history(host) as history:
        history.add(run)
        assert history.get("last") == run
    assert from_json(json.loads(json.dumps(run.to_json()))) == run


def test_names_of_runs(host: Host) -> None:
    with open_history(host) as history:
        for day in (1, 2, 3):
            stamp = f"2026-01-0{day}T00:00:00Z"
            history.add(make_run(noisy(0.1), started=stamp, id=f"2026010{day}-aa"))
        assert history.get("last").id == "20260103-aa"
        assert history.get("last~2").id == "20260101-aa"
        assert history.get("20260102").id == "20260102-aa"
        with pytest.raises(UsageError, match="fits 3 runs"):
            history.get("2026010")
        for missing in ("last~9", "nonsense", "baseline", "last~x"):
            with pytest.raises(UsageError):
                history.get(missing)


def test_the_newest_baseline_counts_and_marked_runs_are_refused(host: Host) -> None:
    first, second = make_run(noisy(0.1), id="a"), make_run(noisy(0.2), id="b")
    other = make_run(noisy(0.3), id="c", key="another")
    with open_history(host) as history:
        assert history.baseline(first.place) is None
        history.set_baseline(first, "first", "2026-01-01T00:00:00Z")
        history.set_baseline(second, "second", "2026-01-02T00:00:00Z")
        history.set_baseline(other, "other", "2026-01-03T00:00:00Z")
        found = history.baseline(first.place)
        assert found is not None and found.id == "b"
        unlocked = make_run(noisy(0.1), id="d", marks=("clocks were not locked: GPU",))
        with pytest.raises(OpsError, match="clocks were not locked"):
            history.set_baseline(unlocked, "no")
        found = history.baseline(first.place)
        assert found is not None and found.id == "b"
        assert [item.reason for item in history.baselines()] == ["first", "second", "other"]


_WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import open_history
from tests.unit.measure.made import make_run, noisy
for number in range(25):
    with open_history(Host.at(sys.argv[1])) as history:
        history.add(make_run(noisy(0.1), id=f"{sys.argv[2]}-{number}"))
"""


def test_four_processes_write_at_once(host: Host) -> None:
    repository = str(Path(__file__).parents[3])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(host.root), name, repository],
            stderr=subprocess.PIPE,
        )
        for name in "abcd"
    ]
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err.decode()
    with open_history(host.read_only()) as history:
        assert len(history.runs()) == 100


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_file_is_kept_aside(host: Host, damage: str) -> None:
    with open_history(host) as history:
        for number in range(40):
            history.add(make_run(noisy(0.1), id=str(number)))
    real = host.path(HISTORY_PATH)
    data = real.read_bytes()
    broken = {
        "text": b"this is no database\n" * 100,
        "cut": data[: len(data) // 2],
        "flipped": data[:4096] + os.urandom(len(data) - 4096),
    }[damage]
    real.write_bytes(broken)

    with open_history(host) as history:
        assert "damaged" in history.notes[0]
        assert history.runs() == []
        history.add(make_run(noisy(0.1)))
    kept = host.glob(f"{HISTORY_PATH}.damaged-*")
    assert [host.read_bytes(path) for path in kept] == [broken]
    assert kept[0] in history.notes[1]
    with open_history(host) as history:
        assert history.notes == ()
        assert len(history.runs()) == 1


def test_every_older_version_is_migrated(host: Host) -> None:
    for version in range(len(module.MIGRATIONS)):
        host.remove(HISTORY_PATH)
        host.mkdir(str(Path(HISTORY_PATH).parent))
        db = sqlite3.connect(host.path(HISTORY_PATH))
        for step in module.MIGRATIONS[:version]:
            db.executescript(step)
        run = make_run(noisy(0.1))
        if version:
            body = json.dumps(run.to_json())
            row = (run.id, run.started, run.workload, *run.place, body)
            db.execute("INSERT INTO runs VALUES (?,?,?,?,?,?,?)", row)
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
        db.close()
        with open_history(host) as history:
            assert len(history.runs()) == (1 if version else 0)
            history.remember_digest("/a", 1, 2, "abc")
            assert history.digest("/a", 1, 2) == "abc"
            assert history.digest("/a", 1, 3) is None


def test_a_newer_version_is_refused_and_left_alone(host: Host) -> None:
    with open_history(host) as history:
        history.add(make_run(noisy(0.1)))
    db = sqlite3.connect(host.path(HISTORY_PATH))
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = host.read_bytes(HISTORY_PATH)
    for box in (host, host.read_only()):
        with pytest.raises(OpsError, match="version 99"):
            open_history(box)
    assert host.read_bytes(HISTORY_PATH) == before


def test_looking_changes_nothing(host: Host) -> None:
    with open_history(host.read_only()) as history:
        assert history.runs() == []
    assert os.listdir(host.root) == []
    with open_history(host) as history:
        history.add(make_run(noisy(0.1)))
    with open_history(host.read_only()) as history:
        assert len(history.runs()) == 1
        with pytest.raises(NeedsRoot):
            history.add(make_run(noisy(0.1), id="more"))


def test_export_and_import_are_inverse_and_idempotent(host: Host, tmp_path: Path) -> None:
    with open_history(host) as history:
        history.add(make_run(noisy(0.1), id="a", found=print_of(moment(mode="MODE_30W"))))
        history.set_baseline(make_run(noisy(0.2), id="b"), "good", "2026-02-02T00:00:00Z")
        lines = list(history.export())
    assert [json.loads(line)["kind"] for line in lines] == ["run", "run", "baseline"]
    (tmp_path / "other").mkdir()
    other = Host.at(tmp_path / "other")
    with open_history(other) as history:
        merged = history.bring_in([*lines, ""])
        assert (merged.runs, merged.baselines, merged.known) == (2, 1, 0)
        assert list(history.export()) == lines
        merged = history.bring_in(lines)
        assert (merged.runs, merged.baselines, merged.known) == (0, 0, 3)
        with pytest.raises(OpsError, match=r"Line 2 .*nothing was imported"):
            history.bring_in([lines[0].replace('"a"', '"new"'), "{}"])
        assert len(history.runs()) == 2
