"""Readings and plots from pieces whose truth is known."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.cli.monitor_view import view
from ishowtts_ops.config import parse
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.measure import fidelity, gpu_load, monitor, plots, report
from ishowtts_ops.measure.gpu_load import GpuLoad
from ishowtts_ops.measure.history import Baseline
from ishowtts_ops.measure.monitor import Monitor
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.timeline import Level, Point, stamps, ticks, timelines
from ishowtts_ops.sim.faults import apply_fault
from tests.support.ports import free_port
from tests.support.simboxes import sim_box
from tests.unit.measure.made import make_run, moment, noisy, print_of

# ---- monitor -------------------------------------------------------------------------------------


def watch(host: Host) -> Monitor:
    return Monitor(host, parse(f"daemon: {{port: {free_port()}}}", "test"))


@pytest.mark.parametrize("board", ["agx-orin-64", "orin-nano-super"])
def test_every_board_is_read(tmp_path: Path, board: str) -> None:
    found = watch(sim_box(tmp_path, board)).read()
    assert found.jetson
    assert isinstance(found.gpu_load, GpuLoad) and found.gpu_load.source == "sysfs"
    assert found.temperatures and found.rails
    assert isinstance(found.daemon, Unknown)
    row = json.loads(json.dumps(found.to_json()))
    assert row["daemon"] is None
    assert row["locked"] is False and "GPU" in row["loose"]


def test_without_a_file_the_load_comes_from_tegrastats(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    for pattern in gpu_load.LOAD_PATTERNS:
        for path in host.glob(pattern):
            host.remove(path)
    assert isinstance(gpu_load.sysfs_load(host), Unknown)
    found = watch(host).read().gpu_load
    assert isinstance(found, GpuLoad)
    assert (found.percent, found.source) == (0.0, "tegrastats")


def test_heat_and_power_are_seen(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    apply_fault(host.root, "thermal-throttle")
    assert watch(host).read().throttles != ()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_that_alarms_is_cut_off(tmp_path: Path, width: int) -> None:
    """Clocks that are not locked, heat and every rail: wrapped, and on one screen still."""
    host = sim_box(tmp_path, "agx-orin-64")
    apply_fault(host.root, "thermal-throttle")
    found = watch(host).read()
    rows = [str(row) for row in view(found, width, 24).renderables]
    assert len(rows) <= 23 and max(map(len, rows)) <= width
    text = " ".join(" ".join(rows).split())
    assert len(found.throttles) > 1 and len(found.rails) > 3
    for word in (*found.throttles, *found.rails, "HEAT HOLDS CLOCKS DOWN", "EMC", "DOWN: nobody"):
        assert word in text, text
    for degrees in found.temperatures.values():
        assert f"{degrees:.0f} °C" in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("RAM 1/2MB CPU [1%@2201] GR3D_FREQ 45%@[1300] VDD_IN 1mW/1mW\n", 45.0),
        ("GR3D_FREQ 3%@[0]\nGR3D_FREQ 99%@[1300]\n", 99.0),
        ("GR3D_FREQ 7%\n", 7.0),
        ("nothing of it", None),
        ("", None),
    ],
)
def test_tegrastats_lines(text: str, percent: float | None) -> None:
    found = gpu_load.parse_tegrastats(text)
    assert (found.percent if isinstance(found, GpuLoad) else None) == percent


def test_jtops_answer() -> None:
    assert gpu_load.jtop_load({"gpu": {"status": {"load": 31.5}}}) == GpuLoad(31.5, "jtop")
    for odd in ({}, {"gpu": {}}, {"gpu": {"status": {"load": "x"}}}, None):
        assert isinstance(gpu_load.jtop_load(odd), Unknown)


def test_without_jtops_service_there_is_no_connection(tmp_path: Path) -> None:
    with gpu_load.jtop_connection(sim_box(tmp_path, "agx-orin-64")) as connection:
        assert connection is None


def test_first_audio_is_summed_over_engines() -> None:
    text = """\
