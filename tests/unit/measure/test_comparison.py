"""What a comparison is asked, and what its answer is taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.errors import Undetermined
from ishowtts_ops.measure import versus
from ishowtts_ops.measure.workloads import choose, named


def test_the_question_as_options(tmp_path: Path) -> None:
    question = versus.Question(
        (choose("M"), choose("X", nfe=16)),
        ("upstream", "upstream-compiled"),
        runs=20,
        warm_up=3,
        peak_tflops=790.0,
        files={"ckpt_file": "/w/model.safetensors"},
    )
    argv = question.argv(tmp_path, tmp_path / "src")
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "--side"] == [
        "ours",
        "upstream",
        "upstream-compiled",
    ]
    assert argv[argv.index("--peak-tflops") + 1] == "790.0"
    assert argv[argv.index("--ckpt-file") + 1] == "/w/model.safetensors"
    works = json.loads(Path(argv[argv.index("--work") + 1]).read_text())
    assert [(work["name"], work["nfe"]) for work in works] == [("M", 7), ("X", 16)]
    # M is exactly 8 s after a reference of 6 s; X is longer than one piece, so its text decides.
    assert works[0]["utterances"][0][1:] == [0, 8] and works[1]["utterances"][0][2] is None


def test_every_named_workload_fits_the_pieces_it_is_meant_for() -> None:
    for name, workload in named().items():
        lengths = [utterance.seconds for utterance in workload.utterances]
        if name == "X":
            assert lengths == [None]
            continue
        totals = [workload.reference_s + seconds for seconds in lengths if seconds is not None]
        assert len(totals) == len(lengths) and max(totals) <= 22.0, name


def test_another_programs_document_is_no_comparison() -> None:
    for text in ("", "[]", "{}", '{"kind": "f5-comparison", "version": 2}', "null"):
        with pytest.raises(Undetermined, match="no comparison"):
            versus.parse(text)
    assert versus.parse('{"kind": "f5-comparison", "version": 1, "failed": {}}')["failed"] == {}


def test_what_failed_is_said() -> None:
    found: dict[str, Any] = {
        "failed": {"upstream-compiled": "M: warm-up: it ended"},
        "workloads": {
            "M": {"ours": {}, "upstream": {}, "fidelity": {"passed": False}},
            "S": {"ours": {}, "fidelity": {"unknown": "this takes the sides"}},
        },
    }
    assert versus.failures(found) == [
        "upstream-compiled failed, M: warm-up: it ended",
        "M: the result is not within the bounds of fidelity",
    ]
    assert versus.sides(found["workloads"]["M"]) == ["ours", "upstream"]
