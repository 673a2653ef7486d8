from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts.memory import (
    Memory,
    cuda_allocation_limit,
    parse_meminfo,
    parse_oom_kills,
    parse_swaps,
    read_memory,
)
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

MEMINFO = """\
MemTotal:       64350336 kB
MemFree:        41287012 kB
MemAvailable:   52618396 kB
Active(anon):    1029384 kB
SwapTotal:      32175120 kB
SwapFree:       31126544 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
"""
SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram0                              partition\t2681260\t\t262144\t\t5
/dev/zram1                              partition\t2681260\t\t0\t\t5
/var/swapfile                           file\t\t16777212\t786432\t\t-2
"""
VMSTAT = "nr_free_pages 10321753\npswpin 17\noom_kill 3\nkswapd_inodesteal 0\n"


def box(root: Path, **files: str) -> Host:
    (root / "proc").mkdir()
    for name, text in files.items():
        (root / "proc" / name).write_text(text)
    return Host.at(root)


def test_sizes_come_in_bytes() -> None:
    info = parse_meminfo(MEMINFO)
    assert info["MemTotal"] == 64350336 * 1024
    assert info["Active(anon)"] == 1029384 * 1024
    assert "HugePages_Total" not in info  # a number of pages, not a size


def test_zram_is_told_from_disk(tmp_path: Path) -> None:
    memory = read_memory(box(tmp_path, meminfo=MEMINFO, swaps=SWAPS, vmstat=VMSTAT))
    assert isinstance(memory, Memory)
    assert memory.zram_used == 262144 * 1024
    assert memory.swap_used == (32175120 - 31126544) * 1024
    assert memory.disk_swap_used == memory.swap_used - memory.zram_used
    assert memory.oom_kills == 3


def test_only_meminfo_is_needed(tmp_path: Path) -> None:
    memory = read_memory(box(tmp_path, meminfo="MemTotal: 100 kB\nMemAvailable: 50 kB\n"))
    assert isinstance(memory, Memory)
    assert (memory.total, memory.available, memory.swap_used) == (102400, 51200, 0)
    assert isinstance(memory.oom_kills, Unknown)


def test_a_cut_off_meminfo_is_unknown_and_says_what_lacks(tmp_path: Path) -> None:
    memory = read_memory(box(tmp_path, meminfo=MEMINFO[:40]))
    assert isinstance(memory, Unknown)
    assert "MemAvailable" in memory.reason


def test_no_meminfo_is_unknown(tmp_path: Path) -> None:
    assert isinstance(read_memory(Host.at(tmp_path)), Unknown)


def test_swaps_keep_odd_names_apart() -> None:
    assert [area.zram for area in parse_swaps(SWAPS)] == [True, True, False]


def test_the_counter_of_kills_may_be_missing() -> None:
    assert isinstance(parse_oom_kills("pswpin 17\nxoom_kill 4\n"), Unknown)


def test_only_one_release_limits_cuda() -> None:
    assert cuda_allocation_limit(36, "4.7") == 3 << 30
    assert cuda_allocation_limit(36, "4.4") is None
    assert cuda_allocation_limit(36, "5.0") is None


@given(st.text())
def test_garbage_never_raises(text: str) -> None:
    assert all(value >= 0 for value in parse_meminfo(text).values())
    assert all(area.size >= 0 for area in parse_swaps(text))
    assert isinstance(parse_oom_kills(text), (int, Unknown))


@given(st.integers(0, len(MEMINFO)))
def test_a_truncated_answer_never_turns_into_other_numbers(end: int) -> None:
    assert parse_meminfo(MEMINFO[:end]).items() <= parse_meminfo(MEMINFO).items()
