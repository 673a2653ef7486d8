"""The GPU's own work, with the torch that is here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ishowtts_ops.facts.burn import Burnt, burn
from ishowtts_ops.host import Host


def test_real_torch_computes_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ishowtts-sim.json").write_text("{}")
    host = Host.at(tmp_path)
    host.write("/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n', mode=0o755)
    found = burn(host.read_only(), "/bin/python", 0.2, 60.0, "cpu")
    assert isinstance(found, Burnt), found
    assert found.device == "cpu"
    assert found.seconds >= 0.2
    assert found.tflop_per_s > 0
