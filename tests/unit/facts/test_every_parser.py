"""Every parser of tools' output against what tools really print when things go wrong: cut off,
nothing, another language, garbage. None may raise, and none may say "fine" by mistake."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ishowtts_ops import facts
from ishowtts_ops.facts import (
    burn,
    clocks_show,
    daemon_health,
    fan,
    gpu,
    identity,
    memory,
    nvpmodel,
    python_env,
    rivals,
    stacks,
    sysfs,
    systemd,
)
from ishowtts_ops.facts.value import Unknown


@dataclass(frozen=True)
class Row:
    """A parser, a whole answer, and what about it would be a wrong "fine" for a damaged one.

    Attributes:
        parse: takes text.
        whole: as the tool prints it.
        fine: is this result the good news of the whole answer?
        localised: the same in a German environment, which must not be good news either unless the
            format has no words; None where it has none.
        until: what decides ends here; behind it nothing counts. The end, when it is empty.
    """

    name: str
    parse: Callable[[str], Any]
    whole: str
    fine: Callable[[Any], bool]
    localised: str | None = None
    until: str = ""


READY = '{"status": "ready", "ready": true, "engine": "f5", "device": "cuda:0"}'
ROWS = [
    Row(
        "clocks_show.parse_show",
        clocks_show.parse_show,
        "SOC family:tegra234  Machine:Jetson\nOnline CPUs: 0\n"
        "cpu0:  Online=1 Governor=schedutil MinFreq=1510400 MaxFreq=1510400 CurrentFreq=1510400"
        " IdleStates: WFI=0 c7=0\n"
        "GPU MinFreq=624750000 MaxFreq=624750000 CurrentFreq=624750000\n"
        "EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=1\n"
        "NV Power Mode: 15W\n",
        lambda r: not isinstance(r, Unknown) and r.cpu_locked is True and r.emc_locked is True,
        "SOC-Familie: tegra234\nCPU0: An=1 Regler=schedutil Min=1510400 Max=1510400\n",
        until="FreqOverride=1",
    ),
    Row(
        "nvpmodel.parse_query",
        nvpmodel.parse_query,
        "NV Power Mode: MAXN\n0\n",
        lambda r: not isinstance(r, Unknown) and r.name == "MAXN" and r.id == 0,
        "NV-Leistungsmodus: MAXN\n0\n",
        until="MAXN\n0",
    ),
    Row(
        "nvpmodel.parse_status",
        lambda text: nvpmodel.parse_status(text.encode("utf-8", "replace")),
        "pmode:0002",
        lambda r: r == 2,
    ),
    Row(
        "nvpmodel.parse_conf",
        lambda text: nvpmodel.parse_conf(text.encode("utf-8", "replace")),
        "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
        "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=1 NAME=15W >\nCPU_ONLINE CORE_0 1\n< PM_CONFIG DEFAULT=1 >",
        lambda r: not isinstance(r, Unknown) and not r.problems,
    ),
    Row(
        "identity.parse_release",
        identity.parse_release,
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64,"
        " DATE: Wed Jan  8 01:49:37 UTC 2025",
        lambda r: not isinstance(r, Unknown) and str(r) == "R36.4.3",
        "# R36 (Ausgabe), STAND: 4.3",
        until="REVISION: 4.3",
    ),
    Row(
        "identity.parse_mem_total",
        identity.parse_mem_total,
        "MemTotal:       64349892 kB\n",
        lambda r: r == 64349892,
        "SpeicherGesamt: 64349892 kB\n",
        until="64349892 kB",
    ),
    Row(
        "identity.parse_strings",
        lambda text: identity.parse_strings(text.encode("utf-8", "replace")),
        "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
        lambda r: "nvidia,p3737-0000+p3701-0005" in r and "nvidia,tegra234" in r,
        until="tegra234",
    ),
    Row(
        "systemd.parse_show",
        systemd.parse_show,
        "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\n",
        lambda r: "a.service" in r and r["a.service"].running,
        "Kennung=a.service\nLadezustand=geladen\nAktivität=aktiv\n",
        until="ActiveState=active",
    ),
    Row(
        "systemd.parse_version",
        systemd.parse_version,
        "systemd 249 (249.11-0ubuntu3)\n",
        lambda r: r == 249,
        "Systemverwaltung 249\n",
        until="249",
    ),
    Row(
        "systemd.parse_failed",
        systemd.parse_failed,
        "● nvpmodel.service loaded failed failed nvpmodel service\n",
        lambda r: r != () and r != ("nvpmodel.service",),
        "● nvpmodel.service geladen gescheitert\n",
    ),
    Row(
        "systemd.parse_cycles",
        systemd.parse_cycles,
        "multi-user.target: Found ordering cycle on a.service/start\n",
        lambda r: len(r) > 1,
    ),
    Row("gpu.parse_load", gpu.parse_load, "347\n", lambda r: r == 34.7),
    Row(
        "gpu.parse_nvmap_clients",
        gpu.parse_nvmap_clients,
        "CLIENT                        PROCESS              PID    SIZE\n"
        "user                          python3             4321 524288K\n"
        "total                                                  524288K\n",
        lambda r: not isinstance(r, Unknown) and len(r) == 1 and r[0].size == 524288 << 10,
        "KUNDE  PROZESS  PID  GRÖSSE\nuser python3 4321 524288K\n",
        until="524288K",
    ),
    Row(
        "gpu.parse_smi",
        gpu.parse_smi,
        "Orin (nvgpu), 8.7\n",
        lambda r: not isinstance(r, Unknown) and r.compute_cap == "8.7",
        "Fehler, 8,7\n",
    ),
    Row(
        "memory.parse_meminfo",
        memory.parse_meminfo,
        "MemTotal:       64349892 kB\nMemAvailable:   51479913 kB\n",
        lambda r: r.get("MemAvailable") == 51479913 * 1024,
        "SpeicherGesamt: 1 kB\n",
    ),
    Row(
        "memory.parse_swaps",
        memory.parse_swaps,
        "Filename Type Size Used Priority\n/dev/zram0 partition 4021864 1024 5\n",
        lambda r: len(r) == 1 and r[0].used == 1024 * 1024,
    ),
    Row(
        "memory.parse_oom_kills",
        memory.parse_oom_kills,
        "pgmajfault 1021\noom_kill 0\n",
        lambda r: r == 0 and isinstance(r, int),
    ),
    Row(
        "rivals.parse_starts",
        rivals.parse_starts,
        "Id=nvpmodel.service\nExecMainStartTimestampMonotonic=7003114\n",
        lambda r: r.get("nvpmodel.service") == 7003114,
        "Kennung=nvpmodel.service\nBeginn=7003114\n",
    ),
    Row(
        "rivals.parse_jtop_boot",
        rivals.parse_jtop_boot,
        '{"jetson_clocks": {"boot": false, "wait": 60}}',
        lambda r: r is False,
    ),
    Row(
        "fan.parse_jtop_profile",
        fan.parse_jtop_profile,
        '{"fan": {"pwmfan": {"profile": "quiet"}}}',
        lambda r: r == "quiet",
    ),
    Row(
        "daemon_health.parse_ready",
        lambda text: daemon_health.parse_ready("http://x", text, live=True),
        READY,
        lambda r: not isinstance(r, Unknown) and r.ready,
        '{"Zustand": "bereit", "bereit": true}',
    ),
    Row(
        "daemon_health.parse_outcomes",
        daemon_health.parse_outcomes,
        'ishowtts_requests_total{engine="f5",outcome="ok"} 412.0\n',
        lambda r: r == {"ok": 412},
        until="412",
    ),
    Row(
        "python_env.parse_answer",
        lambda text: python_env.parse_answer("python", text),
        'ishowtts-probe:{"python": [3, 10, 12], "machine": "aarch64", "packages":'
        ' {"torch": {"version": "2.8.0", "cuda": "12.6", "error": null}}, "kernel": null}\n',
        lambda r: not isinstance(r, Unknown) and not r.cpu_only,
        until='"kernel": null}',
    ),
    Row(
        "burn.parse_burn",
        lambda text: burn.parse_burn("python", text),
        'ishowtts-burn:{"device": "Orin", "seconds": 8.0, "tflop": 160.0}\n',
        lambda r: not isinstance(r, Unknown) and r.tflop_per_s == 20.0,
    ),
    Row(
        "stacks.parse_stacks",
        stacks.parse_stacks,
        'Thread 0x00ff (most recent call first):\n  File "/x/daemon/worker.py", line 7 in _live\n',
        lambda r: len(r) == 1 and r[0].engine,
        until="line 7 in _",
    ),
    Row("sysfs.parse_ranges", sysfs.parse_ranges, "0-3,6\n", lambda r: r == (0, 1, 2, 3, 6)),
]
SILENT = {"systemd.parse_failed", "systemd.parse_cycles"}
"""Nothing is good news here, and means that systemd said nothing: whether it answered at all is
asked of its exit status."""
OURS = {"modules.parse_modes"}
"""Reads the package's own table, not a box's answer."""


def test_no_parser_is_left_out() -> None:
    found = set()
    for info in pkgutil.iter_modules(facts.__path__):
        module = importlib.import_module(f"ishowtts_ops.facts.{info.name}")
        found |= {
            f"{info.name}.{name}"
            for name, value in inspect.getmembers(module, inspect.isfunction)
            if name.startswith("parse_") and value.__module__ == module.__name__
        }
    assert found - OURS == {row.name for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_whole_answer_is_understood(row: Row) -> None:
    found = row.parse(row.whole)
    assert not isinstance(found, Unknown), found
    assert row.name in SILENT or row.fine(found), found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_cut_off_before_what_decides_it_is_never_fine(row: Row) -> None:
    """At every byte."""
    decided = row.whole.index(row.until) + len(row.until) if row.until else len(row.whole.rstrip())
    for end in range(decided):
        found = row.parse(row.whole[:end])
        assert not row.fine(found), f"{row.whole[:end]!r} was taken for {found!r}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("text", ["", "\n", " ", "\0\0\0", "Segmentation fault (core dumped)\n"])
def test_no_answer_is_not_fine(row: Row, text: str) -> None:
    assert not row.fine(row.parse(text))


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.localised is not None], ids=lambda row: row.name
)
def test_another_language_is_not_fine(row: Row) -> None:
    """Tools are run with LC_ALL=C; one that ignores that is not understood, never misread."""
    assert row.localised is not None
    assert not row.fine(row.parse(row.localised))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_digits_of_other_scripts_are_no_digits(row: Row) -> None:
    """`\\d` knows Arabic digits and `int` reads them; the kernel writes none."""
    foreign = row.whole.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    if foreign != row.whole and row.name not in WORDS:
        assert not row.fine(row.parse(foreign))


WORDS = {
    "systemd.parse_show",
    "fan.parse_jtop_profile",
    "rivals.parse_jtop_boot",
    "daemon_health.parse_ready",
    "clocks_show.parse_show",
}
"""Whose good news is a word, not a number."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
@example(data=None)
def test_garbage_never_raises(row: Row, data: Any) -> None:
    """Any text, and pieces of the real one in any order."""
    if data is None:
        row.parse("\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
        return
    pieces = [*row.whole.splitlines(keepends=True), *row.whole.split(), "\n", "\0", "[" * 2000]
    text = data.draw(
        st.one_of(st.text(), st.lists(st.sampled_from(pieces), max_size=12).map("".join))
    )
    row.parse(text)
