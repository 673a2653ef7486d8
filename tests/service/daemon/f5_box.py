"""A box in a folder for the F5 engine: upstream's sources with the series applied, a small network
of seeded weights, and two voices. What it says is noise."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile

from ishowtts_ops.config import Manifest, VoiceEntry

VERSION = "1.1.22"
ARCH = {"dim": 64, "depth": 2, "heads": 1, "ff_mult": 2, "text_dim": 32, "conv_layers": 1}
SERIES_TESTS = Path(__file__).resolve().parents[2] / "series" / "conftest.py"
MANIFEST = Manifest(
    source="/f5/src",
    model=ARCH,
    random_seed=7,
    device="cpu",
    voices=(
        VoiceEntry(id="anna", audio="/anna.wav", text="Some call me nature.", language="en"),
        VoiceEntry(id="bob", audio="/bob.wav", text="Others call me mother.", language="en"),
    ),
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def build(root: Path) -> Path:
    """Patched sources in /f5, and two voices; returns `root`."""
    given = os.environ.get("ISHOWTTS_TEST_F5_SOURCE")
    if given:
        shutil.copytree(given, root / "f5/src")
    else:
        helper = _series_helper()
        helper.unpack(VERSION, root / "f5")
        helper.apply_series(VERSION, root / "f5")
    for number, name in enumerate(("anna", "bob"), start=1):
        soundfile.write(root / f"{name}.wav", swelling_noise(number), 24_000)
    return root


def swelling_noise(number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Two seconds, another one for every number."""
    noise = np.random.default_rng(number).standard_normal(48_000)
    swell = 0.5 + 0.4 * np.sin(np.arange(48_000) / (1500 * number))
    return np.asarray(0.1 * noise * swell, dtype=np.float64)


def _series_helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("series_conftest", SERIES_TESTS)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
