"""`bench run` in a real terminal, and on a box that is not fit for a baseline; without a daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.measure.history import HISTORY_PATH
from ishowtts_ops.sim.faults import apply_fault
from tests.support.folder import FolderBox
from tests.support.terminal import cells, in_terminal

TONE = ("bench", "run", "--in-process", "--engine", "tone", "-w", "S")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path / "box", "orin-nano-super")
    yield made
    made.stop()


def test_the_bar_counts_warm_up_and_passes(box: FolderBox) -> None:
    words = [*TONE, "-n", "4", "--warm-up", "2", "--root", str(box.root)]
    shown = in_terminal(words, 80, 24)
    assert shown.code == 0, shown.raw
    assert "warming up" in shown.raw and "6/6" in shown.raw and "RTF 0." in shown.raw
    drawn = re.split(r"[\r\n]|\x1b\[2K", re.sub(r"\x1b\[[0-9;?]*[A-JL-Za-z]", "", shown.raw))
    # A command to be copied stays on one line, whatever its length.
    assert max(cells(line) for line in drawn if "`" not in line) <= 80
    quiet = box.run(*TONE, "-n", "4", "--no-save")
    assert "6/6" not in quiet.out + quiet.err, "a bar is for a terminal"


def test_quick_is_one_pass_and_the_default_twenty(box: FolderBox) -> None:
    quick = json.loads(box.run(*TONE, "--quick", "--no-save", "--json").out)["data"]
    assert (quick["kind"], len(quick["samples"])) == ("quick", 1)
    usual = json.loads(box.run(*TONE, "--no-save", "--json").out)["data"]
    assert (usual["kind"], len(usual["samples"]), usual["warm_up"]) == ("extended", 20, 3)
    both = box.run(*TONE, "--quick", "-n", "5")
    assert both.code == 2 and "contradict" in both.err


def test_what_would_measure_something_else_is_refused(box: FolderBox) -> None:
    for words, said in (
        (("bench", "run", "--weights", "random"), "Only the engine f5 has weights"),
        (("bench", "history", "-w", "Q"), "no workload 'Q'"),
        (("bench", "plot", "-w", "Q"), "no workload 'Q'"),
        (("bench", "compare", "baseline", "baseline"), "does not differ from itself"),
    ):
        done = box.run(*words)
        assert (done.code, said in done.err) == (2, True), done.err
    none = box.run("bench", "history", "-w", "r3")
    assert none.code == 0 and "No run of workload R3 was kept yet." in none.out
    assert not box.host.is_file(HISTORY_PATH), "looking changes nothing"


def test_without_f5_tts_there_is_no_fidelity_to_test(box: FolderBox) -> None:
    done = box.run("bench", "fidelity")
    assert done.code == 3
    assert "This box has no F5-TTS whose patched network could be compared." in done.err
    assert "next: " in done.err


def test_a_run_under_throttling_is_marked(box: FolderBox) -> None:
    assert box.run("power", "lock").code == 0
    apply_fault(box.root, "thermal-throttle")
    done = box.run(*TONE, "-n", "4")
    assert done.code == 0, done.err
    assert "Marked, so it never becomes a baseline: heat held clocks down" in " ".join(
        done.out.split()
    )
    kept = json.loads(box.run("bench", "history", "--json").out)["data"]
    assert kept["runs"][-1]["marks"] and not kept["baselines"]
    missing = box.run("bench", "compare", "baseline", "last")
    assert missing.code == 1
    assert "no baseline for tone, workload S, in-process" in missing.err
    assert "bench history" in missing.err