# TYPE ishowtts_first_audio_seconds histogram
ishowtts_first_audio_seconds_bucket{engine="f5",le="0.1"} 3.0
ishowtts_first_audio_seconds_count{engine="f5"} 4.0
ishowtts_first_audio_seconds_sum{engine="f5"} 1.0
ishowtts_first_audio_seconds_count{engine="espeak"} 1.0
ishowtts_first_audio_seconds_sum{engine="espeak"} 2.5e-01
"""
    assert monitor.parse_first_audio(text) == (1.25, 5)
    assert monitor.parse_first_audio("") == (0.0, 0)


# ---- plots ---------------------------------------------------------------------------------------


def test_changes_between_runs_become_events() -> None:
    runs = [
        make_run(noisy(0.17), id="a"),
        make_run(noisy(0.17), id="b", found=print_of(moment(mode="MODE_30W", clocks="slower"))),
        make_run(noisy(0.17), id="c", found=print_of(series="new", torch="3.0")),
        make_run(noisy(0.1), id="other", engine="espeak"),
    ]
    baseline = Baseline("b", "2026-01-01T00:00:00Z", "set by hand", runs[1].place)
    first, second = timelines(runs, [baseline])
    assert [(e.index, e.kind) for e in first.events] == [
        (1, "mode"),
        (1, "baseline"),
        (2, "software"),
        (2, "patch"),
        (2, "mode"),
    ]
    assert first.events[0].text == "power mode: MAXN → MODE_30W"
    assert second.events == ()


@pytest.mark.parametrize("count", [1, 2, 30, 500])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_plot_fits(count: int, width: int) -> None:
    runs = [make_run(noisy(0.17, 5, seed=i), id=str(i)) for i in range(count)]
    (line,) = timelines(runs, [])
    text = plots.terminal(line, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("●") >= (min(count, 8) if count > 1 else 0)
    assert count > 1 or "0.1" in text
    if count > width:
        assert "older runs are left out" in text


def test_a_faster_box_is_drawn_lower() -> None:
    runs = [make_run([rtf] * 4, id=str(rtf)) for rtf in (0.3, 0.1)]
    (line,) = timelines(runs, [])
    rows = plots.terminal(line, 60).splitlines()
    slow = next(n for n, row in enumerate(rows) if "●" in row)
    fast = max(n for n, row in enumerate(rows) if "●" in row)
    assert slow < fast
    assert rows[slow].index("●") < rows[fast].rindex("●")


def test_a_png_has_a_picture_for_each_kind_of_work(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    one = [make_run(noisy(0.17, seed=i), id=str(i)) for i in range(3)]
    other = [make_run(noisy(0.1, seed=i), id=f"x{i}", engine="espeak") for i in range(2)]
    heights = {}
    for name, runs in (("one", one), ("two", one + other), ("single", one + other[:1])):
        plots.png(timelines(runs, []), tmp_path / name)
        picture = image.imread(tmp_path / name)
        assert picture.std() > 0.02
        heights[name] = picture.shape[0]
    assert heights["two"] > 1.7 * heights["one"]
    assert heights["single"] == heights["one"], "one run alone is counted, not drawn"
    plots.png(timelines(other[:1], []), tmp_path / "alone")
    assert image.imread(tmp_path / "alone").std() > 0.01, "unless there is nothing else"


def days(levels: Sequence[float]) -> list[Run]:
    return [
        make_run([level] * 4, id=str(day), started=f"2026-01-{day + 1:02d}T04:30:00Z")
        for day, level in enumerate(levels)
    ]


def test_a_baseline_is_a_level_until_the_next_one() -> None:
    runs = days([0.2, 0.21, 0.1, 0.11, 0.12])
    baselines = [
        Baseline(run, "2026-02-01T00:00:00Z", "set by hand", runs[0].place) for run in ("1", "3")
    ]
    (line,) = timelines(runs, baselines)
    assert line.levels == (Level(1, 3, 0.21), Level(3, 4, 0.11))
    newest = line.newest(2)
    assert [point.run_id for point in newest.points] == ["3", "4"]
    assert newest.levels[-1] == Level(0, 1, 0.11)
    assert line.newest(1).levels == (Level(0, 0, 0.11),), "it is still held to it"
    assert line.newest(3).levels == (Level(0, 1, 0.21), Level(1, 2, 0.11))
    assert timelines(runs, [])[0].newest(2).levels == ()
    (late,) = timelines(runs[2:], baselines[1:], {runs[0].place: runs[1]})
    assert late.levels == (Level(0, 1, 0.21), Level(1, 2, 0.11)), "older than what is shown"
    text = plots.terminal(line, 80)
    assert sum("╌" in row for row in text.splitlines()) == 2


def test_a_baseline_far_from_the_runs_is_drawn_where_it_is() -> None:
    """A box that lost its lock: the dashed line is not at the edge of the runs, but far below."""
    runs = days([0.17, 0.35, 0.36])
    baseline = Baseline("0", "2026-02-01T00:00:00Z", "set by hand", runs[0].place)
    (line,) = timelines(runs[1:], [baseline], {runs[0].place: runs[0]})
    assert line.span == (0.17, 0.36)
    rows = plots.terminal(line, 60).splitlines()
    level = next(number for number, row in enumerate(rows) if "╌" in row)
    lowest = max(number for number, row in enumerate(rows) if "●" in row)
    assert level > lowest + 8
    drawn = report.chart(line)
    assert float(re.findall(r'class="baseline level".*?y1="([\d.]+)"', drawn)[0]) > max(
        float(y) for y in re.findall(r'cy="([\d.]+)"', drawn)
    )


def test_changes_that_meet_are_all_shown() -> None:
    runs = [
        make_run(noisy(0.17), id="a"),
        make_run(noisy(0.17), id="b", found=print_of(moment(mode="MODE_30W"), series="new")),
    ]
    baseline = Baseline("b", "2026-01-01T00:00:00Z", "set by hand", runs[1].place)
    (line,) = timelines(runs, [baseline])
    rows = [row.strip() for row in plots.terminal(line, 80).splitlines()]
    assert {"M", "P", "B"} <= set(rows), "one below the other"


def test_one_run_is_a_line_and_no_plot() -> None:
    (line,) = timelines(days([0.17]), [])
    assert plots.terminal(line, 80).splitlines() == [
        "RTF, one run: f5, workload M, http",
        "  2026-01-01 04:30  0.1700",
    ]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (0.352, [0.0, 0.1, 0.2, 0.3, 0.4]),
        (0.000315, [0.0, 0.0001, 0.0002, 0.0003, 0.0004]),
        (1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, [0.0, 1.0]),
    ],
)
def test_ticks_are_round(top: float, expected: list[float]) -> None:
    assert ticks(top) == pytest.approx(expected)


@given(st.floats(1e-6, 1e4))
def test_ticks_reach_over_what_is_drawn(top: float) -> None:
    found = ticks(top)
    assert 3 <= len(found) <= 6
    assert found[-1] >= top * (1 - 1e-6) and found[-2] <= top


def test_labels_tell_runs_of_one_day_apart() -> None:
    points = [
        Point(f"2026-01-0{1 + n // 3}T0{n}:30:00Z", 0.1, 0.1, 0.1, False, str(n)) for n in range(6)
    ]
    assert [label for _, label in stamps(points, 6)] == [
        "2026-01-01", "01:30", "02:30", "2026-01-02", "04:30", "05:30",
    ]  # fmt: skip
    assert stamps(points, 2) == [(0, "2026-01-01"), (3, "2026-01-02")]


# ---- fidelity ------------------------------------------------------------------------------------


def rows(**states: str) -> str:
    return "a warning of torch\n" + json.dumps(
        [{"check": name, "state": state, "text": "60 dB"} for name, state in states.items()],
        indent=1,
    )


def test_fidelity_is_passed_only_when_it_was_compared() -> None:
    fine = fidelity.parse(rows(hooks="ok", kernels="unknown", fidelity="ok"))
    assert fine is not None and fine.passed
    off = fidelity.parse(rows(hooks="ok", fidelity="failed"))
    assert off is not None and not off.passed
    assert [proof.check for proof in off.failed] == ["fidelity"]
    silent = fidelity.parse(rows(hooks="ok", fidelity="unknown"))
    assert silent is not None and not silent.passed and silent.failed == ()
    for nonsense in ("", "Traceback", "[\n{}]", rows(fidelity="splendid")):
        assert fidelity.parse(nonsense) is None
