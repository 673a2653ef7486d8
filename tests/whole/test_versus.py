"""`bench run --compare` as a person meets it: a box with iShowTTS's checkout, real F5-TTS sources,
a network small enough for a CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.cli.bench_tree import unpatched
from ishowtts_ops.errors import OpsError
from ishowtts_ops.sim.checkout import make_checkout
from tests.support.f5 import SOURCE, cache_folder, git
from tests.support.folder import Done, FolderBox

NEEDED = ("torch", "torchaudio", "vocos", "x_transformers", "torchdiffeq", "librosa")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(MISSING), reason=f"the engine imports {', '.join(MISSING)}"),
]
SMALL = ("--engine", "f5", "--weights", "random", "--preset", "small", "--nfe", "5")
HOOKED = "src/f5_tts/infer/utils_infer.py"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderBox]:
    settings = {"engine": {"kind": "f5", "python": "/opt/ishowtts-ops/venv/bin/python"}}
    made = FolderBox(tmp_path_factory.mktemp("versus") / "box", "agx-orin-64", settings)
    make_checkout(made.host, version="1.1.22", cache=cache_folder())
    yield made
    made.stop()


def run(box: FolderBox, *words: str) -> Done:
    """As FolderBox.run, with the patience that a network on a CPU needs."""
    done = subprocess.run(
        [sys.executable, "-m", "ishowtts_ops", *words, "--root", str(box.root)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def patched(box: FolderBox) -> FolderBox:
    done = box.run("patch", "apply")
    assert done.code == 0, done.err
    return box


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_without_the_series_there_is_nothing_to_compare(box: FolderBox) -> None:
    done = run(box, "bench", "run", *SMALL, "--compare", "upstream")
    assert done.code == 1
    assert "nothing to compare" in done.err and "patch apply" in done.err


def test_wrong_questions_are_refused_before_anything_is_loaded(patched: FolderBox) -> None:
    for words, said in (
        (("--compare", "downstream"), "nothing to compare with"),
        (("--compare", "upstream", "--text", "Hi chat.", "--voice", "me"), "Leave out --voice"),
        (("--compare", "upstream", "-w", "M,Q"), "There is no workload 'Q'"),
        (("--compare", "upstream", "--out", "/no/where/a.json"), "a.json cannot be written"),
    ):
        done = run(patched, "bench", "run", *SMALL, *words)
        assert done.code in (1, 2), done.out
        assert said in one_line(done.err)
    tone = run(patched, "bench", "run", "--engine", "tone", "--compare", "upstream")
    assert "Only the engine f5 has an upstream" in one_line(tone.err)
    full = run(patched, "bench", "run", "--engine", "f5", "--preset", "small",
               "--compare", "upstream")  # fmt: skip
    assert "--weights random" in one_line(full.err)
    real = run(patched, "bench", "run", "--engine", "f5", "--compare", "upstream")
    assert "no weights to compare with" in one_line(real.err)


def test_side_by_side(patched: FolderBox, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = run(
        patched, "bench", "run", *SMALL, "--compare", "upstream", "-n", "3", "--warm-up", "1",
        "--text", "Hello there, chat of mine.", "--out", str(out),
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    for word in (
        *("this series", "upstream", "latency, median", "95 % interval", "RTF", "first audio"),
        *("kernels per NFE", "bytes per NFE", "TFLOP/s", "floor of this device", "peak memory"),
        *("Fidelity passed: mel", "wave", "as fast as upstream"),
    ):
        assert word in done.out, done.out
    assert "Marked" in done.out and "clocks were not locked" in one_line(done.out)
    assert "3 of 3 passes" in done.err
    found: Any = json.loads(out.read_text())
    assert found["about"]["command"].startswith("ishowtts-ops bench run --workload own")
    assert str(tmp_path) not in out.read_text() and "ishowtts-compare-" not in out.read_text()
    assert found["fingerprint"]["software"]["F5-TTS"] == "1.1.22"
    own = found["workloads"]["own"]
    assert own["fidelity"]["passed"] is True
    assert own["ours"]["total"]["runs"] == own["upstream"]["total"]["runs"] == 3
    assert own["work"]["nfe"] == 5
    # On a CPU there is nothing to project from.
    refused = run(patched, "bench", "project", str(out), "-w", "own")
    assert refused.code == 1 and "nothing can be projected" in refused.err


def test_the_fidelity_test_passes_and_says_where_it_cannot_be_made(patched: FolderBox) -> None:
    """The seed's own test: patched against unpatched on the same noise. (That a wrong network does
    not pass: tests/box/test_rollback.py.)"""
    done = run(patched, "bench", "fidelity")
    assert done.code == 0, done.out + done.err
    assert done.out.rstrip().endswith("Passed.")
    assert re.search(r"^ok +fidelity: .* dB", done.out, re.MULTILINE), done.out

    assert run(patched, "patch", "revert").code == 0
    gone = run(patched, "bench", "fidelity")
    assert gone.code == 3
    assert "The speed series is not in the sources" in gone.err and "patch apply" in gone.err


def test_random_weights_in_process(patched: FolderBox) -> None:
    done = run(
        patched, "bench", "run", "--in-process", *SMALL, "-w", "S", "-n", "3", "--no-save",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)["data"]
    assert (found["door"], found["engine"], found["device"]) == ("in-process", "f5", "cpu")
    assert found["samples"][0]["audio_s"] == pytest.approx(2.0, abs=0.2)
    # What was loaded, not what install told the daemon; and a CPU has neither floor nor VRAM.
    assert found["fingerprint"]["software"]["weights"].startswith("random, seed")
    assert found["floor_s"] is None and found["memory"]["device_peak"] is None


def test_the_unpatched_tree_is_upstreams_own(patched: FolderBox, tmp_path: Path) -> None:
    host = patched.host
    made = unpatched(host.read_only(), SOURCE, tmp_path / "upstream")
    source = host.path(SOURCE)
    tracked = git(source, "ls-files", "src/f5_tts").split()
    for name in (name for name in tracked if name.endswith(".py")):
        want = git(source, "show", f"HEAD:{name}")
        assert (tmp_path / "upstream" / name).read_text(encoding="utf-8") == want, name
    assert not list((made / "f5_tts").rglob("fast/**/*.py"))
    assert "fast_path" in (source / HOOKED).read_text(), "the box's own tree stays patched"

    hooked = source / HOOKED
    kept = hooked.read_bytes()
    hooked.write_bytes(kept + b"\n# an edit\n")
    try:
        with pytest.raises(OpsError, match="nothing to compare"):
            unpatched(host.read_only(), SOURCE, tmp_path / "again")
    finally:
        hooked.write_bytes(kept)
