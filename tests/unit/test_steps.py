from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.steps import LEDGER_PATH, Ledger, Recorder, file_diff


def tree(root: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below a folder: kind, permission bits, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            content, kind = os.readlink(path).encode(), "link"
        elif path.is_dir():
            content, kind = b"", "dir"
        else:
            content, kind = path.read_bytes(), "file"
        found[str(path.relative_to(root))] = (kind, mode, content)
    return found


def test_everything_recorded_is_put_back(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write("/etc/kept", b"\x00binary", mode=0o640)
    host.symlink("kept", "/etc/link")
    before = tree(tmp_path)
    ledger = Ledger.open(host)
    record = Recorder(host, ledger)
    record.write("/etc/kept", "changed")
    record.write("/etc/link", "now a file")
    record.write("/opt/deep/new/file", "new")
    record.symlink("/etc/kept", "/opt/deep/link")
    record.write("/etc/kept", "changed again")
    assert tree(tmp_path) != before
    reopened = Ledger.open(host)
    reopened.restore_files()
    host.remove(LEDGER_PATH)
    for folder in sorted(reopened.folders, key=len, reverse=True):
        host.rmdir(folder)
    assert tree(tmp_path) == before


def test_the_first_state_wins(tmp_path: Path) -> None:
    ledger = Ledger.open(Host.at(tmp_path))
    ledger.note("power", {"mode": 2})
    ledger.note("power", {"mode": 0})
    assert Ledger.open(ledger.host).notes["power"] == {"mode": 2}


def test_a_folder_that_filled_up_stays(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    ledger = Ledger.open(host)
    Recorder(host, ledger).write("/opt/x/ours", "1")
    host.write("/opt/x/theirs", "2")
    ledger.restore_files()
    assert host.listdir("/opt/x") == ["theirs"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
def test_a_damaged_ledger_is_never_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    host = Host.at(tmp_path)
    host.write(LEDGER_PATH, text)
    with pytest.raises(OpsError, match="damaged"):
        Ledger.open(host)


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write(LEDGER_PATH, '{"version": 99, "files": {}, "folders": [], "notes": {}}')
    with pytest.raises(OpsError, match="version 99"):
        Ledger.open(host)


def test_file_diff_shows_lines_and_modes(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    assert file_diff(host, "/etc/a", "x\n")[:2] == ["--- /dev/null", "+++ b/etc/a"]
    host.write("/etc/a", "x\n", mode=0o600)
    assert file_diff(host, "/etc/a", "x\n", 0o600) == []
    assert "chmod 644" in file_diff(host, "/etc/a", "x\n")[0]
