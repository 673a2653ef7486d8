"""Readings and plots from pieces whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ishowtts_ops.config import parse
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.measure import fidelity, gpu_load, monitor, plots
from ishowtts_ops.measure.gpu_load import GpuLoad
from ishowtts_ops.measure.history import Baseline
from ishowtts_ops.measure.monitor import Monitor
from ishowtts_ops.measure.timeline import timelines
from ishowtts_ops.sim.faults import apply_fault
from tests.support.folder import free_port
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
    assert text.count("●") >= min(count, 8)
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
    plots.png(timelines(one, []), tmp_path / "one.png")
    two = [*one, make_run(noisy(0.1), id="x", engine="espeak")]
    plots.png(timelines(two, []), tmp_path / "two.png")
    small, large = (image.imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert large.shape[0] == pytest.approx(2 * small.shape[0], rel=0.05)
    assert small.std() > 0.02


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
