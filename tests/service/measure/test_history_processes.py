"""Several processes at one history: none loses what another wrote, whoever comes first."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import HISTORY_PATH, MIGRATIONS, open_history

REPOSITORY = Path(__file__).parents[3]
WRITERS, RUNS = "abcd", 25

_WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import open_history
from tests.unit.measure.made import make_run, noisy
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    with open_history(Host.at(sys.argv[1])) as history:
        run = make_run(noisy(0.1), id=f"{sys.argv[2]}-{number}")
        history.add(run)
        if number == 0:
            history.set_baseline(run, sys.argv[2])
"""


@pytest.mark.parametrize("begin", ["no file", "v1.sql"])
def test_four_processes_write_at_once(tmp_path: Path, begin: str) -> None:
    """Each opens it anew for every run; at first all find no file, or one to migrate."""
    host = Host.at(tmp_path)
    known = 0
    if begin != "no file":
        host.mkdir(str(Path(HISTORY_PATH).parent))
        db = sqlite3.connect(host.path(HISTORY_PATH))
        db.executescript((REPOSITORY / "tests/data/history" / begin).read_text(encoding="utf-8"))
        known = 2
        db.close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), name, str(REPOSITORY), str(RUNS)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in WRITERS
    ]
    for writer in writers:  # all are started before one may begin
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
    with open_history(host.read_only()) as history:
        runs = history.runs()
        reasons = {item.reason for item in history.baselines()}
    assert len(runs) == known + len(WRITERS) * RUNS
    assert reasons >= set(WRITERS)
    db = sqlite3.connect(host.path(HISTORY_PATH))
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert not list(host.path(HISTORY_PATH).parent.glob("*.damaged*"))


def test_a_writer_that_is_killed_leaves_a_whole_history(tmp_path: Path) -> None:
    """In the middle of a change, with the lock held: the next one goes on."""
    host = Host.at(tmp_path)
    with open_history(host):
        pass
    code = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO runs VALUES ('x', 't', 'w', 'k', 'e', 'd', '{}')")
print("in it", flush=True)
time.sleep(60)
"""
    path = str(host.path(HISTORY_PATH))
    writer = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"in it\n"
    writer.kill()
    writer.wait()
    with open_history(host) as history:
        assert history.notes == ()
        assert history.runs() == []
