"""The history under several processes, old and broken files, and its exchange."""

from __future__ import annotations

import json
import os
import shutil
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
from tests.support.terminal import REPOSITORY
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


def test_a_damaged_file_is_named_so_by_who_may_not_write(host: Host) -> None:
    with open_history(host) as history:
        for number in range(40):
            history.add(make_run(noisy(0.1), id=str(number)))
    real = host.path(HISTORY_PATH)
    data = real.read_bytes()
    for broken in (b"words " * 1000, data[:4096] + os.urandom(len(data) - 4096)):
        real.write_bytes(broken)
        with (
            pytest.raises(OpsError, match="is damaged") as caught,
            open_history(host.read_only()) as history,
        ):
            history.runs()
        assert "keeps the damaged file aside" in caught.value.hint
        assert real.read_bytes() == broken


def test_a_file_that_is_only_just_begun_is_an_empty_history(host: Host) -> None:
    """SQLite makes the file first and the tables later."""
    host.mkdir(str(Path(HISTORY_PATH).parent))
    host.path(HISTORY_PATH).touch()
    with open_history(host.read_only()) as history:
        assert history.runs() == [] and history.baselines() == []
    with open_history(host) as history:
        assert history.notes == ()
        history.add(make_run(noisy(0.1)))
        assert len(history.runs()) == 1


def test_a_full_disk_is_a_sentence_and_loses_nothing(host: Host) -> None:
    """SQLite's own limit on the size of a file gives the error that a full disk gives."""
    with open_history(host) as history:
        history.add(make_run(noisy(0.1), id="kept"))
        history._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(OpsError, match="cannot be written: database or disk is full") as caught:
            for number in range(100):
                history.add(make_run(noisy(0.1), id=str(number)))
        assert "df -h" in caught.value.hint
        history._db.execute("PRAGMA max_page_count = 1000000")
        history.add(make_run(noisy(0.1), id="after"))
    with open_history(host) as history:
        assert history.notes == ()
        assert (history.get("kept").id, history.get("after").id) == ("kept", "after")


def test_who_may_not_write_hears_it_before_and_not_after_a_long_run(host: Host) -> None:
    """SQLite opens what may only be read without a word."""
    with open_history(host) as history:
        history.add(make_run(noisy(0.1)))
    real = host.path(HISTORY_PATH)
    real.chmod(0o444)
    real.parent.chmod(0o555)
    code = (
        "import sys; from pathlib import Path; from ishowtts_ops.host import Host;"
        "from ishowtts_ops.measure.history import open_history;"
        "open_history(Host.at(Path(sys.argv[1])))"
    )
    argv = [sys.executable, "-c", code, str(host.root)]
    if os.geteuid() == 0:
        # Somebody who may read everything, since this folder is root's, and writes what is his.
        caps = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv (util-linux)")
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *caps, *argv]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        argv, capture_output=True, text=True, env=env, cwd=REPOSITORY, check=False
    )
    real.parent.chmod(0o755)
    assert done.returncode == 1
    assert "NeedsRoot: Keeping the history of runs needs root." in done.stderr


OLD = sorted((Path(__file__).parents[2] / "data/history").glob("v*.sql"))
"""A file of each version there ever was, as its release wrote it."""


def old_file(host: Host, dump: Path) -> None:
    host.mkdir(str(Path(HISTORY_PATH).parent))
    db = sqlite3.connect(host.path(HISTORY_PATH))
    db.executescript(dump.read_text(encoding="utf-8"))
    db.close()


def test_there_is_a_file_of_every_version() -> None:
    """Whoever adds a migration adds what the former release wrote."""
    versions = [int(path.stem.removeprefix("v")) for path in OLD]
    assert versions == list(range(1, len(module.MIGRATIONS) + 1))


@pytest.mark.parametrize("dump", OLD, ids=lambda path: path.stem)
def test_every_older_version_is_migrated(host: Host, dump: Path) -> None:
    old_file(host, dump)
    with open_history(host) as history:
        assert history.notes == ()
        good, slow = history.runs()
        assert (good.id, good.values("rtf")[0]) == ("20260101T000000-aa", pytest.approx(0.17))
        assert slow.marks == ("clocks were not locked: GPU",)
        baseline = history.baseline(good.place)
        assert baseline is not None and baseline.id == good.id
        assert [item.reason for item in history.baselines()] == ["set by hand"]
        history.remember_digest("/a", 1, 2, "abc")
        assert history.digest("/a", 1, 2) == "abc"
        assert history.digest("/a", 1, 3) is None
    with open_history(host) as history:
        assert len(history.runs()) == 2
    db = sqlite3.connect(host.path(HISTORY_PATH))
    assert db.execute("PRAGMA user_version").fetchone() == (len(module.MIGRATIONS),)
    old_tables = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    (host.root / "new").mkdir()
    fresh = Host.at(host.root / "new")
    with open_history(fresh):
        pass
    db = sqlite3.connect(fresh.path(HISTORY_PATH))
    tables = db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    assert old_tables == tables, "a migrated file is as a new one"


def test_an_old_file_is_read_as_it_is_by_who_may_not_write(host: Host) -> None:
    old_file(host, OLD[0])
    before = host.read_bytes(HISTORY_PATH)
    with open_history(host.read_only()) as history:
        assert len(history.runs()) == 2
        assert len(list(history.export())) == 3
    assert host.read_bytes(HISTORY_PATH) == before


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
