from __future__ import annotations

import os
from pathlib import Path

from ishowtts_ops.facts.disk import WATCHED, Disk, read_disk
from ishowtts_ops.host import Host


def test_one_file_system_is_told_once_with_all_its_paths(tmp_path: Path) -> None:
    disk = read_disk(Host.at(tmp_path))
    assert isinstance(disk, Disk)
    assert [space.paths for space in disk.spaces] == [WATCHED]
    info = os.statvfs(tmp_path)
    assert disk.spaces[0].total == info.f_blocks * info.f_frsize
    assert 0.0 <= disk.spaces[0].free_share <= 1.0


def test_other_file_systems_are_told_apart(tmp_path: Path) -> None:
    if os.stat("/proc").st_dev == os.stat("/").st_dev:
        raise AssertionError("/proc is a file system of its own on every Linux")
    disk = read_disk(Host.at("/"), ("/", "/proc", "/no-such-folder/below"))
    assert isinstance(disk, Disk)
    assert disk.of("/no-such-folder/below") is disk.of("/")
    assert disk.of("/proc") is not disk.of("/")
    assert disk.of("/elsewhere") is None


def test_an_empty_file_system_has_no_free_share() -> None:
    disk = read_disk(Host.at("/"), ("/proc",))
    assert isinstance(disk, Disk)
    assert disk.spaces[0].free_share == 0.0
