"""Projections onto Orin: what they come from, that they fit it, and that they say what they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ishowtts_ops.cli.app import app
from ishowtts_ops.errors import OpsError
from ishowtts_ops.measure import projection, roofline

REPOSITORY = Path(__file__).parents[3]
SERIES = REPOSITORY / "docs/measurements/2026-11-22-h200-series.json"


def comparison(**changes: Any) -> dict[str, Any]:
    """What `bench run --compare --out` writes, as far as a projection reads it."""
    step = {"tflop_per_nfe": 1.3045, "gb_per_nfe": 4.08, "kernels_per_nfe": 187}
    ours = {"tflop": 9.1315, "audio_s": 8.0, "total": {"p50_ms": 26.8}, "step": step}
    return {
        "about": {"gpu": "NVIDIA H200"},
        "peak": {"tflop_per_s": 790},
        "workloads": {"M": {"work": {"nfe": 7}, "ours": ours}},
        **changes,
    }


def written(folder: Path, body: Any) -> Path:
    (folder / "found.json").write_text(json.dumps(body))
    return folder / "found.json"


def test_both_ways_give_back_what_was_measured() -> None:
    measured = projection.read(SERIES)
    for way in (False, True):
        fit = roofline.calibrate(measured.counted, measured.gpu, measured.seconds, in_turn=way)
        assert 0.2 < fit.compute < 0.95
        again = roofline.project(measured.counted, measured.gpu, fit)
        launches = measured.counted.launches * fit.launch_s
        assert again.seconds == pytest.approx(measured.seconds + launches, rel=1e-6)


def test_no_module_beats_its_floor_and_order_is_kept() -> None:
    rows = projection.project(projection.read(SERIES))
    assert [row.module for row in rows] == [
        "Jetson AGX Orin 64GB",
        "Jetson AGX Orin 32GB",
        "Jetson Orin Nano 8GB Super",
    ]
    for row in rows:
        assert row.floor_s < row.low_s <= row.high_s
        assert row.label == "projection, not measured"
    assert rows[0].high_s < rows[1].low_s < rows[2].low_s
    # 42.6, 26.7 and 16.7 TFLOP/s: NVIDIA's published figures at the modules' highest clocks.
    assert [round(row.tflop_per_s, 1) for row in rows] == [42.6, 26.7, 16.7]


def test_both_kinds_of_file_mean_the_same(tmp_path: Path) -> None:
    old = projection.project(projection.read(SERIES))
    new = projection.project(projection.read(written(tmp_path, comparison())))
    for first, second in zip(old, new, strict=True):
        assert first.low_s == pytest.approx(second.low_s, rel=0.01)


def test_twice_the_time_is_twice_the_projection(tmp_path: Path) -> None:
    body = comparison()
    one = projection.project(projection.read(written(tmp_path, body)))
    body["workloads"]["M"]["ours"]["total"]["p50_ms"] *= 2
    two = projection.project(projection.read(written(tmp_path, body)))
    assert two[0].low_s > 1.5 * one[0].low_s


def test_an_unknown_gpu_is_known_by_what_it_reached(tmp_path: Path) -> None:
    body = comparison(about={"gpu": "NVIDIA GeForce RTX 9999"}, peak={"tflop_per_s": 100})
    measured = projection.read(written(tmp_path, body))
    assert measured.gpu == roofline.Gpu("NVIDIA GeForce RTX 9999", 100e12)


def test_what_cannot_be_projected_from_is_said(tmp_path: Path) -> None:
    cpu = comparison(about={"gpu": "cpu"})
    with pytest.raises(OpsError, match="nothing can be projected"):
        projection.read(written(tmp_path, cpu))
    pieces = comparison()
    pieces["workloads"]["M"]["ours"]["tflop"] = 30.0
    with pytest.raises(OpsError, match="several pieces"):
        projection.read(written(tmp_path, pieces))
    with pytest.raises(OpsError, match="'X'"):
        projection.read(written(tmp_path, comparison()), "X")
    with pytest.raises(OpsError, match="holds no measurement"):
        projection.read(REPOSITORY / "README.md")
    with pytest.raises(OpsError, match="counted the work of M alone"):
        projection.read(SERIES, "S")
    with pytest.raises(OpsError, match="no bounds of a module"):
        projection.project(projection.read(SERIES), ["agx-thor-t5000"])


def test_the_command_labels_everything() -> None:
    run = CliRunner().invoke
    shown = run(app, ["bench", "project", str(SERIES)])
    assert shown.exit_code == 0
    assert "Projection, not measured" in shown.output
    data = json.loads(run(app, ["bench", "project", str(SERIES), "--json"]).output)["data"]
    assert data["label"] == "projection, not measured"
    assert {row["label"] for row in data["projections"]} == {"projection, not measured"}


def test_the_table_of_the_docs_is_what_its_command_gives() -> None:
    page = (REPOSITORY / "docs/speed-series.md").read_text(encoding="utf-8")
    command = re.search(r"ishowtts-ops (bench project (\S+) --markdown)", page)
    assert command is not None
    measured = projection.read(REPOSITORY / command[2])
    table = projection.markdown(measured, projection.project(measured))
    assert table.strip() in page
